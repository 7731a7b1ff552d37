"""A few values that a process finds again after a restart: one small file, whole or not there."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger()

_decode = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode


def read(file: Path) -> dict[bytes, bytes]:
    """What was written last; nothing where that cannot be read."""
    try:
        return _decode(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("not_remembered", file=str(file), error=str(error))
        return {}


def write(file: Path, values: Mapping[bytes, bytes]) -> None:
    """In place of what was there. For our user's eyes only. Raises OSError."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(msgspec.msgpack.encode(dict(values)))
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(file)
