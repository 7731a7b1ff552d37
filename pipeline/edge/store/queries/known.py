"""Which events are recorded already."""

from collections.abc import Sequence

from pipeline.edge.store.client import ClickHouse

_KNOWN = """
    SELECT DISTINCT event_id FROM inferences WHERE workspace = {workspace:String} AND event_id IN {ids:Array(String)}
"""


async def known_ids(store: ClickHouse, workspace: str, ids: Sequence[str]) -> set[str]:
    """Those of these events that are rows. Raises ClickHouseUnavailable."""
    rows = await store.ask(_KNOWN, {"workspace": workspace, "ids": list(ids)})
    return {str(event_id) for (event_id,) in rows}
