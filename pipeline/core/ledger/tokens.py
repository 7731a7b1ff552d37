"""How long a deduplication token is worth something: ClickHouse remembers a number of blocks, not a time.

The window of every table is 100,000 blocks; others fill it while an attempt waits. So the data are asked before any
attempt that may not be the first, and what they say is believed. The token only fences an attempt that is still on its
way: nothing is, after this age, and 111 blocks a second in one table would be needed to push it out before.

Whoever makes a cut must choose as those before it did: rows that went in under another token are not protected by this
one. So the choice depends on the cut's name alone, and on the clock in one direction.
"""

REMEMBERED_MS = 900_000


def is_remembered(named_ms: int, now_ms: int) -> bool:
    """Whether the token of a cut may still be used, which nobody can have used before the cut was named."""
    return now_ms - named_ms <= REMEMBERED_MS
