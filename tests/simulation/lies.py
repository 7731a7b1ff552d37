"""What bugs are made of: partitions that lie, and members whom everybody takes for themselves."""

from typing import Any, cast

from agents.world import World
from pipeline.config import Settings
from pipeline.edge.kafka.group.commits import Committer
from pipeline.edge.kafka.group.partition import Partition
from tests.simulation.worker import ROLES, Bug, Employ, Job


class Over:
    """A partition, but for what a bug changes."""

    def __init__(self, partition: Partition) -> None:
        object.__setattr__(self, "_partition", partition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._partition, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._partition, name, value)


def works_on(employ: Employ, over: type[Over]) -> Employ:
    """The role, with partitions that are not what they seem."""

    def employ_so(settings: Settings, world: World) -> Job:
        job = employ(settings, world)

        def lying(work: Any) -> Any:
            return lambda partition: work(cast(Partition, over(partition)))

        return Job({topic: lying(work) for topic, work in job.work.items()}, job.background)

    return employ_so


def one(role: str, employ: Employ) -> Bug:
    """A bug of one role."""
    return Bug({**ROLES, role: employ})


class _Anyone(tuple[Any, ...]):
    """A member that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class Anyones(Committer):
    """Commits for whoever asks."""

    @property
    def member(self) -> Any:
        """Anybody."""
        return _Anyone(super().member)
