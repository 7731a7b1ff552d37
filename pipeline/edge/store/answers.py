"""What ClickHouse's answers mean: done, refused for ever, or unknown. Whatever is in doubt is unknown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

# Not a matter of time or of the way there: the table, the rights or our own text are wrong, and will be at the next
# attempt. What a body that was cut short, a broken part or a full disk can cause is not among them: it is unknown.
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_REFUSED_CODES: Mapping[int, str] = {
    10: "NOT_FOUND_COLUMN_IN_BLOCK: the table is of another version",
    16: "NO_SUCH_COLUMN_IN_TABLE: the same",
    20: "NUMBER_OF_COLUMNS_DOESNT_MATCH: the same",
    36: "BAD_ARGUMENTS: a setting or a function of our own text",
    44: "ILLEGAL_COLUMN: the same",
    46: "UNKNOWN_FUNCTION: a server too old for us",
    47: "UNKNOWN_IDENTIFIER: the table is of another version",
    53: "TYPE_MISMATCH: the same",
    60: "UNKNOWN_TABLE: inferwatch migrate has not run",
    73: "UNKNOWN_FORMAT: a server too old for us",
    81: "UNKNOWN_DATABASE: inferwatch migrate has not run",
    115: "UNKNOWN_SETTING: a server too old for us",
    164: "READONLY: the user may not write",
    192: "UNKNOWN_USER: the user is not there",
    193: "WRONG_PASSWORD: ours",
    194: "REQUIRED_PASSWORD: ours",
    497: "ACCESS_DENIED: the user may not",
    516: "AUTHENTICATION_FAILED: ours",
}
# They were on the list and are not: 6, 26, 27, 33, 72, 117, 130 (text, quotes, numbers and bytes that cannot be parsed:
# a request that lost its middle or its end), 50 (UNKNOWN_TYPE) and 70 (CANNOT_CONVERT_TYPE: the same, in the head of a
# block), 62 (SYNTAX_ERROR: a query that was cut short), 349 (CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN: torn null maps).


class Outcome(Enum):
    """What an attempt to insert came to."""

    DONE = "done"
    NOT_SENT = "not_sent"  # no connection: nothing can have arrived
    UNKNOWN = "unknown"  # it may have happened, in whole or in part
    REFUSED = "refused"  # for ever


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome and ClickHouse's words."""

    outcome: Outcome
    text: str = ""
    written: int | None = None  # rows, where it says so; of a repeat that is dropped, too


# How answers come: with their end marked, for one that lost its end on its way looks like another answer.
_END = "end\n"
WHOLE = {
    "default_format": "CustomSeparated",
    "format_custom_escaping_rule": "Escaped",
    "format_custom_field_delimiter": "\t",
    "format_custom_row_after_delimiter": "\n",
    "format_custom_result_after_delimiter": _END,
}


def whole(text: str) -> Answer:
    """The answer without its mark."""
    if not text.endswith(_END):
        return Answer(Outcome.UNKNOWN, "the answer lost its end")
    return Answer(Outcome.DONE, text.removesuffix(_END))


def written(summary: str | None) -> int | None:
    """How many rows an insert has brought, by what ClickHouse says of it."""
    try:
        return int(json.loads(summary or "")["written_rows"])
    except (ValueError, KeyError, TypeError):
        return None


def classify(status: int, exception_code: str | None, text: str) -> Answer:
    """What a response says: done, never, or nobody knows."""
    if status == 200 and exception_code is None:
        return Answer(Outcome.DONE, text)
    said = text.strip().splitlines()[0][:300] if text.strip() else f"HTTP {status}"
    if exception_code and exception_code.isdigit() and int(exception_code) in _REFUSED_CODES:
        return Answer(Outcome.REFUSED, said)
    return Answer(Outcome.UNKNOWN, said)
