"""Detectors and notifiers that die or freeze at the worst moment: each step once, each message at least once."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from pipeline.config import Settings
from pipeline.core.alerting.undelivered import METRIC as UNDELIVERED
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.compacted import put_rules
from pipeline.edge.kafka.producer import OutRecord
from schemas import alert
from schemas.alert import AlertEvent, AlertState
from schemas.topics import AGGREGATES, ALERTS, DETECTOR_STATE, EVENTS, HEARTBEATS
from tests import asked_once as kafka
from tests import builders
from tests.alerting import SUBJECT, event, rule
from tests.integration.receivers import Receiver, post_office, receiver
from tests.integration.test_alerting import CONFIDENCE, FIRING, RESOLVED, mails, send, settings_of, steps, wait_told
from tests.integration.windows import BAD, GOOD, Windows, target_of
from tests.integration.workers import Action, Fault, Step, WorkerUnderTest, eventually, fleet

pytestmark = pytest.mark.integration

NEVER = rule(rule_id="never", metric="inference_count", operator=">", threshold=1e12)
T = TypeVar("T")


def owned(worker: WorkerUnderTest) -> float:
    """How many partitions a worker has."""
    return worker.metric("inferwatch_partitions", state="assigned")


def wait_owns(worker: WorkerUnderTest, count: int) -> None:
    """It has so many partitions, restored."""
    eventually(lambda: owned(worker) == count and worker.works(), 60, f"{worker.label} owns {count} partitions")


@contextmanager
def in_background(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What lives in an event loop, beside a test that has none."""
    entered: Future[tuple[T, Callable[[], object]]] = Future()

    async def live() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with manager as one:
            entered.set_result((one, lambda: loop.call_soon_threadsafe(over.set)))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    one, end = entered.result(20)
    try:
        yield one
    finally:
        end()
        thread.join()


def test_detectors_that_freeze_before_they_tell_or_save_and_wake_up_too_late(world: Settings, tmp_path: Path) -> None:
    models = {f"{name}/1" for name in ("helmets", "pallets", "plates", "crops", "labels")}
    assert len({target_of(model) for model in models}) > 2
    good, bad = dict.fromkeys(models, GOOD), dict.fromkeys(models, BAD)
    whole = AGGREGATES.partitions + HEARTBEATS.partitions
    world = world.model_copy(update={"standstill_s": 86_400})  # there is no recorder, and nobody shall say so
    asyncio.run(put_rules(world, [CONFIDENCE]))
    log = Windows(world)
    with fleet(world, tmp_path) as workers:
        # It has committed what it has read; what follows is not told: the watchdog is, and a model's first step.
        first = workers.start("detector", Fault(Step.NAMED, Action.FREEZE, ALERTS.name, nth=3))
        wait_owns(first, whole)
        log.play(good, 6)
        log.play(bad, 2)
        workers.wait_struck(first)
        # It has committed, and its state as of then is not saved: of some partitions the second snapshot.
        second = workers.start("detector", Fault(Step.NAMED, Action.FREEZE, DETECTOR_STATE.name, nth=whole + 4))
        wait_owns(second, whole)
        log.play(bad, 2)
        wait_told(world, FIRING, models)
        asyncio.run(put_rules(world, [NEVER]))  # a reason to save
        workers.wait_struck(second)
        first.resume()  # tells what is old, and joins
        wait_owns(first, whole)
        log.play(good, 5)
        wait_told(world, AlertState.RECOVERING, models)
        second.resume()  # saves what is old, and joins
        eventually(lambda: 0 < owned(second) < whole, 60, "both share the work")
        first.kill9()
        wait_owns(second, whole)  # from what the two have saved
        log.play(good, 3)
        wait_told(world, RESOLVED, models)
        workers.end_all()
    told: dict[str, AlertEvent] = {}
    for one in steps(world):
        assert told.setdefault(one.id, one) == one
    assert told.keys() == log.alerts({one.rule_id: one for one in (CONFIDENCE, NEVER)})


def tell(settings: Settings, names: list[str], state: AlertState, began_ms: int) -> None:
    """Steps of alerts about these models, as a detector tells them."""
    told = [
        event(
            fingerprint=replace(SUBJECT, model_id=name).fingerprint,
            model_id=name,
            episode=began_ms,
            starts_at_ms=began_ms,
            at_ms=now_ms(),
            state=state,
            sequence=2 if state is RESOLVED else 1,
            summary=f"{name} is unwell",
        )
        for name in names
    ]
    send(settings, ALERTS.name, [OutRecord(one.fingerprint.encode(), alert.encode(one)) for one in told])


def keys_of(hook: Receiver, since: int = 0) -> dict[tuple[str, str], set[str]]:
    """Idempotency keys by model and status."""
    out: dict[tuple[str, str], set[str]] = defaultdict(set)
    for headers, body in hook.requests[since:]:
        message = orjson.loads(body)
        for one in message["alerts"]:
            out[one["labels"]["model_id"], message["status"]].add(headers["Idempotency-Key"])
    return out


def test_notifiers_killed_and_frozen_while_they_deliver_lose_nothing_and_repeat_with_the_same_key(
    world: Settings, tmp_path: Path
) -> None:
    early, late = [f"early-{i}/1" for i in range(4)], [f"late-{i}/1" for i in range(4)]
    with post_office() as post, in_background(receiver()) as hook, fleet(world, tmp_path) as workers:
        settings = settings_of(world, post).model_copy(
            update={
                "notify_recipients": f"mailto:oncall@example.org {hook.url}",
                "notify_networks": "127.0.0.0/8",
                "storm_max": 1000,
            }
        )
        workers.settings = settings
        began_ms = now_ms()

        def wait_answered(models: list[str], status: str, since: int) -> None:
            wanted = {(model, status) for model in models}
            eventually(lambda: keys_of(hook, since).keys() >= wanted, 40, "all are sent", lambda: keys_of(hook, since))

        def fail_while_sending(active: WorkerUnderTest, models: list[str]) -> int:
            """It hangs in the middle of a message; from then on the receiver answers."""
            hook.script[:], before = ["hang"], len(hook.requests)
            tell(settings, models, FIRING, began_ms)
            eventually(lambda: len(hook.requests) > before, 30, "a message is under way")
            active.pause()
            hook.script[:] = [200]
            return len(hook.requests)

        first = workers.start("notifier")
        wait_owns(first, 1)
        second = workers.start("notifier")
        workers.wait_ready(second)
        (active, standby) = (first, second) if owned(first) else (second, first)
        since = fail_while_sending(active, early)
        active.kill9()
        wait_answered(early, "firing", since)
        third = workers.start("notifier")
        workers.wait_ready(third)
        (active, standby) = (standby, third) if owned(standby) else (third, standby)
        since = fail_while_sending(active, late)
        wait_answered(late, "firing", since)
        active.resume()
        eventually(lambda: active.says("/healthz")[0] == 200, 30, "it works again")
        since = len(hook.requests)
        tell(settings, early + late, RESOLVED, began_ms)
        wait_answered(early + late, "resolved", since)
        eventually(lambda: len({str(mail["Subject"]) for _, mail in post.mails}) == 16, 20, "all mails")
        workers.end_all()
        keys = keys_of(hook)
        assert keys.keys() == {(model, status) for model in early + late for status in ("firing", "resolved")}
        assert all(len(one) == 1 for one in keys.values()), keys
        assert len(hook.requests) > len(keys)  # what hung came again
        ids = {str(mail["Subject"]): set[str]() for _, mail in post.mails}
        for _, mail in post.mails:
            ids[str(mail["Subject"])].add(str(mail["Message-ID"]))
        assert all(len(one) == 1 for one in ids.values()), ids


def test_notifications_that_are_given_up_are_an_alert_that_reaches_others(world: Settings, tmp_path: Path) -> None:
    with post_office() as post, in_background(receiver(400, 200)) as hook, fleet(world, tmp_path) as workers:
        settings = settings_of(world, post).model_copy(
            update={
                "notify_recipients": f"mailto:oncall@example.org {hook.url}",
                "notify_networks": "127.0.0.0/8",
                "notify_give_up_s": 1.0,
            }
        )
        workers.settings = settings
        notifier = workers.start("notifier")
        wait_owns(notifier, 1)
        tell(settings, ["helmets/3"], FIRING, now_ms())

        def told(state: str) -> list[AlertEvent]:
            return [one for one in steps(settings) if one.metric == UNDELIVERED and one.state.value == state]

        eventually(lambda: bool(told("firing")), 30, "it is an alert")
        (fired,) = told("firing")
        assert "HTTP 400" in fired.summary
        assert hook.url not in str(fired)  # it may hold a secret
        eventually(lambda: bool(mails(post, "do not arrive")), 30, "others hear of it")
        eventually(lambda: bool(told("recovering")), 30, "it was told as well by then")
        assert notifier.metric("inferwatch_notifications_total", sender="webhook", outcome="failed") == 1
        workers.end_all()


def test_a_running_detector_waits_for_new_partitions_of_events(world: Settings, tmp_path: Path) -> None:
    asyncio.run(put_rules(world, [CONFIDENCE]))
    log = Windows(world)
    helmets = "helmets/3"

    def accepted(detector: WorkerUnderTest) -> float:
        return detector.metric("inferwatch_chain_records_total", verdict="accepted")

    with fleet(world, tmp_path) as workers:
        detector = workers.start("detector")
        wait_owns(detector, AGGREGATES.partitions + HEARTBEATS.partitions)
        log.play({helmets: GOOD}, 6)
        sent = 6 * EVENTS.partitions * AGGREGATES.partitions
        eventually(lambda: accepted(detector) == sent, 30, "all is taken in")
        asyncio.run(kafka.grow(world, world.topic(EVENTS.name), EVENTS.partitions + 1))
        said = '"more_sources"'
        eventually(lambda: detector.log.read_text().count(said) == AGGREGATES.partitions, 30, "it knows")
        log.play({helmets: BAD}, 6)
        sent *= 2
        eventually(lambda: accepted(detector) == sent, 30, "all is taken in")
        assert not [one for one in steps(world) if one.rule_id]
        end = (0, 1, log.start_ms + log.count * WINDOW_MS, 0)
        link = builders.aggregate(end=end, source=EVENTS.partitions, models=(), classes=())
        send(world, AGGREGATES.name, [OutRecord(b"", link, number) for number in range(AGGREGATES.partitions)])
        wait_told(world, FIRING, {helmets})
        workers.end_all()
