"""Every curl line of the documents works as it stands against what `inferwatch up` starts."""

import re
import subprocess
from pathlib import Path

import orjson
import pytest

from pipeline.config import Settings
from tests.integration.http_side import LOCAL_KEY, http_side

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "http.md")


def lines() -> list[str]:
    """Lines of blocks that send or ask; pictures are in test_web_vision.py, the stream in test_web_compare.py."""
    blocks = "".join(re.findall(r"```.*?```", "".join(page.read_text() for page in PAGES), re.S))
    sending = [line for line in blocks.splitlines() if "curl" in line and "$INFERWATCH_URL" in line]
    return [line for line in sending if "/image" not in line and "/stream" not in line]


def test_every_curl_line_is_answered_and_what_it_sends_is_accepted(world: Settings, tmp_path: Path) -> None:
    assert len(lines()) >= 5
    with http_side(world, tmp_path) as web:
        told = {"INFERWATCH_URL": web.url, "INFERWATCH_API_KEY": LOCAL_KEY, "PATH": "/usr/bin:/bin"}
        for line in lines():
            done = subprocess.run(["sh", "-c", line], env=told, capture_output=True, check=True, timeout=30)
            if "curl -f" in line:  # which fails by itself
                assert done.stdout
                continue
            answer = orjson.loads(done.stdout)
            assert "reason" not in answer, (line, answer)
            if "accepted" in answer:
                assert (answer["accepted"] >= 1, answer["results"]) == (True, []), (line, answer)
