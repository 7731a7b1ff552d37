"""What is wrong with something that a person wrote (YAML, a request), in words: every mistake, not only the first.

The structs say what is right: types and bounds are read from them.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from re import search
from typing import Any

from msgspec import inspect

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "names with values",
    type(None): "nothing",
}
_KINDS: dict[type, str] = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "text",
    inspect.ListType: "a list",
    inspect.DictType: "names with values",
    inspect.StructType: "names with values",
    inspect.NoneType: "nothing",
}


def mistakes(given: Any, struct: type, formats: Mapping[str, str]) -> list[str]:
    """Every mistake in `given`, which should be the fields of `struct`: "field: what is wrong".

    `formats` says in words what a pattern means.
    """
    return [f"{path}: {what}" if path else what for path, what in _of(given, inspect.type_info(struct), "", formats)]


_Found = Iterator[tuple[str, str]]


def _of(given: Any, wanted: inspect.Type, path: str, formats: Mapping[str, str]) -> _Found:
    match wanted:
        case inspect.Metadata():
            yield from _of(given, wanted.type, path, formats)
        case inspect.UnionType():
            yield from _of_union(given, wanted, path, formats)
        case inspect.EnumType():
            yield from _of_choice(given, [member.value for member in wanted.cls], path)
        case inspect.LiteralType():
            yield from _of_choice(given, list(wanted.values), path)
        case inspect.AnyType():
            return
        case _ if not _is_a(given, wanted):
            yield path, f"expected {_KINDS[type(wanted)]}, got {_named(given)}{_hint(given, wanted)}"
        case inspect.StructType():
            yield from _of_struct(given, wanted, path, formats)
        case inspect.ListType():
            yield from _of_size(len(given), wanted, path, "entries")
            for i, item in enumerate(given):
                yield from _of(item, wanted.item_type, f"{path}[{i}]", formats)
        case inspect.DictType():
            yield from _of_size(len(given), wanted, path, "entries")
            for name, value in given.items():
                yield from ((path, f"{name!r}: {what}") for _, what in _of(name, wanted.key_type, "", formats))
                yield from _of(value, wanted.value_type, f"{path}.{name}", formats)
        case inspect.StrType():
            yield from _of_text(given, wanted, path, formats)
        case inspect.IntType() | inspect.FloatType():
            yield from _of_number(given, wanted, path)


def _is_a(given: Any, wanted: inspect.Type) -> bool:
    match wanted:
        case inspect.BoolType():
            return isinstance(given, bool)
        case inspect.IntType():
            return isinstance(given, int) and not isinstance(given, bool)
        case inspect.FloatType():
            return isinstance(given, int | float) and not isinstance(given, bool)
        case inspect.StrType():
            return isinstance(given, str)
        case inspect.ListType():
            return isinstance(given, list)
        case inspect.DictType() | inspect.StructType():
            return isinstance(given, dict)
        case inspect.NoneType():
            return given is None
        case _:
            raise AssertionError(f"no struct of ours holds a {wanted}")


def _of_struct(given: dict[Any, Any], wanted: inspect.StructType, path: str, formats: Mapping[str, str]) -> _Found:
    fields = {field.encode_name: field for field in wanted.fields}
    for name in given:
        if name not in fields:
            near = get_close_matches(str(name), fields, 1)
            yield _join(path, str(name)), "there is no such field" + (f"; {near[0]}?" if near else "")
    for name, field in fields.items():
        if name in given:
            yield from _of(given[name], field.type, _join(path, name), formats)
        elif field.required:
            yield _join(path, name), "is missing"


def _of_union(given: Any, wanted: inspect.UnionType, path: str, formats: Mapping[str, str]) -> _Found:
    others = [one for one in wanted.types if not isinstance(one, inspect.NoneType)]
    assert len(others) == 1, "X | None is the only union that people write"
    if given is not None:
        yield from _of(given, others[0], path, formats)


def _of_choice(given: Any, values: list[Any], path: str) -> _Found:
    if not any(given == value and type(given) is type(value) for value in values):
        yield path, f"expected one of {', '.join(map(str, values))}; got {_named(given)}"


def _of_size(size: int, wanted: inspect.ListType | inspect.DictType | inspect.StrType, path: str, what: str) -> _Found:
    if wanted.max_length is not None and size > wanted.max_length:
        yield path, f"expected at most {wanted.max_length} {what}, got {size}"
    if wanted.min_length is not None and size < wanted.min_length:
        yield path, "must not be empty" if not size else f"expected at least {wanted.min_length} {what}, got {size}"


def _of_text(given: str, wanted: inspect.StrType, path: str, formats: Mapping[str, str]) -> _Found:
    sizes = list(_of_size(len(given), wanted, path, "characters"))
    yield from sizes
    if not sizes and wanted.pattern is not None and not search(wanted.pattern, given):
        # What was given is not repeated: it may be a secret.
        yield path, f"expected {formats[wanted.pattern]}"
    try:
        given.encode()
    except UnicodeEncodeError:
        yield path, "is not valid Unicode"


def _of_number(given: float, wanted: inspect.IntType | inspect.FloatType, path: str) -> _Found:
    if given != given:
        yield path, "expected a number, got one that is none (NaN)"
    if wanted.ge is not None and given < wanted.ge:
        yield path, f"expected at least {wanted.ge:,.15g}, got {_shown(given)}"
    if wanted.le is not None and given > wanted.le:
        yield path, f"expected at most {wanted.le:,.15g}, got {_shown(given)}"
    if wanted.multiple_of is not None and given % wanted.multiple_of:
        yield path, f"expected a multiple of {wanted.multiple_of:,.15g}, got {_shown(given)}"


def _shown(number: float) -> str:
    return f"{number:,.15g}" if abs(number) <= 1e300 else "a number beyond all bounds"


def _named(given: Any) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        return repr(given) if len(given) <= 40 else f"{given[:40]!r}..."
    if isinstance(given, int | float):
        return f"the number {_shown(given)}"
    if isinstance(given, Enum):
        return repr(given.value)
    return _WORDS.get(type(given), f"a {type(given).__name__}")


def _hint(given: Any, wanted: inspect.Type) -> str:
    if isinstance(wanted, inspect.StrType) and isinstance(given, bool | int | float):
        return " (put it in quotes)"  # YAML reads 3, on, yes and no as what they look like
    return ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
