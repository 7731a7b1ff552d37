"""What notifications are sent to in tests: HTTP receivers that answer or do not, a mail server, Alertmanager."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from pipeline.edge.local.ports import HOST, free_port

DEADLINE_S = 20.0


@dataclass(slots=True)
class Receiver:
    """An HTTP server. `script`: what it does with each request in turn, the last for all that follow.

    A number is a status; "hang" never answers; "drop" reads all and closes without an answer.
    """

    url: str
    script: list[int | str] = field(default_factory=lambda: [200])
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # of the answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Does as the script says."""
        self.requests.append((dict(request.headers), await request.read()))
        how = self.script[min(len(self.requests), len(self.script)) - 1]
        if how == "hang":
            await asyncio.Event().wait()
        if how == "drop":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        assert isinstance(how, int)
        return web.Response(status=how, text="said the receiver", headers=self.headers)

    async def until(self, count: int) -> None:
        """Waits for so many requests."""
        await true(lambda: len(self.requests) >= count)


@asynccontextmanager
async def receiver(*script: int | str) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    port = free_port()
    one = Receiver(f"http://{HOST}:{port}/hook", list(script) or [200])
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", one.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield one
    finally:
        await runner.cleanup()


async def true(condition: Any) -> None:
    """Waits until it is."""
    until_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class Post:
    """A mail server and what it was given."""

    port: int
    mails: list[tuple[Envelope, EmailMessage]] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)  # address -> answer

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient, or does not."""
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Takes a mail."""
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append((envelope, message))
        return "250 taken"


@contextmanager
def post_office(**options: Any) -> Iterator[Post]:
    """A real SMTP server on a free port."""
    post = Post(free_port())
    controller = Controller(post, hostname=HOST, port=post.port, **options)
    controller.start()
    try:
        yield post
    finally:
        controller.stop()


def knows(user: str, password: str) -> Any:
    """aiosmtpd's way to ask who may send."""

    def ask(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        return AuthResult(
            success=(given.login, given.password) == (user.encode(), password.encode()),
            handled=False,  # or the server says nothing
        )

    return ask


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not here: it makes the certificate of the mail server")
    cert, key = directory / "cert.pem", directory / "key.pem"
    wanted = f"-newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:{HOST}"
    subprocess.run(
        ["openssl", "req", "-x509", *wanted.split(), "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


@asynccontextmanager
async def alertmanager(directory: Path, hook: str) -> AsyncIterator[str]:
    """A real Alertmanager that groups by model and tells `hook`; its address."""
    names = ("prometheus-alertmanager", "alertmanager")
    binary = next((found for name in names if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no Alertmanager here: install the Debian package prometheus-alertmanager")
    config = directory / "alertmanager.yml"
    config.write_text(
        "route:\n  receiver: hook\n  group_by: [workspace, model_id]\n"
        "  group_wait: 200ms\n  group_interval: 500ms\n  repeat_interval: 1h\n"
        f"receivers:\n  - name: hook\n    webhook_configs:\n      - url: {hook}\n        send_resolved: true\n"
    )
    port = free_port()
    with (directory / "alertmanager.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--config.file={config}",
            f"--storage.path={directory / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",
            stdout=log,
            stderr=log,
        )
    url = f"http://{HOST}:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            until_s = time.monotonic() + DEADLINE_S
            while not await _answers(session, f"{url}/-/ready"):
                assert process.returncode is None, (directory / "alertmanager.log").read_text()
                assert time.monotonic() < until_s, "Alertmanager does not answer"
                await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
