"""The promises of alerts, held against what was told, what people heard, and machines that were never interrupted.

A step is told under one id, with one content; told is told whole and in order; who heard of a beginning hears of its
end; a message that comes again has the same idempotency key.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

from pipeline.core.alerting.device_watch import DeviceWatch
from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.batch import Batch
from pipeline.core.notifying.notification import TellReason
from schemas import aggregate, alert
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertKind, AlertState
from tests.builders import LogRecord
from tests.simulation.luck import ViolationError

if TYPE_CHECKING:
    from tests.simulation.alerting import Alerting

OPEN = (AlertState.FIRING, AlertState.ACKNOWLEDGED, AlertState.RECOVERING, AlertState.NO_DATA)


def everything(scene: "Alerting") -> Counter[str]:
    """Raises ViolationError unless every promise is kept; what was met on the way."""
    told, met = _told(scene)
    _whole(told)
    if not scene.people_speak:
        _as_never_interrupted(scene, told)
    _beginnings(scene)
    _keys(scene)
    met["messages"] = len(scene.people.heard)
    met["messages_again"] = met["messages"] - len({one.notification.idempotency_key for one in scene.people.heard})
    return met


# -- steps


def _steps(scene: "Alerting") -> list[tuple[AlertEvent, bytes]]:
    """What is on inference.alerts, in the order of each partition."""
    found = []
    for tp in scene.alerts:
        for record in scene.logs[tp].records:
            assert record.value is not None
            step = _decoded(record.value)
            found.append((step, record.value))
    return found


_cache: dict[bytes, AlertEvent] = {}


def _decoded(raw: bytes) -> AlertEvent:
    step = _cache.get(raw)
    if step is None:
        decoded = alert.decode(raw)
        assert isinstance(decoded, AlertEvent)
        if len(_cache) > 5000:
            _cache.clear()
        step = _cache[raw] = decoded
    return step


def _told(scene: "Alerting") -> tuple[dict[str, tuple[AlertEvent, bytes]], Counter[str]]:
    """Every step by its id, in the order in which each was told first."""
    told: dict[str, tuple[AlertEvent, bytes]] = {}
    met = Counter[str]()
    for step, raw in _steps(scene):
        met["steps_again" if step.id in told else "steps"] += 1
        _, known = told.setdefault(step.id, (step, raw))
        if known != raw:
            raise ViolationError(f"step {step.id} has another content now: {known!r}, {raw!r}")
    return told, met


def _whole(told: Mapping[str, tuple[AlertEvent, bytes]]) -> None:
    """Of every episode all steps are told, each after the one before; and it ends."""
    newest: dict[str, AlertEvent] = {}
    for step, _ in told.values():
        before = newest.get(step.fingerprint)
        if before is None or before.episode != step.episode:
            if before is not None and (before.state is not AlertState.RESOLVED or step.episode < before.episode):
                raise ViolationError(f"{step.id} begins, and {before.id} was no end")
            expected = 1
        else:
            expected = before.sequence + 1
        if step.sequence != expected:
            raise ViolationError(f"step {expected} comes next, not {step.id} ({step.state}, {step.summary})")
        newest[step.fingerprint] = step
    for step in newest.values():
        if step.state is not AlertState.RESOLVED and not _is_watchdog(step):
            raise ViolationError(f"{step.id} has no end: {step.state}, {step.summary}")


def _is_watchdog(step: AlertEvent) -> bool:
    return step.metric == "watchdog"


def _as_never_interrupted(scene: "Alerting", told: Mapping[str, tuple[AlertEvent, bytes]]) -> None:
    """One machine for each partition, fed once, says the same. What the broker says of roles is nobody's to repeat."""
    expected: dict[str, bytes] = {}
    for tp in scene.aggregates:
        expected |= _encoded(_of_models(scene, tp))
    for tp in scene.heartbeats:
        expected |= _encoded(_of_devices(scene, tp))
    found = {name: raw for name, (step, raw) in told.items() if not step.metric.endswith("_standstill_s")}
    if found != expected:
        missing = [_decoded(expected[name]).summary for name in expected.keys() - found.keys()]
        more = [told[name][0].summary for name in found.keys() - expected.keys()]
        raise ViolationError(f"steps: missing {missing}, too many {more}, or another content")


def _of_models(scene: "Alerting", tp: TopicPartition) -> list[AlertEvent]:
    settings = scene.settings
    asked, limits = settings.false_alarms_per_model_week, settings.our_limits
    watch = ModelWatch(tp.partition, len(scene.aggregates), len(scene.events), asked, limits)
    steps = watch.set_rules({scene.first_rule.rule_id: scene.first_rule})
    for record in _read(scene, tp):
        decoded = aggregate.decode(record.value)
        assert isinstance(decoded, AggregateRecord)
        steps += watch.observe(decoded)[1]
    return steps


def _of_devices(scene: "Alerting", tp: TopicPartition) -> list[AlertEvent]:
    watch = DeviceWatch(tp.partition, scene.settings.heartbeat_policy, scene.settings.our_limits)
    log = _read(scene, tp)
    times_ms, values = [r.time_ms for r in log], [r.value for r in log]
    return watch.observe(Batch(tp.topic, tp.partition, [r.offset for r in log], times_ms, [None] * len(log), values))


def _read(scene: "Alerting", tp: TopicPartition) -> list[LogRecord]:
    """What the detectors had read when they ended."""
    end = scene.detectors.state.offsets[tp].offset
    return [record for record in scene.logs[tp].records if record.offset < end]


def _encoded(steps: list[AlertEvent]) -> dict[str, bytes]:
    return {step.id: alert.encode(step) for step in steps}


# -- what people heard


def open_alerts(scene: "Alerting") -> dict[str, AlertEvent]:
    """The newest step of every alert that is not over, as a reader has it that drops repeats."""
    newest: dict[str, AlertEvent] = {}
    for step, _ in _steps(scene):
        known = newest.get(step.fingerprint)
        if known is None or (step.episode, step.sequence) > (known.episode, known.sequence):
            newest[step.fingerprint] = step
    return {
        name: step for name, step in newest.items() if step.state is not AlertState.RESOLVED and not _is_watchdog(step)
    }


def is_open(scene: "Alerting", model: str) -> bool:
    """Whether a rule's alert of a model fires."""
    return any(
        step.kind is AlertKind.RULE and step.model_id == model and step.state in OPEN
        for step in open_alerts(scene).values()
    )


def _heard(scene: "Alerting") -> dict[tuple[str, str], AlertEvent]:
    """By recipient and fingerprint: the newest step that was heard of."""
    heard: dict[tuple[str, str], AlertEvent] = {}
    for one in scene.people.heard:
        for step in one.notification.events:
            key = one.notification.recipient, step.fingerprint
            known = heard.get(key)
            if known is None or (step.episode, step.sequence) > (known.episode, known.sequence):
                heard[key] = step
    return heard


def unheard(scene: "Alerting") -> list[str]:
    """Alerts that fire, that nobody has taken, and that somebody has not heard of."""
    heard = _heard(scene)
    return [
        f"{recipient}: {step.summary}"
        for step in open_alerts(scene).values()
        for recipient in scene.settings.default_recipients.recipients
        if step.state is AlertState.FIRING
        and ((known := heard.get((recipient, step.fingerprint))) is None or known.episode < step.episode)
    ]


def unfinished(scene: "Alerting") -> list[str]:
    """What somebody has heard the beginning of, and not the end."""
    dead_man = scene.settings.default_recipients.watchdog_recipients
    return [
        f"{recipient}: {step.summary}"
        for (recipient, _), step in _heard(scene).items()
        if step.state is not AlertState.RESOLVED and recipient not in dead_man
    ]


def is_calm(scene: "Alerting") -> bool:
    """Whether all is over, and everybody has heard so."""
    return not open_alerts(scene) and not unfinished(scene)


def what_is_open(scene: "Alerting") -> str:
    """For who looks for the reason."""
    steps = [f"{step.id} {step.state.value} {step.summary}" for step in open_alerts(scene).values()]
    return f"open {steps}, unheard {unheard(scene)}, unfinished {unfinished(scene)}"


def _beginnings(scene: "Alerting") -> None:
    """Who has heard of an end has heard of the beginning."""
    begun, ended = set[tuple[str, str, int]](), set[tuple[str, str, int]]()
    for one in scene.people.heard:
        for step in one.notification.events:
            into = ended if step.state is AlertState.RESOLVED else begun
            into.add((one.notification.recipient, step.fingerprint, step.episode))
    if ended - begun:
        raise ViolationError(f"ends without a beginning: {ended - begun}")


def _keys(scene: "Alerting") -> None:
    """A key is one message; and one message has one key, unless a zombie and its successor have both made it."""
    contents: dict[str, object] = {}
    keys: dict[object, set[str]] = {}
    for one in scene.people.heard:
        sent = one.notification
        content = sent.recipient, sent.group, sent.reason, sent.events
        if contents.setdefault(sent.idempotency_key, content) != content:
            raise ViolationError(f"key {sent.idempotency_key} had another content before: {content}")
        if sent.reason is TellReason.FIRST:
            keys.setdefault((sent.recipient, sent.events[0].id), set()).add(sent.idempotency_key)
    twice = [what for what, found in keys.items() if len(found) > 1]
    if twice and not (scene.luck.counts["freeze"] or scene.luck.counts["freeze_here"]):
        raise ViolationError(f"told under two keys: {twice}")
    scene.luck.counts["told_under_two_keys"] += len(twice)
