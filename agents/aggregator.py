"""The aggregator: inference.events -> closed windows on inference.aggregates."""

from functools import partial

import faust

from agents.app import Fold, Folding, Role, host, make_app
from agents.world import World
from pipeline import kernel
from pipeline.config import Settings
from pipeline.core.ledger.closing import is_cut_due
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.ledger.resume import resume_aggregator
from pipeline.core.ledger.standing import AGGREGATOR
from pipeline.core.windows.aggregation import Bounds, Cut, PartitionAggregator
from pipeline.core.windows.log_clock import LogClock, closed_through
from pipeline.core.windows.publication import records
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from schemas.topics import AGGREGATES, EVENTS

FOLD_RECORDS_MAX = 5000  # about 15 ms: so long do the worker's other tasks wait


class Aggregator:
    """The role's work on one partition after another."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        fold: Fold,
        bounds: Bounds | None = None,
        part_bytes: int | None = None,
    ) -> None:
        """Batches are folded by `fold`; of `part_bytes` all workers must think alike."""
        self._settings, self._clock, self._metrics = settings, world.clock, world.metrics
        self._fold, self._bounds, self._part_bytes = fold, bounds, part_bytes
        self.topic = AggregatesTopic(world.log, settings.topic(AGGREGATES.name))

    async def work(self, partition: Partition) -> None:
        """One partition, from its committed name until it is revoked."""
        name = await self._restore(partition)
        machine = PartitionAggregator(name, self._settings.time_limits, self._bounds)
        log_clock = LogClock()
        partition.seek(name.low)
        while machine.named is not None and machine.next_offset < machine.named.to_offset:
            if partition.leaving:
                return
            await partition.wait(1.0)
            await self._observe(partition, machine, log_clock, until=machine.named.to_offset)
        if machine.named is not None:
            cut = machine.cut(0, 0)
            assert cut is not None
            await self._send(partition, cut)
            self._metrics.CUTS_REDONE.labels(partition.topic).inc()
        cut_at_ms = self._clock.now_ms()
        while not partition.leaving:
            await partition.wait(self._settings.poll_ms / 1000)
            await self._observe(partition, machine, log_clock, until=None)
            now_ms = self._clock.now_ms()
            log_time_ms = log_clock.time_ms(*partition.idle())
            through_ms = closed_through(log_time_ms, self._settings.lateness_ms)
            due = is_cut_due(
                since_cut_ms=now_ms - cut_at_ms,
                through_ms=through_ms,
                closed_ms=machine.closed_ms,
                has_corrections=machine.has_pending(machine.closed_ms),
            )
            if due and (cut := machine.cut(through_ms, await self.topic.targets())):
                cut_at_ms = now_ms
                await partition.commit(cut.name.low, cut.name.metadata())
                await self._send(partition, cut)
                for start_ms, _, _ in cut.windows[-1:]:
                    self._metrics.CLOSE_DELAY_SECONDS.observe(max(0, self._clock.now_ms() - start_ms - 10_000) / 1000)
        done = machine.done_name()
        await partition.commit(done.low, done.metadata())

    async def _observe(
        self, partition: Partition, machine: PartitionAggregator, log_clock: LogClock, until: int | None
    ) -> None:
        for batch in await partition.take(FOLD_RECORDS_MAX, until):
            observed = await self._fold(partial(machine.observe, batch, kernel.fold))
            for reason, count in observed.refused.items():
                self._metrics.REFUSED.labels(partition.topic, reason.value).inc(count)
            log_clock.observe(batch.times_ms, batch.create_time, self._clock.now_ms())
            partition.done_time_ms = batch.newest_ms
        machine.come_to(partition.next_offset)

    async def _send(self, partition: Partition, cut: Cut) -> None:
        source = partition.tp.partition
        await self.topic.send_cut(source, records(cut, source, self._part_bytes), partition.alive)
        self._metrics.CUTS.labels(partition.topic).inc()

    async def _restore(self, partition: Partition) -> AggregatorName:
        """Where it goes on. Raises StandsStillError."""
        span, committed = await partition.log_span(), await partition.committed_name()
        last_link = await self.topic.last_name(partition.tp.partition)
        name = partition.go_on(AGGREGATOR, span, resume_aggregator(committed, span, last_link)).name
        assert isinstance(name, AggregatorName)
        return name


def make(settings: Settings, world: World) -> tuple[faust.App, Role]:
    """The aggregator's app."""
    app = make_app("aggregator", settings)
    aggregator = Aggregator(settings, world, Folding(app, "aggregate"))
    work = {settings.topic(EVENTS.name): aggregator.work}
    members = Partitions(settings, world.log, world.clock, settings.group("aggregator"), work)
    role = Role("aggregator", world, members, (aggregator.topic,))
    host(app, role)
    return app, role
