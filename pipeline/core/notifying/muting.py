"""Who asked for quiet, about what, until when: silences, maintenance windows and acknowledgements.

Matchers ask about what schemas.alert.matchable shows. All of a silence's matchers must hold. A regex must match the
whole value; patterns whose time can grow out of hand are refused (`mistakes`), and no value is looked at beyond
VALUE_LENGTH_MAX.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from schemas.alert import AlertEvent, matchable
from schemas.silence import Acknowledgement, Matcher, Silence

PATTERN_LENGTH_MAX = 256
VALUE_LENGTH_MAX = 256
OPEN_ENDED_MAX = 3  # repetitions without an end in one pattern: its time grows with their power

Holds = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class _Compiled:
    silence: Silence
    matchers: tuple[Holds, ...]

    def hits(self, seen: Mapping[str, str]) -> bool:
        return all(holds(seen) for holds in self.matchers)


class Silences:
    """A machine: the records of inference.silences in, who is quiet out. Its state is the compacted topic itself."""

    def __init__(self, silences_max: int = 10_000) -> None:
        """Nobody is quiet yet."""
        self._silences: dict[str, _Compiled] = {}
        self._acknowledgements: dict[str, Acknowledgement] = {}
        self._silences_max = silences_max

    def observe(self, key: str, value: Silence | Acknowledgement | None) -> bool:
        """A record; None: taken back. False: it is beyond silences_max, or has a pattern that may not be used."""
        self._silences.pop(key, None)
        self._acknowledgements.pop(key, None)
        if value is None or (isinstance(value, Acknowledgement) and value.says == "free"):
            return True
        if isinstance(value, Acknowledgement):
            self._acknowledgements[key] = value
            if len(self._acknowledgements) > self._silences_max:  # the oldest: of an episode long over
                del self._acknowledgements[next(iter(self._acknowledgements))]
        elif len(self._silences) >= self._silences_max or mistakes(value):
            return False
        else:
            self._silences[key] = _Compiled(value, tuple(map(_compiled, value.matchers)))
        return True

    def tick(self, now_ms: int) -> list[str]:
        """Ids of what has ended, which are forgotten."""
        over = [key for key, one in self._silences.items() if one.silence.ends_at_ms <= now_ms]
        for key in over:
            del self._silences[key]
        return over

    def muting(self, event: AlertEvent, now_ms: int) -> Silence | None:
        """The silence that keeps this quiet; of several the one that lasts longest."""
        asked = [one for one in self._silences.values() if _is_on(one.silence, now_ms)]
        if not asked:
            return None
        seen = matchable(event)
        hits = [one.silence for one in asked if one.hits(seen)]
        return max(hits, key=lambda silence: silence.ends_at_ms, default=None)

    def acknowledgement(self, event: AlertEvent) -> Acknowledgement | None:
        """Who has taken this episode."""
        return self._acknowledgements.get(f"ack/{event.fingerprint}/{event.episode}")

    def forget(self, event: AlertEvent) -> None:
        """The episode is over; so is its acknowledgement."""
        self._acknowledgements.pop(f"ack/{event.fingerprint}/{event.episode}", None)


def preview(silence: Silence, events: Iterable[AlertEvent]) -> list[AlertEvent]:
    """Those of `events` that the silence would keep quiet while it lasts. It must have no mistakes."""
    compiled = _Compiled(silence, tuple(map(_compiled, silence.matchers)))
    return [event for event in events if compiled.hits(matchable(event))]


def mistakes(silence: Silence) -> list[str]:
    """Why its patterns may not be used: "matchers[0].value: what is wrong"; empty if they may."""
    found = []
    for i, matcher in enumerate(silence.matchers):
        why = _mistake(matcher.value) if matcher.is_regex else None
        if why:
            found.append(f"matchers[{i}].value: {why}")
    return found


def _is_on(silence: Silence, now_ms: int) -> bool:
    return silence.starts_at_ms <= now_ms < silence.ends_at_ms


def _compiled(matcher: Matcher) -> Holds:
    wanted, equal, name = matcher.value, matcher.is_equal, matcher.name
    if not matcher.is_regex:
        return lambda seen: (seen.get(name, "") == wanted) == equal
    pattern = re.compile(wanted, re.DOTALL)
    return lambda seen: (pattern.fullmatch(seen.get(name, "")[:VALUE_LENGTH_MAX]) is not None) == equal


_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BACKREFERENCE = re.compile(r"\\[1-9]|\(\?(?:P[=>]|\()")
_REPEAT = re.compile(r"[*+]|\{\d*,?\d*\}")


def _mistake(pattern: str) -> str | None:
    """Why a pattern is refused. Python's engine goes back and tries again: some patterns never come to an end."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        return f"is longer than {PATTERN_LENGTH_MAX} characters"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    if _BACKREFERENCE.search(pattern):
        return "refers back to a group, which can take for ever"
    plain = _CLASS.sub("x", _ESCAPE.sub("x", pattern))
    if len([one for one in _REPEAT.findall(plain) if one in "*+" or one.endswith(",}")]) > OPEN_ENDED_MAX:
        return f"has more than {OPEN_ENDED_MAX} repetitions without an end (*, +), which can take for ever"
    return "repeats what itself repeats or has a choice, which can take for ever" if _is_nested(plain) else None


def _is_nested(plain: str) -> bool:
    """Whether a group that holds a repetition or a choice is itself repeated."""
    holds = [False]  # whether the group at each depth does
    for i, char in enumerate(plain):
        if char == "(":
            holds.append(False)
        elif char == ")" and len(holds) > 1:
            inner = holds.pop()
            repeated = _REPEAT.match(plain, i + 1) is not None
            if inner and repeated:
                return True
            holds[-1] |= inner or repeated
        elif char == "|" or _REPEAT.match(plain, i):
            holds[-1] = True
    return False
