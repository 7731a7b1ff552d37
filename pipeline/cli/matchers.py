"""Matchers of a silence as people write them, in Alertmanager's way: site=~"north.*"."""

import re

import typer

from schemas.silence import Matcher

_MATCHER = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)(=~|!~|!=|=)(.*)$", re.DOTALL)


def matcher(text: str) -> Matcher:
    """'site=~"north.*"' and the like. Raises typer.BadParameter."""
    found = _MATCHER.match(text)
    if not found:
        raise typer.BadParameter(f"expected name=value, name=~regex, name!=value or name!~regex, got {text!r}")
    name, sign, value = found.groups()
    return Matcher(name, value, is_regex=sign.endswith("~"), is_equal=not sign.startswith("!"))


def matcher_text(one: Matcher) -> str:
    """As it is written."""
    sign = {(False, True): "=", (True, True): "=~", (False, False): "!=", (True, False): "!~"}
    return f"{one.name}{sign[one.is_regex, one.is_equal]}{one.value}"
