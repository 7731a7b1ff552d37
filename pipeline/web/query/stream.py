"""The subject `stream`: server-sent events of what happens now. No table is asked, however many watch."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response import Stream

from pipeline.core.asking.language import parse
from pipeline.core.asking.live.frames import frame
from pipeline.core.asking.live.room import Viewer, Wanted
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.asked import Asked, get

KEEP_ALIVE_S = 10.0
LOOK_S = 1.0  # whether the key is good still
PAUSE_S = 0.1  # between writes
BEGIN = b"retry: 2000\n\n"
KEEP_ALIVE = b":\n\n"


@get(May.QUERY, "/stream", media_type="text/event-stream")
async def stream(
    asked: Asked,
    filter: str = "",
    events: str = "",
    last_event_id: Annotated[str, Parameter(header="Last-Event-ID")] = "",
) -> Stream:
    """What happens now, as server-sent events: inferences that a filter holds for, alerts, numbers of windows."""
    viewer = Viewer(asked.workspace, parse(filter), _wanted(events))
    asked.watching.check()
    frames = _frames(asked, viewer, last_event_id)
    return Stream(frames, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _wanted(events: str) -> frozenset[Wanted]:
    """Which kinds; all of them where none is named."""
    try:
        return frozenset(Wanted(name) for name in events.split(",")) if events else frozenset(Wanted)
    except ValueError:
        known = ", ".join(one.value for one in Wanted)
        raise Refused(400, "bad_events", f"events are some of {known}, separated by commas") from None


async def _frames(asked: Asked, viewer: Viewer, after: str) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    sent_s = looked_s = loop.time()
    is_told = False
    yield BEGIN
    async with asked.watching.watch(viewer, after) as run:
        while True:
            await run.news(LOOK_S)
            if run.is_reading and not is_told:
                is_told = True
                yield frame("ready", {})
            if chunk := viewer.take():
                yield chunk
                sent_s = loop.time()
                await asyncio.sleep(PAUSE_S)
            elif loop.time() - sent_s >= KEEP_ALIVE_S:
                yield KEEP_ALIVE
                sent_s = loop.time()
            if loop.time() - looked_s >= LOOK_S:
                looked_s = loop.time()
                if why := _why_ended(asked):
                    yield frame("end", {"reason": why})
                    return
            if asked.watching.ended:
                yield frame("end", {"reason": "shutdown"})
                return


def _why_ended(asked: Asked) -> str:
    """Why the viewer may watch no longer; "" while it may."""
    try:
        asked.again()
    except Refused as why:
        return why.reason
    return ""


ROUTES: Sequence[HTTPRouteHandler] = (stream,)
