"""docs/openapi.json: what the query part answers, for programs. `make docs` writes it, a test holds it equal."""

from pathlib import Path
from typing import Any

from pipeline.web.query.asked import Admission
from pipeline.web.query.document import described, written
from pipeline.web.query.part import application

FILE = Path("docs/openapi.json")


def document() -> bytes:
    """The whole file; nothing is asked of anybody."""
    nobody: Any = None
    return written(described(application(Admission(nobody))))


if __name__ == "__main__":
    FILE.write_bytes(document())
