"""How much workers say while an engine is away: a person can still read it."""

from pathlib import Path

import pytest

from pipeline.config import Settings
from tests.integration.engines import Server
from tests.integration.workers import fleet, hold

pytestmark = pytest.mark.integration

LINES_MAX = 20  # of one worker in a minute


@pytest.mark.parametrize("engine", ["kafka", "clickhouse"])
def test_a_worker_says_no_more_than_a_few_lines_a_minute_while_an_engine_is_away(
    world: Settings, engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(engine)
    with fleet(world, tmp_path) as workers:
        all_of_them = [workers.start(role) for role in ("aggregator", "recorder", "detector", "notifier")]
        workers.wait_ready(*all_of_them)
        said = {one.label: len(one.log.read_text().splitlines()) for one in all_of_them}
        server.kill9()
        try:
            hold(60)
            lines = {one.label: one.log.read_text().splitlines()[said[one.label] :] for one in all_of_them}
        finally:
            server.start()
        assert {label: some for label, some in lines.items() if len(some) > LINES_MAX} == {}
