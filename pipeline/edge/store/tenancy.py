"""What the user `query` may read, and of it only the rows of one workspace: held by ClickHouse, not by our SQL.

Each of its questions names the workspace in the setting log_comment, and row policies compare it with each row. (A
setting of ClickHouse itself: one of one's own needs custom_settings_prefixes in the server's configuration, which the
embedded server does not read. Where it is not set it is '', and there is no row of the workspace ''.)

Tables and views come from the migrations, so one that is added is bound with them. Views run with the rights of the one
who asks: the tables under them are bound. What has another's rights, or feeds another table, may not be read.
"""

import re
from collections.abc import Mapping
from functools import cache

from pipeline.config.sections import StoreSettings
from pipeline.edge.store.migrations import known_migrations

SETTING = "log_comment"
EVERY_WORKSPACE = "*"  # as the setting: of the installation as a whole; no workspace's rows are seen so

_OWN_ROWS = f"workspace = getSetting('{SETTING}')"
# Without a column of that name. A dead letter belongs to the workspace that it says it is of, if it says so legibly.
_OTHERS: Mapping[str, str] = {
    "dead_letters": f"getSetting('{SETTING}') IN ('{EVERY_WORKSPACE}', JSONExtractString(value, 'workspace'))"
    f" AND getSetting('{SETTING}') != ''",
    "dead_letter_replays": "1",  # numbers: which dead letters were sent again
}
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)(?: AS (\w+))?")
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (\w+)")
_WORKSPACE = re.compile(r"^ +workspace +LowCardinality\(String\),$", re.MULTILINE)


def policies() -> Mapping[str, str]:
    """The condition that a row must meet, by table."""
    return _found()[0]


def readable() -> list[str]:
    """The tables and views that may be read at all."""
    return [*policies(), *_found()[1]]


@cache
def _found() -> tuple[dict[str, str], list[str]]:
    statements = [text for migration in known_migrations() for text in migration.statements(StoreSettings())]
    bound: dict[str, str] = {}
    for text in statements:
        if found := _TABLE.match(text):
            if _WORKSPACE.search(text) or found[2] in bound:
                bound[found[1]] = _OWN_ROWS
            elif found[1] in _OTHERS:
                bound[found[1]] = _OTHERS[found[1]]
    views = {found[1]: text for text in statements if (found := _VIEW.match(text))}
    return bound, [name for name, text in views.items() if "SQL SECURITY" not in text]
