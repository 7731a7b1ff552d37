"""One cause, one alert: a site goes with all its devices, which lie in several partitions of inference.heartbeats."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pipeline.core.alerting.device_watch import DeviceWatch
from pipeline.core.alerting.outages import Outages
from pipeline.core.batch import Batch
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notification import Notification
from pipeline.core.notifying.notifier import Notifier
from pipeline.core.notifying.routing import Defaults, Routing
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Acknowledgement, acknowledgement_id
from tests import builders
from tests.builders import START_MS
from tests.states import moved

BEAT_MS = 1000
ANN = "mailto:ann@example.com"


@dataclass
class House:
    """Detectors of four partitions, and the notifier; alerts go through a log. All are restarted now and then."""

    restarts: random.Random | None = None
    tags: tuple[str, ...] = ()
    watches: list[DeviceWatch] = field(default_factory=lambda: [DeviceWatch(p) for p in range(4)])
    notifier: Notifier = field(default_factory=lambda: House.fresh())
    outages: Outages = field(default_factory=Outages)
    log: list[AlertEvent] = field(default_factory=list)
    read: int = 0
    told: list[Notification] = field(default_factory=list)

    @staticmethod
    def fresh() -> Notifier:
        return Notifier(Routing(Defaults([ANN])), Silences())

    def second(self, number: int, beating: Sequence[str]) -> None:
        """One second, in which these devices beat."""
        start_ms = START_MS + number * 1000
        for partition in range(4):
            mine = [name for name in beating if int(name[4:]) % 4 == partition]
            records = [(start_ms + int(name[4:]) % 900, self._beat(name, start_ms)) for name in mine]
            tick = builders.heartbeat(
                device_id=f"detector/{partition}", workspace="inferwatch", sent_at_ms=start_ms, interval_ms=5000
            )
            records = sorted([*records, (start_ms + 950, tick)])
            times, values = [at for at, _ in records], [raw for _, raw in records]
            offsets = list(range(number * 10_000, number * 10_000 + len(records)))
            said = self.watches[partition].observe(
                Batch("inference.heartbeats", partition, offsets, times, [None] * len(records), values)
            )
            self.log += said
            if said and self.restarts:  # at least once
                self.log += said[-self.restarts.randrange(1, 3) :]
        self._notify(start_ms + 999)
        self._restart()

    def _notify(self, now_ms: int) -> None:
        for event in self.log[self.read :]:
            for step in self.notifier.observe(event, now_ms):
                self.outages.observe(step, now_ms)
        self.read = len(self.log)
        due = self.notifier.tick(now_ms)
        self.told += due
        for one in due:
            self.notifier.confirm(one.idempotency_key)
        self.log += self.outages.tick(now_ms)

    def _beat(self, name: str, at_ms: int) -> bytes:
        return builders.heartbeat(
            device_id=name, workspace="fleetA", sent_at_ms=at_ms, interval_ms=BEAT_MS, tags=list(self.tags)
        )

    def _restart(self) -> None:
        if self.restarts and self.restarts.random() < 0.3:
            self.watches = [moved(watch, DeviceWatch(p)) for p, watch in enumerate(self.watches)]
            self.notifier, self.outages = moved(self.notifier, self.fresh()), moved(self.outages, Outages())


@pytest.mark.parametrize(
    ("seed", "tags", "devices"),
    [
        (1, (), 200),
        (2, ("site:plant",), 200),
        pytest.param(None, (), 2000, marks=pytest.mark.slow),
        pytest.param(3, ("site:plant",), 2000, marks=pytest.mark.slow),
    ],
)
def test_a_site_of_several_partitions_that_goes_is_one_alert_with_the_true_number(
    seed: int | None, tags: tuple[str, ...], devices: int
) -> None:
    house = House(None if seed is None else random.Random(seed), tags)
    names = [f"cam-{i}" for i in range(devices)]
    for second in range(13):
        house.second(second, names)
    for second in range(13, 60):
        house.second(second, [])
    whose = "site plant" if tags else "workspace fleetA"
    count = f"{len(names):,}"
    [message] = house.told
    [alert] = message.events
    assert alert.summary.startswith(f"{count} of {count} devices of {whose} fell silent together")
    assert alert.state is AlertState.FIRING
    assert sum(event.state is AlertState.FIRING for event in house.log if event.metric != "watchdog") == 1

    for second in range(60, 75):
        house.second(second, names)
    for second in range(75, 160):
        house.second(second, names)
    [_, end] = house.told
    assert [event.state for event in end.events] == [AlertState.RESOLVED]
    assert (end.events[0].fingerprint, end.events[0].episode) == (alert.fingerprint, alert.episode)
    newest = {event.fingerprint: event.state for event in house.log}
    assert set(newest.values()) == {AlertState.RESOLVED}


def test_who_takes_the_outage_takes_all_of_it() -> None:
    house = House()
    names = [f"cam-{i}" for i in range(40)]
    for second in range(13):
        house.second(second, names)
    for second in range(13, 40):
        house.second(second, [])
    [message] = house.told
    alert = message.events[0]
    ack = Acknowledgement(
        id=acknowledgement_id(alert.fingerprint, alert.episode), author="kim", at_ms=START_MS + 40_000
    )
    (step,) = house.outages.hear(ack, START_MS + 40_000)
    assert step.state is AlertState.ACKNOWLEDGED
    assert house.outages.hear(ack, START_MS + 41_000) == []


def test_a_share_that_anybody_could_have_written_ends_nothing() -> None:
    house, odd = House(), {"devices_silent": "many", "devices_watched": -3}
    names = [f"cam-{i}" for i in range(40)]
    for second in range(13):
        house.second(second, names)
    for second in range(13, 40):
        house.second(second, [])
    share = next(event for event in house.log if event.metric == "site_share")
    share = AlertEvent(**{name: getattr(share, name) for name in share.__struct_fields__} | {"evidence": odd})
    outages = Outages()
    outages.observe(share, 0)
    (step,) = outages.tick(100_000)
    assert step.summary.startswith("0 of 0 devices")
