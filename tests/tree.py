"""The files that belong to us: what git tracks, whatever else lies about in the checkout (data of a demo, notes)."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Without git, as in an unpacked archive: what we make ourselves is not ours.
_MADE = {"__pycache__", "data", "dist", "build", "inferwatch-data"}


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Every tracked file that is there, in order."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False).stdout
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    found = [root / name for name in names] if names else _walked(root)
    return sorted(path for path in found if path.is_file())


def _walked(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in _MADE and (f == ".ci" or not f.startswith("."))]
        found += [Path(folder) / name for name in names if not name.endswith((".pyc", ".so"))]
    return found
