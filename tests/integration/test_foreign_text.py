"""Names on their way through SQL: what is asked for is what is found, whatever it holds."""

from contextlib import closing

import pytest

from pipeline.config import Settings
from tests.integration.outside import ask, connect
from tests.names import NAMES

pytestmark = pytest.mark.integration


def test_a_name_in_a_query_is_a_value_and_nothing_else(world: Settings) -> None:
    with closing(connect(world, "writer")) as client:
        for what, name in NAMES.items():
            asked = ask(client, "SELECT {name:String}, {name:String} = {again:String}", {"name": name, "again": name})
            assert asked == [(name, 1)], what
