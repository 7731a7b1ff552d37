"""What is wrong with ClickHouse is said in one line that a person can act on."""

import asyncio
import socket

import pytest

from pipeline import config
from pipeline.edge.store.client import ClickHouse, ClickHouseRefused, ClickHouseUnavailable

SAYS_NO = b"Code: 516. DB::Exception: ann: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)\nmore"


def says(url: str) -> ClickHouseUnavailable:
    """What a question to that address ends with."""

    async def ask() -> None:
        settings = config.load({}, {"clickhouse_url": url, "clickhouse_user": "ann"})
        async with ClickHouse(settings, "writer") as store:
            await store.ask("SELECT 1")

    with pytest.raises(ClickHouseUnavailable) as raised:
        asyncio.run(ask())
    assert "\n" not in str(raised.value)
    return raised.value


def test_a_server_that_is_not_there_is_said_with_the_setting_to_look_at() -> None:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert str(says(url)) == (
            f"ClickHouse at {url} does not answer (connection refused); "
            "check INFERWATCH_CLICKHOUSE_URL and that the server runs"
        )


def test_a_name_that_is_none_is_said_in_the_systems_words() -> None:
    assert "does not answer (" in str(says("http://no-such-host.invalid:8123"))


def test_a_server_that_lets_nobody_in_is_said_in_its_own_words() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 403 Forbidden\r\nX-ClickHouse-Exception-Code: 516\r\nContent-Length: {len(SAYS_NO)}\r\n\r\n"
        writer.write(head.encode() + SAYS_NO)
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = config.load({}, {"clickhouse_url": f"http://127.0.0.1:{port}", "clickhouse_user": "ann"})
        async with server, ClickHouse(settings, "writer") as store:
            await store.ask("SELECT 1")

    with pytest.raises(ClickHouseRefused, match=r"does not let ann in: ann: Authentication failed.*check user and"):
        asyncio.run(ask())
