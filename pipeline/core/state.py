"""The state of machines as bytes, by the layout of its type. A layout's name follows from the fields, nobody raises it.

    layout (8 bytes) | checksum (8 bytes) | MessagePack

What was saved in another layout is no snapshot, nor is what is torn or foreign: `decode` says which, and never raises.
A type whose annotations do not tell all (how long an array is, what its entries stand for) says the rest in a class
variable FORM, which is part of the layout.

What a machine gives as its state it goes on working with: encode it before the machine takes in more.
"""

from enum import Enum
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import inspect

_DIGEST = 8
T = TypeVar("T")

_layouts: dict[Any, str] = {}  # computed once
_NUMBERS = "biuf"  # kinds of dtype: nothing else is ever kept in an array


class NoSnapshot(Enum):
    """Why bytes are no snapshot."""

    ANOTHER_LAYOUT = "another layout"
    DAMAGED = "damaged"


def layout(kind: Any) -> str:
    """The name of a type's layout: of all field names and types in it, whatever the classes are called."""
    if kind not in _layouts:
        _layouts[kind] = _digest(_form(inspect.type_info(kind), ()).encode()).hex()
    return _layouts[kind]


def encode(state: Any) -> bytes:
    """A state, with the name of its layout."""
    body = msgspec.msgpack.encode(state, enc_hook=_packed)
    return bytes.fromhex(layout(type(state))) + _digest(body) + body


def decode(kind: type[T], data: bytes) -> T | NoSnapshot:
    """The state in `data`."""
    head, checksum, body = data[:_DIGEST], data[_DIGEST : 2 * _DIGEST], data[2 * _DIGEST :]
    if len(data) < 2 * _DIGEST or checksum != _digest(body):
        return NoSnapshot.DAMAGED
    if head != bytes.fromhex(layout(kind)):
        return NoSnapshot.ANOTHER_LAYOUT
    try:
        return msgspec.msgpack.decode(body, type=kind, dec_hook=_unpacked)
    except (msgspec.MsgspecError, RecursionError):
        return NoSnapshot.DAMAGED


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()


def _form(info: Any, within: tuple[type, ...]) -> str:
    """A type in words; `within`: the classes around it, so that one that holds itself comes to an end."""
    if isinstance(info, tuple):
        return f"({','.join(_form(one, within) for one in info)})"
    if isinstance(info, inspect.Field):
        return f"{info.encode_name}:{_form(info.type, within)}"
    if not isinstance(info, inspect.Type):
        return repr(info)
    cls = getattr(info, "cls", None)
    if cls in within:
        return f"up {len(within) - within.index(cls)}"
    if isinstance(info, inspect.EnumType):
        return f"enum({sorted(repr(one.value) for one in info.cls)})"
    if isinstance(info, inspect.CustomType):
        return info.cls.__name__
    around = within if cls is None else (*within, cls)
    parts = [f"{name}={_form(getattr(info, name), around)}" for name in info.__struct_fields__ if name != "cls"]
    return f"{type(info).__name__}{getattr(cls, 'FORM', '')}({','.join(parts)})"


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    raise NotImplementedError(f"{type(value).__name__} is no part of a state: give it as numbers, text, lists, structs")


def _unpacked(kind: Any, value: Any) -> Any:
    """An array; it cannot be written to."""
    name, shape, data = value
    dtype = np.dtype(name)
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"{name} is no number")
    return np.frombuffer(data, dtype).reshape(shape)
