"""Slack, Teams, Discord, Telegram and others, by apprise.

Of its plugins only those are allowed that speak HTTP to one service: others talk to the desktop, read files or start
threads that our guard does not see. Its connections are judged as they are made (`Targets.guarding`).

Each service reads the text in a syntax of its own, and not each plugin escapes all of it: what others wrote is broken
up by a blank of no width wherever one of them would see a mention, a link or a tag (`broken_up`).
"""

import asyncio
import logging
import re
from contextvars import ContextVar
from typing import Any

import apprise
import requests
from apprise.plugins.base import _delivery_tracker
from apprise.plugins.discord import NotifyDiscord

from pipeline.core.notifying.notification import Notification
from pipeline.core.words import shown
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from pipeline.edge.notification.posting import asked_wait_s, may_work_later
from pipeline.edge.notification.progress import SentSoFar
from pipeline.edge.notification.targets import Targets
from pipeline.edge.notification.wording import emphasis, subject, text

_SCHEMES = """
    slack workflow workflows discord tgram gchat mmost mmosts rocket rockets matrix matrixs zulip wxteams
    ntfy ntfys gotify gotifys pover pbul guilded feishu lark dingtalk wecombot line signl4 spike pagertree
    synology synologys twist ryver revolt ifttt prowl join simplepush
"""
SCHEMES = frozenset(_SCHEMES.split())
# Some plugins read a template from a path, or from an address, that the query names.
_FILES = re.compile(r"[?&][^=&]*(?:template|attach|config|keyfile)[^=&]*=|[?&][^=&]*%", re.IGNORECASE)
_SYNTAX = re.compile(r"[@<&`]|](?=\()|:(?=//)|([*_~|])(?=\1)")
_NO_WIDTH = "\u200b"
_ANSWER_BYTES_MAX = 2000
_TYPES = {
    "critical": apprise.NotifyType.FAILURE,
    "warning": apprise.NotifyType.WARNING,
    "info": apprise.NotifyType.INFO,
    "resolved": apprise.NotifyType.SUCCESS,
}


class Chat:
    """Recipients are apprise's URLs: slack://TOKEN/..., tgram://BOT/CHAT, ..."""

    def __init__(self, targets: Targets, public_url: str) -> None:
        """Judges where it connects by `targets`."""
        self._targets, self._public_url = targets, public_url
        self._progress: SentSoFar[set[Any]] = SentSoFar(set)
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs addresses and answers; we say what failed

    async def send(self, notification: Notification) -> Outcome:
        """Sends it once, to those of its channels that do not have it yet."""
        if why := await asyncio.to_thread(mistake, notification.recipient):  # the first one loads apprise's plugins
            return Failed(False, why)
        outcome = await asyncio.to_thread(self._notify, notification, self._progress.of(notification))
        if isinstance(outcome, Sent) or not outcome.recoverable:
            self._progress.over(notification)
        return outcome

    def _notify(self, notification: Notification, has_it: set[Any]) -> Outcome:
        service = _service(notification.recipient)
        service.redirects = False  # also where the address asks for them
        _delivery_tracker.set(has_it)  # of this thread's context, which ends with the call
        answers: list[requests.Response] = []
        _answers.set(answers)
        with self._targets.guarding() as refused:
            sent = service.notify(
                body=text(notification, self._public_url, broken_up),
                title=subject(notification, broken_up),
                notify_type=_TYPES[emphasis(notification)],
                body_format=apprise.NotifyFormat.TEXT,
            )
        if sent:
            return Sent()
        if refused:
            return Failed(False, refused[0])
        return _failed(scheme_of(notification.recipient), [one for one in answers if not one.ok])


def broken_up(name: str) -> str:
    """A name that nobody is called by, and that leads nowhere."""
    return _SYNTAX.sub(lambda found: found[0] + _NO_WIDTH, shown(name))


def scheme_of(recipient: str) -> str:
    """What comes before the colon."""
    return recipient.partition(":")[0].lower()


def mistake(recipient: str) -> str:
    """Why a recipient can never be sent to; "": nothing is known against it."""
    scheme = scheme_of(recipient)
    if scheme not in SCHEMES:
        return f"there is no way to send to {shown(scheme)}:"
    if _FILES.search(recipient):
        return "an address that names a template is refused: it would read a file of ours"
    return (
        ""
        if recipient.partition("://")[2].strip("/") and _service(recipient)
        else f"the address is not one of {scheme}"
    )


def _service(recipient: str) -> Any:
    """Apprise's service; None: it knows none by that address."""
    service = apprise.Apprise.instantiate(recipient, asset=_ASSET, suppress_exceptions=True)
    if not isinstance(service, apprise.NotifyBase):
        return None
    if isinstance(service, NotifyDiscord):
        post = service._send
        # Only whom the address itself names (ping=) is called: apprise says so under a name that Discord does not know.
        setattr(  # noqa: B010 - a method of one object
            service,
            "_send",
            lambda payload, **others: post(
                payload | {"allowed_mentions": payload.pop("allow_mentions", {"parse": []})}, **others
            ),
        )
    return service


def _failed(scheme: str, answers: list[requests.Response]) -> Failed:
    """What the answers that were no success say of the next attempt."""
    if not answers:
        return Failed(True, f"{scheme} did not take it")
    worst = next((one for one in answers if may_work_later(one.status_code)), answers[-1])
    said = worst.content[:_ANSWER_BYTES_MAX].decode("utf-8", "replace")
    wait_s = max(asked_wait_s(one.headers, said if one is worst else "") for one in answers)
    return Failed(may_work_later(worst.status_code), f"{scheme} answers HTTP {worst.status_code}", wait_s)


class _Listening(requests.adapters.HTTPAdapter):
    """Keeps the answers, of which apprise tells no more than that they were no success."""

    def send(self, *args: Any, **others: Any) -> requests.Response:
        response = super().send(*args, **others)
        if (answers := _answers.get()) is not None:
            answers.append(response)
        return response


_answers: ContextVar[list[requests.Response] | None] = ContextVar("answers", default=None)
requests.sessions.HTTPAdapter = _Listening  # type: ignore[attr-defined]  # for good; elsewhere it only passes on
_ASSET = apprise.AppriseAsset(
    app_id="inferwatch",
    app_desc="inferwatch",
    http_redirects=False,
    secure_logging=True,
    storage_mode=apprise.PersistentStoreMode.MEMORY,
)
