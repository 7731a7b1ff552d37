"""Every way out, from the settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from pipeline.config import Settings
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.edge.notification.alertmanager import Alertmanager
from pipeline.edge.notification.chat import Chat
from pipeline.edge.notification.mail import Mail, MailServer
from pipeline.edge.notification.outcome import Sender
from pipeline.edge.notification.pagerduty import PagerDuty
from pipeline.edge.notification.posting import guarded_session, own_session
from pipeline.edge.notification.targets import Targets, networks
from pipeline.edge.notification.webhook import Webhook


@asynccontextmanager
async def open_senders(settings: Settings) -> AsyncIterator[Mapping[RecipientKind, Sender]]:
    """All senders while the context lasts."""
    targets = Targets(networks(settings.notify_networks))
    server = MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user,
        settings.smtp_password.get_secret_value(),
        settings.smtp_from,
        settings.smtp_ca_file,
    )
    link = settings.public_url
    async with guarded_session(targets) as guarded, own_session() as own:
        yield {
            RecipientKind.MAIL: Mail(server, link),
            RecipientKind.ALERTMANAGER: Alertmanager(own, settings.alertmanager_url, link),
            RecipientKind.PAGERDUTY: PagerDuty(
                own, settings.pagerduty_url, settings.pagerduty_key.get_secret_value(), link
            ),
            RecipientKind.WEBHOOK: Webhook(guarded, targets, settings.webhook_secret.get_secret_value(), link),
            RecipientKind.CHAT: Chat(targets, link),
        }
