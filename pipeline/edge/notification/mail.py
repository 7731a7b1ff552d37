"""Mail, by the operator's SMTP server: text and HTML, threads by group, a Message-ID that is equal when sent twice."""

import asyncio
import hashlib
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.header import Header
from email.message import EmailMessage
from email.policy import Policy
from email.utils import formataddr, formatdate, parseaddr
from pathlib import Path
from typing import Literal

from pipeline.core.notifying.notification import Notification
from pipeline.core.notifying.recipients import mail_addresses
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from pipeline.edge.notification.progress import SentSoFar
from pipeline.edge.notification.wording import html, subject, text

TIMEOUT_S = 20.0
Security = Literal["starttls", "tls", "plain"]


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail goes first."""

    host: str
    port: int = 587
    security: Security = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = "inferwatch@localhost"
    ca_file: Path | None = None


class _Text(str):
    """A header that is text: email's own would decode a name like =?utf-8?q?...?=, line breaks and all.

    The two members below are what email asks of a header.
    """

    name = "Subject"
    max_count = 1

    def fold(self, *, policy: Policy) -> str:
        """The header's lines."""
        plain = self.isascii() and "=?" not in self
        encoded = Header(str(self), "us-ascii" if plain else "utf-8", header_name=self.name)
        return f"{self.name}: {encoded.encode(linesep=policy.linesep)}{policy.linesep}"


Answer = tuple[int, bytes]


class Mail:
    """Recipients are mailto:NAME@HOST, several separated by commas: who has it does not get it again."""

    def __init__(self, server: MailServer, public_url: str) -> None:
        """A connection for each mail: they are few."""
        self._server, self._public_url = server, public_url
        # Of each address: no answer if it has the mail, else why it never will.
        self._progress: SentSoFar[dict[str, Answer | None]] = SentSoFar(dict)

    async def send(self, notification: Notification) -> Outcome:
        """Hands it to the server."""
        if not self._server.host:
            return Failed(False, "INFERWATCH_SMTP_HOST is not set")
        if why := mistake(notification.recipient):
            return Failed(False, why)
        addresses = mail_addresses(notification.recipient)
        done = self._progress.of(notification)
        message = mail(notification, self._server.sender, addresses, self._public_url)
        refused = await asyncio.to_thread(self._hand_over, message, [one for one in addresses if one not in done])
        if isinstance(refused, Failed):
            return refused
        later = {address: answer for address, answer in refused.items() if 400 <= answer[0] < 500}
        done |= {address: refused.get(address) for address in addresses if address not in later and address not in done}
        if later:
            return Failed(True, _said(later))
        self._progress.over(notification)
        never = {address: answer for address, answer in done.items() if answer}
        return Failed(False, _said(never)) if never else Sent()

    def _hand_over(self, message: EmailMessage, addresses: list[str]) -> Mapping[str, Answer] | Failed:
        """Whom the server refused, and how."""
        server = self._server
        context = ssl.create_default_context(cafile=server.ca_file)
        try:
            with (
                smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
                if server.security == "tls"
                else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
            ) as connection:
                if server.security == "starttls":
                    connection.starttls(context=context)
                if server.user:
                    connection.login(server.user, server.password)
                return connection.send_message(message, to_addrs=addresses)
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients
        except smtplib.SMTPResponseException as error:
            what = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else ""
            return Failed(400 <= error.smtp_code < 500, f"SMTP {error.smtp_code} {what}".rstrip())
        except smtplib.SMTPNotSupportedError as error:
            return Failed(False, f"the server cannot: {error}")
        except ssl.SSLCertVerificationError as error:
            return Failed(False, f"the server's certificate is not valid: {error.verify_message}")
        except (smtplib.SMTPException, OSError) as error:
            return Failed(True, f"no connection to the mail server, or it broke: {error}")


def mail(notification: Notification, sender: str, addresses: list[str], public_url: str) -> EmailMessage:
    """The message."""
    name, address = parseaddr(sender)
    domain = address.partition("@")[2] or "inferwatch"
    thread = hashlib.blake2b(notification.group.encode(), digest_size=12).hexdigest()
    message = EmailMessage()
    message["From"] = formataddr((name or "inferwatch", address))
    message["To"] = ", ".join(addresses)
    message["Subject"] = _Text(subject(notification))
    message["Date"] = formatdate(notification.at_ms / 1000)
    message["Message-ID"] = f"<{notification.idempotency_key}@{domain}>"
    message["References"] = f"<{thread}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # no holiday answers
    message.set_content(text(notification, public_url))
    message.add_alternative(html(notification, public_url), subtype="html")
    return message


def mistake(recipient: str) -> str:
    """Why it can never be sent to; "": nothing is known against it."""
    return "" if mail_addresses(recipient) else "the recipient is no mail address: expected mailto:NAME@HOST"


def _said(refused: Mapping[str, Answer]) -> str:
    words = (
        f"{address}: {code} {said.decode('utf-8', 'replace')}" for address, (code, said) in sorted(refused.items())
    )
    return f"refused by the mail server: {'; '.join(words)}"
