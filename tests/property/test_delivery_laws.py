"""Whatever a sender does, at whatever step: each message has one outcome, and the others go on."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.edge.notification.delivery import Delivery, SendPatience
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from tests.alerts import T0, alert
from tests.names import SURROGATE

IMPATIENT = SendPatience(attempt_s=0.02, wait_s_first=0.001, wait_s_max=0.002, give_up_s=0.05, idle_s=0.02)
ERRORS = (
    UnicodeEncodeError("utf-8", SURROGATE, 1, 2, "surrogates not allowed"),
    KeyError(SURROGATE),
    ValueError("https://example.com/key"),
    OSError(28, "no space left"),
    RecursionError(),
    MemoryError(),
    AssertionError(),
    TimeoutError(),
    StopAsyncIteration(),
    asyncio.CancelledError(),
    asyncio.QueueFull(),
)
steps = st.one_of(
    st.just(Sent()),
    st.just(Failed(True, "later")),
    st.just(Failed(True, "not yet", wait_s=0.01)),
    st.just(Failed(False, SURROGATE)),
    st.just("hang"),
    st.sampled_from(ERRORS),
)


class Script:
    """A sender that does with each message what it was told to, in turn, then takes it."""

    def __init__(self, scripts: dict[str, list[object]]) -> None:
        self._scripts = {key: list(script) for key, script in scripts.items()}

    async def send(self, notification: Notification) -> Outcome:
        """Does the next step."""
        script = self._scripts[notification.idempotency_key]
        step = script.pop(0) if script else Sent()
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        assert isinstance(step, Sent | Failed)
        return step


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(steps, max_size=3)), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_each_message_has_one_outcome_whatever_a_sender_raises(
    sent: list[tuple[str, list[object]]], done_raises: set[int]
) -> None:
    asyncio.run(_deliver(sent, {str(i) for i in done_raises}))


async def _deliver(sent: list[tuple[str, list[object]]], done_raises: set[str]) -> None:
    outcomes: Counter[str] = Counter()

    def done(notification: Notification, outcome: Outcome) -> None:
        outcomes[notification.idempotency_key] += 1
        if notification.idempotency_key in done_raises:
            raise KeyError(notification.idempotency_key)

    sender = Script({str(i): script for i, (_, script) in enumerate(sent)})
    delivery = Delivery({RecipientKind.WEBHOOK: sender}, done, IMPATIENT)
    for i, (who, _) in enumerate(sent):
        one = Notification(f"https://{who}.example", "g", (alert(),), TellReason.FIRST, str(i), T0)
        delivery.put(one)
    async with asyncio.timeout(5):
        while len(outcomes) < len(sent):
            await asyncio.sleep(0.001)
    assert set(outcomes.values()) == {1}
    await delivery.stop()


def test_a_mistake_of_ours_is_given_up_and_said_without_what_the_error_holds() -> None:
    async def test() -> list[Outcome]:
        found: list[Outcome] = []
        sender = Script({"k": [ValueError("https://example.com/key")]})
        delivery = Delivery({RecipientKind.WEBHOOK: sender}, lambda _, outcome: found.append(outcome), IMPATIENT)
        delivery.put(Notification("https://a.example", "g", (alert(),), TellReason.FIRST, "k", T0))
        while not found:
            await asyncio.sleep(0.001)
        await delivery.stop()
        return found

    assert asyncio.run(test()) == [Failed(False, "it cannot be sent: ValueError, a mistake of ours")]
