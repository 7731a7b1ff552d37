"""The kinds of worker: the only table of them. A role's consumer group is PREFIX-NAME."""

from dataclasses import dataclass

from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS, METADATA, SILENCES, VISION_EVENTS, Topic


@dataclass(frozen=True, slots=True)
class WorkerRole:
    """One kind: a group of workers that shares the partitions of what it reads."""

    name: str
    about: str
    reads: tuple[Topic, ...]  # as a member of its group; what every worker follows by itself is not here
    is_exact: bool = False  # each of its commits names a cut: the log accounts for all that it did


AGGREGATOR = WorkerRole("aggregator", "events -> closed windows", (EVENTS,), is_exact=True)
RECORDER = WorkerRole(
    "recorder",
    "every topic of data -> ClickHouse",
    (EVENTS, HEARTBEATS, METADATA, AGGREGATES, ALERTS, VISION_EVENTS),
    is_exact=True,
)
DETECTOR = WorkerRole("detector", "windows, heartbeats and rules -> alerts", (AGGREGATES, HEARTBEATS))
NOTIFIER = WorkerRole("notifier", "alerts -> people", (SILENCES,))

ROLES = (AGGREGATOR, RECORDER, DETECTOR, NOTIFIER)
ROLE_NAMES = tuple(role.name for role in ROLES)

WEB = "web"  # the HTTP side: no worker, it has no group and takes no cuts
