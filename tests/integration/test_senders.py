"""Notifications reach what they are sent to, and what does not answer delays nobody else."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import RecipientKind, kind_of
from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.notification.delivery import Delivery, SendPatience
from pipeline.edge.notification.outcome import Failed, Outcome, Sender, Sent
from pipeline.edge.notification.senders import open_senders
from pipeline.edge.notification.webhook import SIGNATURE_HEADER, signature
from pipeline.edge.notification.wording import subject, text
from schemas.alert import AlertEvent, AlertState, Severity
from tests.alerts import T0, alert
from tests.integration.receivers import Receiver, alertmanager, certificate, knows, post_office, receiver, true
from tests.names import NAMES

pytestmark = pytest.mark.integration

RESOLVED = AlertState.RESOLVED
LOCAL = "127.0.0.0/8"


def notification(recipient: str, *events: AlertEvent, **fields: Any) -> Notification:
    whole: dict[str, Any] = {
        "group": "model acme helmets/3",
        "reason": TellReason.FIRST,
        "idempotency_key": "k1",
        "at_ms": T0,
    }
    return Notification(recipient=recipient, events=events or (alert(),), **(whole | fields))


def send(settings: Settings, *notifications: Notification) -> list[Outcome]:
    async def all_of_them() -> list[Outcome]:
        async with open_senders(settings) as senders:
            return [await senders[kind_of(one.recipient)].send(one) for one in notifications]

    return asyncio.run(all_of_them())


# Mail


def mail_settings(port: int, **fields: Any) -> Settings:
    return Settings(smtp_host=HOST, smtp_port=port, smtp_from="watch@example.com", **fields)


def test_mail_arrives_in_both_forms() -> None:
    with post_office() as post:
        outcome = send(
            mail_settings(post.port, smtp_security="plain"), notification("mailto:ann@example.com,bob@example.com")
        )
    assert outcome == [Sent()]
    [(envelope, message)] = post.mails
    assert envelope.rcpt_tos == ["ann@example.com", "bob@example.com"]
    assert message["Subject"] == "[WARNING] confidence of helmets/3 is 0.61, below 0.75"
    body = message.get_body(("plain",))
    assert body is not None
    assert "first notification" in body.get_content()
    assert message.get_body(("html",)) is not None


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_by_tls_with_a_password(tmp_path: Path, security: str) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    tls: dict[str, Any] = {"tls_context": context, "require_starttls": True}
    options: dict[str, Any] = {"ssl_context": context, "auth_require_tls": False} if security == "tls" else tls
    with post_office(authenticator=knows("watch", "hush"), auth_required=True, **options) as post:
        sound = mail_settings(
            post.port, smtp_security=security, smtp_user="watch", smtp_password=SecretStr("hush"), smtp_ca_file=cert
        )
        assert send(sound, notification("mailto:ann@example.com")) == [Sent()]
        wrong = sound.model_copy(update={"smtp_password": SecretStr("wrong")})
        [refused] = send(wrong, notification("mailto:ann@example.com"))
        [unknown] = send(sound.model_copy(update={"smtp_ca_file": None}), notification("mailto:ann@example.com"))
    assert isinstance(refused, Failed)
    assert (refused.recoverable, refused.reason[:8]) == (False, "SMTP 535")
    assert isinstance(unknown, Failed)
    assert not unknown.recoverable
    assert len(post.mails) == 1


def test_mail_is_not_sent_in_the_clear_when_tls_was_asked_for() -> None:
    with post_office() as post:
        [outcome] = send(mail_settings(post.port), notification("mailto:ann@example.com"))
    assert isinstance(outcome, Failed)
    assert not outcome.recoverable
    assert post.mails == []


@pytest.mark.parametrize(("answer", "recoverable"), [("451 later", True), ("550 nobody of that name", False)])
def test_the_mail_servers_answer_says_whether_to_try_again(answer: str, recoverable: bool) -> None:
    with post_office() as post:
        post.refusals["ann@example.com"] = answer
        [outcome] = send(mail_settings(post.port, smtp_security="plain"), notification("mailto:ann@example.com"))
    assert isinstance(outcome, Failed)
    assert outcome.recoverable == recoverable
    assert answer[:3] in outcome.reason


def test_without_a_mail_server_it_may_work_later() -> None:
    [outcome] = send(mail_settings(free_port(), smtp_security="plain"), notification("mailto:ann@example.com"))
    assert isinstance(outcome, Failed)
    assert outcome.recoverable


def test_whatever_a_name_holds_the_mail_arrives_with_our_headers_alone() -> None:
    with post_office() as post:
        settings = mail_settings(post.port, smtp_security="plain")
        named = [
            notification("mailto:ann@example.com", alert(model_id=name, summary=f"{name} is low"))
            for name in NAMES.values()
        ]
        assert send(settings, *named) == [Sent()] * len(named)
    for (envelope, mail), one in zip(post.mails, named, strict=True):
        assert envelope.rcpt_tos == ["ann@example.com"]
        assert mail["Subject"] == subject(one)
        ours = ["From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted"]
        assert [name for name in mail.keys() if name != "X-Peer"] == [*ours, "MIME-Version", "Content-Type"]  # noqa: SIM118 - not unique
        body = mail.get_body(("plain",))
        assert body is not None
        assert body.get_content().replace("\r\n", "\n") == text(one)


def test_who_is_greylisted_has_the_mail_later_and_the_others_have_it_once() -> None:
    async def test() -> None:
        settings = mail_settings(post.port, smtp_security="plain")
        async with open_senders(settings) as senders, delivering(senders, QUICK) as (delivery, done):
            delivery.put(notification("mailto:good@example.org,grey@example.org"))
            await true(lambda: post.mails)
            assert done == {}
            del post.refusals["grey@example.org"]
            await true(lambda: done)
            assert done == {"k1": Sent()}

    with post_office() as post:
        post.refusals["grey@example.org"] = "450 4.2.0 greylisted, try again"
        asyncio.run(test())
    assert [envelope.rcpt_tos for envelope, _ in post.mails] == [["good@example.org"], ["grey@example.org"]]
    first, second = (mail for _, mail in post.mails)
    assert first["Message-ID"] == second["Message-ID"]


def test_one_full_mailbox_is_given_up_and_named_and_the_others_have_their_mail() -> None:
    async def test() -> None:
        settings = mail_settings(post.port, smtp_security="plain")
        async with open_senders(settings) as senders, delivering(senders, QUICK) as (delivery, done):
            for address in ("full", "good", "gone"):
                delivery.put(notification(f"mailto:{address}@example.org", idempotency_key=address))
            delivery.put(notification("mailto:b@example.org,gone@example.org", idempotency_key="both"))
            await true(lambda: len(done) == 4)
            why = "refused by the mail server: {}@example.org: {}"
            assert done == {
                "good": Sent(),
                "full": Failed(True, why.format("full", "452 4.2.2 mailbox full")),
                "gone": Failed(False, why.format("gone", "550 nobody of that name")),
                "both": Failed(False, why.format("gone", "550 nobody of that name")),
            }

    with post_office() as post:
        post.refusals |= {
            "full@example.org": "452 4.2.2 mailbox full",
            "gone@example.org": "550 nobody of that name",
        }
        asyncio.run(test())
    assert sorted(envelope.rcpt_tos for envelope, _ in post.mails) == [["b@example.org"], ["good@example.org"]]


# Webhooks


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_webhook_is_signed_and_has_its_key() -> None:
    async def test() -> None:
        settings = Settings(notify_networks=LOCAL, webhook_secret=SecretStr("hush"))
        async with receiver() as hook, open_senders(settings) as senders:
            assert await senders[RecipientKind.WEBHOOK].send(notification(hook.url)) == Sent()
            [(headers, body)] = hook.requests
            assert headers["Idempotency-Key"] == "k1"
            assert headers[SIGNATURE_HEADER] == signature("hush", body)
            assert json.loads(body)["alerts"][0]["fingerprint"] == alert().fingerprint

    run(test())


@pytest.mark.parametrize(("status", "recoverable"), [(500, True), (503, True), (429, True), (404, False), (302, False)])
def test_a_receivers_status_says_whether_to_try_again(status: int, recoverable: bool) -> None:
    async def test() -> None:
        async with receiver(status) as hook, open_senders(Settings(notify_networks=LOCAL)) as senders:
            hook.headers["Location"] = hook.url + "/elsewhere"
            outcome = await senders[RecipientKind.WEBHOOK].send(notification(hook.url))
            assert isinstance(outcome, Failed)
            assert (outcome.recoverable, outcome.reason[:8]) == (recoverable, f"HTTP {status}")
            assert len(hook.requests) == 1

    run(test())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_nothing_of_ours_can_be_reached_by_a_webhook(host: str) -> None:
    async def test() -> None:
        async with receiver() as hook, open_senders(Settings()) as senders:
            port = hook.url.split(":")[2]
            outcome = await senders[RecipientKind.WEBHOOK].send(notification(f"http://{host}:{port}"))
            assert isinstance(outcome, Failed)
            assert not outcome.recoverable
            assert outcome.reason.endswith(("(setting notify_networks allows more)", "the address is no URL"))
            assert hook.requests == []

    run(test())


# Chat


def test_a_chat_gets_the_message_and_only_where_it_may_go() -> None:
    async def test() -> None:
        async with receiver() as hook:
            address = hook.url.removeprefix("http://").removesuffix("/hook")
            there = notification(f"mmost://{address}/abcdefghijklmnopqrstuvwxyz")
            async with open_senders(Settings(notify_networks=LOCAL)) as senders:
                assert await senders[RecipientKind.CHAT].send(there) == Sent()
            assert "confidence of helmets/3" in hook.requests[0][1].decode()
            async with open_senders(Settings()) as senders:
                outcome = await senders[RecipientKind.CHAT].send(there)
            assert outcome == Failed(False, f"{HOST} is not a public address (setting notify_networks allows more)")
            assert len(hook.requests) == 1

    run(test())


def test_a_chats_redirect_is_not_followed() -> None:
    async def test() -> None:
        async with receiver(302) as hook, open_senders(Settings(notify_networks=LOCAL)) as senders:
            hook.headers["Location"] = hook.url
            address = hook.url.removeprefix("http://").removesuffix("/hook")
            recipient = f"mmost://{address}/abcdefghijklmnopqrstuvwxyz?redirect=yes"
            outcome = await senders[RecipientKind.CHAT].send(notification(recipient))
            assert isinstance(outcome, Failed)
            assert len(hook.requests) == 1

    run(test())


@pytest.mark.parametrize(
    "recipient",
    [
        "dbus://",
        "syslog://",
        "file:///etc/passwd",
        "json://127.0.0.1",
        "slack://not-a-token",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?template=/etc/passwd",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?tem%70late=/etc/passwd",
    ],
)
def test_what_is_no_chat_is_refused(recipient: str) -> None:
    [outcome] = send(Settings(), notification(recipient))
    assert isinstance(outcome, Failed)
    assert not outcome.recoverable
    assert "passwd" not in outcome.reason


# PagerDuty


def test_an_incident_is_triggered_acknowledged_and_resolved() -> None:
    async def test() -> None:
        async with receiver(202) as hook:
            settings = Settings(pagerduty_url=hook.url, pagerduty_key=SecretStr("default-key"))
            async with open_senders(settings) as senders:
                for state in (AlertState.FIRING, AlertState.ACKNOWLEDGED, RESOLVED):
                    one = notification("pagerduty:default", alert(state, severity=Severity.CRITICAL))
                    assert await senders[RecipientKind.PAGERDUTY].send(one) == Sent()
            bodies = [json.loads(body) for _, body in hook.requests]
        assert [body["event_action"] for body in bodies] == ["trigger", "acknowledge", "resolve"]
        assert {body["dedup_key"] for body in bodies} == {"inferwatch model acme helmets/3"}
        assert {body["routing_key"] for body in bodies} == {"default-key"}
        assert bodies[0]["payload"]["severity"] == "critical"

    run(test())


# Alertmanager


def test_a_real_alertmanager_receives_groups_and_resolves_our_alerts(tmp_path: Path) -> None:
    async def test() -> None:
        async with receiver() as hook, alertmanager(tmp_path, hook.url) as url:
            now_ms = round(time.time_ns() / 1e6)  # Alertmanager has no other clock
            begun: dict[str, Any] = {"episode": now_ms - 60_000, "at_ms": now_ms}
            low, slow = alert(**begun), alert(metric="latency_p95_ms", rule_id="slow", **begun)
            other = alert(model_id="vests/1", **begun)
            async with open_senders(Settings(alertmanager_url=url)) as senders:
                there = notification("alertmanager", low, slow, other, at_ms=now_ms)
                assert await senders[RecipientKind.ALERTMANAGER].send(there) == Sent()
                await true(lambda: groups(hook.requests, "firing") == {"helmets/3": 2, "vests/1": 1})
                assert len(await active(url)) == 3
                ended = alert(RESOLVED, 2, episode=now_ms - 60_000, at_ms=now_ms + 1)
                gone = notification("alertmanager", ended, at_ms=now_ms + 1)
                assert await senders[RecipientKind.ALERTMANAGER].send(gone) == Sent()
                assert await senders[RecipientKind.ALERTMANAGER].send(gone) == Sent()  # again, as for five minutes
                await true(lambda: groups(hook.requests, "resolved") == {"helmets/3": 1})
                left = await active(url)
            assert sorted((one["labels"]["model_id"], one["labels"]["alertname"]) for one in left) == [
                ("helmets/3", "slow"),
                ("vests/1", "low-confidence"),
            ]

    run(test())


def groups(requests: list[tuple[dict[str, str], bytes]], status: str) -> dict[str, int]:
    """Alerts of a status that Alertmanager told last of each group."""
    told = {}
    for _, raw in requests:
        body = json.loads(raw)
        assert body["version"] == "4"
        alerts = [one for one in body["alerts"] if one["status"] == status]
        if alerts:
            told[body["groupLabels"]["model_id"]] = len(alerts)
    return told


async def active(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts?active=true") as response:
        alerts = await response.json()
    return [one for one in alerts if one["status"]["state"] == "active"]


# Delivery


@asynccontextmanager
async def delivering(
    senders: Mapping[RecipientKind, Sender], patience: SendPatience
) -> AsyncIterator[tuple[Delivery, dict[str, Outcome]]]:
    done: dict[str, Outcome] = {}
    delivery = Delivery(senders, lambda one, outcome: done.update({one.idempotency_key: outcome}), patience)
    try:
        yield delivery, done
    finally:
        await delivery.stop()


QUICK = SendPatience(attempt_s=0.5, wait_s_first=0.05, wait_s_max=0.2, give_up_s=3, queue_max=3, idle_s=0.2)


def test_who_fails_hangs_or_breaks_off_delays_only_itself_and_is_tried_again() -> None:
    async def test() -> None:
        async with (
            receiver() as well,
            receiver("hang") as hangs,
            receiver(500, 500, 200) as fails,
            receiver("drop", 200) as drops,
            open_senders(Settings(notify_networks=LOCAL)) as senders,
            delivering(senders, QUICK) as (delivery, done),
        ):
            for name, one in (("hangs", hangs), ("fails", fails), ("drops", drops), ("well", well)):
                delivery.put(notification(one.url, idempotency_key=name))
            started = time.monotonic()
            await true(lambda: "well" in done)
            assert time.monotonic() - started < QUICK.attempt_s
            await true(lambda: len(done) == 4)
            assert {name: type(outcome) for name, outcome in done.items()} == {
                "well": Sent,
                "fails": Sent,
                "drops": Sent,
                "hangs": Failed,
            }
            # Taken twice by the one that broke off after it had taken it, under one key.
            assert [headers["Idempotency-Key"] for headers, _ in drops.requests] == ["drops", "drops"]
            assert len(fails.requests) == 3
            assert len(hangs.requests) > 1

    run(test())


def test_what_can_not_work_is_not_tried_again() -> None:
    async def test() -> None:
        async with (
            receiver(404) as hook,
            open_senders(Settings(notify_networks=LOCAL)) as senders,
            delivering(senders, QUICK) as (delivery, done),
        ):
            delivery.put(notification(hook.url))
            await true(lambda: done)
            assert done == {"k1": Failed(False, "HTTP 404 said the receiver")}
            assert len(hook.requests) == 1

    run(test())


def test_a_recipients_queue_is_bounded_and_what_is_too_much_is_reported() -> None:
    async def test() -> None:
        async with (
            receiver("hang") as hook,
            open_senders(Settings(notify_networks=LOCAL)) as senders,
            delivering(senders, QUICK) as (delivery, done),
        ):
            for i in range(6):
                delivery.put(notification(hook.url, idempotency_key=str(i)))
            assert list(done) == ["3", "4", "5"]
            assert delivery.waiting == 3

    run(test())


def test_an_idle_recipients_task_ends_and_begins_again() -> None:
    async def test() -> None:
        async with (
            receiver() as hook,
            open_senders(Settings(notify_networks=LOCAL)) as senders,
            delivering(senders, QUICK) as (delivery, done),
        ):
            delivery.put(notification(hook.url, idempotency_key="1"))
            await true(lambda: not delivery._tasks)
            delivery.put(notification(hook.url, idempotency_key="2"))
            await true(lambda: len(done) == 2)

    run(test())


def ways(hook: Receiver) -> dict[str, tuple[str, dict[str, Any]]]:
    """A recipient of each sender that speaks HTTP, and the settings that lead it to the receiver."""
    address = hook.url.removeprefix("http://").removesuffix("/hook")
    return {
        "webhook": (hook.url, {}),
        "chat": (f"mmost://{address}/abcdefghijklmnopqrstuvwxyz", {}),
        "alertmanager": ("alertmanager", {"alertmanager_url": hook.url}),
        "pagerduty": ("pagerduty:key", {"pagerduty_url": hook.url}),
    }


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("way", ["webhook", "chat", "alertmanager", "pagerduty"])
def test_no_sender_comes_back_before_the_receiver_wants_to_hear_of_it(way: str, status: int) -> None:
    async def test() -> None:
        async with receiver(status, 200) as hook:
            hook.headers["Retry-After"] = "1"
            recipient, fields = ways(hook)[way]
            settings = Settings(notify_networks=LOCAL, **fields)
            async with open_senders(settings) as senders, delivering(senders, QUICK) as (delivery, done):
                for key in ("1", "2"):
                    delivery.put(notification(recipient, idempotency_key=key))
                await true(lambda: hook.requests)
                began = time.monotonic()
                await true(lambda: len(done) == 2)
                assert time.monotonic() - began >= 0.9
                assert done == {"1": Sent(), "2": Sent()}
                assert len(hook.requests) == 3

    run(test())


@pytest.mark.parametrize("way", ["webhook", "chat", "alertmanager", "pagerduty"])
def test_who_wants_to_be_left_alone_for_longer_than_we_try_is_given_up_at_once(way: str) -> None:
    async def test() -> None:
        async with receiver(429) as hook:
            hook.headers["Retry-After"] = "86400"
            recipient, fields = ways(hook)[way]
            settings = Settings(notify_networks=LOCAL, **fields)
            async with open_senders(settings) as senders, delivering(senders, QUICK) as (delivery, done):
                delivery.put(notification(recipient))
                await true(lambda: done)
                assert isinstance(outcome := done["k1"], Failed)
                assert "HTTP 429" in outcome.reason
                assert len(hook.requests) == 1

    run(test())


def test_a_chats_answer_says_whether_to_try_again() -> None:
    async def test() -> None:
        for status, recoverable in ((404, False), (401, False), (500, True), (429, True)):
            async with receiver(status) as hook, open_senders(Settings(notify_networks=LOCAL)) as senders:
                outcome = await senders[RecipientKind.CHAT].send(notification(ways(hook)["chat"][0]))
            assert isinstance(outcome, Failed)
            assert (outcome.recoverable, outcome.reason) == (recoverable, f"mmost answers HTTP {status}")

    run(test())


def test_of_a_chats_two_channels_the_one_that_has_it_does_not_get_it_again() -> None:
    async def test() -> None:
        async with receiver(200, 500, 200) as hook, open_senders(Settings(notify_networks=LOCAL)) as senders:
            address = hook.url.removeprefix("http://").removesuffix("/hook")
            recipient = f"mmost://{address}/abcdefghijklmnopqrstuvwxyz?channels=one,two"
            async with delivering(senders, QUICK) as (delivery, done):
                delivery.put(notification(recipient))
                await true(lambda: done)
                assert done == {"k1": Sent()}
            channels = [json.loads(body)["channel"] for _, body in hook.requests]
            assert len(channels) == 3
            assert channels[1] == channels[2] != channels[0]

    run(test())
