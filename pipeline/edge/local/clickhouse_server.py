"""The ClickHouse child: `python -m pipeline.edge.local.clickhouse_server DIR` runs what DIR/config.xml says.

The engine is the one in chdb-core. Its binding `_chdb.query` runs a clickhouse-local that can open listeners; the last
query blocks on a pipe, so that closing the pipe ends the server in order. Ends on SIGTERM, SIGINT, or when stdin
closes (the parent is gone). Exit code 0: was asked to end; 1: the engine ended by itself (it reports no error).
"""

import importlib.util
import os
import select
import signal
import sys
import threading
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

STOP_S = 2  # what was acknowledged is on disk; an idle connection alone would hold the end up for 5 s


def engine_file() -> Path | None:
    """The engine's shared object, found without importing chdb (which would load pandas and another server)."""
    spec = importlib.util.find_spec("chdb")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(place) / "_chdb.abi3.so").is_file():
            return file
    return None


def _run(data: Path, read_end: int, ended: int, problems: list[str]) -> None:
    """Blocks for the life of the server."""
    wait = f"SELECT count() FROM file('/dev/fd/{read_end}', 'LineAsString', 'l String') FORMAT Null"
    sql = f"SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; {wait}"
    try:
        file = str(engine_file())
        spec = importlib.util.spec_from_file_location("_chdb", file, loader=ExtensionFileLoader("_chdb", file))
        assert spec is not None
        assert spec.loader is not None
        binding: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(binding)
        result = binding.query(sql, "TabSeparated", path=str(data))  # the format is HTTP's default format too
        if result.has_error():
            problems.append(result.error_message())
    except (ImportError, AssertionError, RuntimeError, OSError) as error:
        problems.append(repr(error))
    finally:
        os.write(ended, b"e")


def main(directory: Path) -> int:
    """Runs until asked to end; the exit code."""
    os.chdir(directory)  # the engine reads config.xml from its current directory
    stop_r, stop_w = os.pipe()
    read_end, write_end = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stop_w, b"x") and None)
    problems: list[str] = []
    server = threading.Thread(target=_run, args=(Path("data"), read_end, stop_w, problems), daemon=True)
    server.start()
    asked = None
    while asked is None:
        for fd in select.select([stop_r, 0], [], [])[0]:
            if fd == stop_r:
                asked = os.read(stop_r, 1) == b"x"
            elif not os.read(0, 65_536):
                asked = True
    os.close(write_end)
    server.join(STOP_S)  # running queries are cancelled
    for problem in problems:
        sys.stderr.write(f"Error: {problem}\n")
    sys.stderr.flush()
    return 0 if asked and not problems else 1


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1]).absolute()))  # the engine's threads are not to be waited for
