"""What most questions say: over which time, and about which inferences."""

from collections.abc import Mapping
from typing import Annotated

from litestar.params import Parameter

from pipeline.config import Settings
from pipeline.core.asking.language import Filter, parse
from pipeline.core.asking.numbers import NumbersAt, Stretch
from pipeline.core.asking.pieces import DAY_S
from pipeline.web.asgi import Refused
from pipeline.web.query.asked import Asked
from pipeline.web.query.moments import asked_ms
from schemas.windows import SIZES

DEFAULT_MS = DAY_S * 1000
LENGTH_MS_MAX = 3700 * DAY_S * 1000

From = Annotated[
    str | None, Parameter(query="from", description="RFC 3339 or milliseconds since 1970; default: a day before `to`")
]
To = Annotated[str | None, Parameter(query="to", description="the end, not included; default: now")]
FilterText = Annotated[
    str, Parameter(query="filter", description='as `model:helmets/3 confidence:<0.5 -device:cam-7`; "": everything')
]


class About:
    """A filter and a range of time."""

    __slots__ = ("end_ms", "filter", "kept", "now_ms", "rows_days", "start_ms")

    def __init__(self, asked: Filter, start_ms: int, end_ms: int, now_ms: int, settings: Settings) -> None:
        self.filter, self.start_ms, self.end_ms, self.now_ms = asked, start_ms, end_ms, now_ms
        self.kept = kept(settings)
        self.rows_days = settings.ttl_inferences_days

    @property
    def over(self) -> Stretch:
        """The range."""
        return Stretch(self.start_ms, self.end_ms, self.now_ms, self.kept)

    @property
    def before(self) -> Stretch:
        """As much time, right before it."""
        return Stretch(2 * self.start_ms - self.end_ms, self.start_ms, self.now_ms, self.kept)

    def are_kept(self, start_ms: int, at: NumbersAt) -> bool:
        """Does it hold everything since then?"""
        return at is not NumbersAt.ROWS or self.now_ms - start_ms <= self.rows_days * DAY_S * 1000

    def check(self, at: NumbersAt) -> None:
        """Raises Refused where single inferences are needed that are not kept any more."""
        if not self.are_kept(self.start_ms, at):
            raise Refused(
                400,
                "not_kept",
                f"this filter is about single inferences, which are kept for {self.rows_days} days: ask for less time, "
                "or by model and device, or by model and class only",
            )


def kept(settings: Settings) -> Mapping[int, int | None]:
    """For how many days windows of each size are kept."""
    return {size.seconds: None if size.ttl is None else int(getattr(settings, size.ttl)) for size in SIZES}


async def about(asked: Asked, start: From = None, end: To = None, text: FilterText = "") -> About:
    """What a question says."""
    now_ms = asked.clock.now_ms()
    end_ms = now_ms if end is None else asked_ms("to", end)
    start_ms = end_ms - DEFAULT_MS if start is None else asked_ms("from", start)
    if not start_ms < end_ms <= start_ms + LENGTH_MS_MAX or end_ms > now_ms + DEFAULT_MS:
        raise Refused(400, "bad_time", "`from` is before `to`, by ten years at most, and `to` no later than tomorrow")
    return About(parse(text), max(0, start_ms), end_ms, now_ms, asked.settings)
