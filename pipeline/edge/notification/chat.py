"""Slack, Teams, Discord, Telegram and others, by apprise.

Of its plugins only those are allowed that speak HTTP to one service: others talk to the desktop, read files or start
threads that our guard does not see. Its connections are judged as they are made (`Targets.guarding`).
"""

import asyncio
import logging
import re

import apprise

from pipeline.core.notifying.notification import Notification
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
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
        self._asset = apprise.AppriseAsset(
            app_id="inferwatch",
            app_desc="inferwatch",
            http_redirects=False,
            secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
        )
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs addresses and answers; we say what failed

    async def send(self, notification: Notification) -> Outcome:
        """Sends it once."""
        scheme = notification.recipient.partition(":")[0].lower()
        if scheme not in SCHEMES:
            return Failed(False, f"there is no way to send to {scheme}:")
        if _FILES.search(notification.recipient):
            return Failed(False, "an address that names a template is refused: it would read a file of ours")
        return await asyncio.to_thread(self._notify, notification, scheme)

    def _notify(self, notification: Notification, scheme: str) -> Outcome:
        service = apprise.Apprise.instantiate(notification.recipient, asset=self._asset, suppress_exceptions=True)
        if not isinstance(service, apprise.NotifyBase):
            return Failed(False, f"the address is not one of {scheme}")
        service.redirects = False  # also where the address asks for them
        with self._targets.guarding() as refused:
            sent = service.notify(
                body=text(notification, self._public_url),
                title=subject(notification),
                notify_type=_TYPES[emphasis(notification)],
                body_format=apprise.NotifyFormat.TEXT,
            )
        if sent:
            return Sent()
        if refused:
            return Failed(False, refused[0])
        return Failed(True, f"{scheme} did not take it")
