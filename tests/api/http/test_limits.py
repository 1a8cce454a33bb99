"""Bounds over real sockets: what an owner may ask, how large and slow a request may be, how many connections hold."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http import protocol as connections
from api.http.identity import Identity
from api.http.limits import request_limits as limits
from api.http.limits.rates import Rates
from api.http.limits.request_limits import BoundedRequests, RateLimit
from tests.api.serving import TOKEN, AServer, Site, until
from tests.conftest import Clock

PATIENCE_S = 60.0
HEAD = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"


class Line:
    """A bare connection, to send what no proper client does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, text: str | bytes) -> None:
        """As it is. Nothing happens when the server has hung up."""
        with suppress(ConnectionError):
            self._writer.write(text.encode() if isinstance(text, str) else text)
            await self._writer.drain()

    async def answer(self) -> tuple[int, Any]:
        """Status and body of one answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length")
            )
            body = await self._reader.readexactly(int(length))
        return int(head.split()[1]), json.loads(body)

    async def is_closed(self) -> bool:
        """Whether the server hangs up, within the test's patience."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass
        return True

    async def trickle(self, piece: bytes, every_s: float) -> None:
        """Send it again and again, until the server hangs up."""
        while not self._reader.at_eof() and not self._writer.is_closing():
            await self.send(piece)
            await asyncio.sleep(every_s)


@asynccontextmanager
async def line(server: AServer) -> AsyncIterator[Line]:
    """Connected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# How often.


def test_a_burst_is_taken_and_then_what_the_rate_allows(clock: Clock) -> None:
    rates = Rates(2.0, 3, clock=lambda: clock().timestamp())
    assert [rates.take("ada") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [rates.take("ada") for _ in range(2)] == [0.5, 0.5]  # waiting costs nothing
    assert rates.take("bob") == 0.0
    clock.tick(0.5)
    assert [rates.take("ada") == 0.0 for _ in range(2)] == [True, False]
    clock.tick(3600)
    assert [rates.take("ada") == 0.0 for _ in range(4)] == [True, True, True, False]


def test_the_owners_remembered_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.limits.rates.NAMES_MAX", 10)
    rates = Rates(1.0, 1, clock=lambda: clock().timestamp())
    for number in range(25):
        rates.take(f"owner-{number}")
    assert len(rates._buckets) == 10


class SignedIn:
    """Stands for the gate."""

    def __init__(self, app: ASGIApp, owner: str, *, is_admin: bool = False) -> None:
        self._app = app
        self._identity = Identity(owner, is_admin=is_admin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            scope["darkroom.identity"] = self._identity
        await self._app(scope, receive, send)


async def fine(_: Request) -> Response:
    return PlainTextResponse("fine")


@pytest.mark.parametrize(
    ("is_admin", "path", "statuses"),
    [
        (False, "/v1/jobs", [200, 200, 429, 429]),
        (True, "/v1/jobs", [200, 200, 200, 200]),
        (False, "/healthz", [200, 200, 200, 200]),
    ],
)
async def test_too_many_requests_are_answered_with_the_time_to_retry(
    is_admin: bool, path: str, statuses: list[int]
) -> None:
    app = Starlette(routes=[Route("/v1/jobs", fine), Route("/healthz", fine)])
    limited = SignedIn(RateLimit(app, Rates(0.1, 2)), "ada", is_admin=is_admin)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://x") as client:
        answers = [await client.get(path) for _ in statuses]
    assert [answer.status_code for answer in answers] == statuses
    for answer in answers:
        if answer.status_code == 429:
            assert (answer.json()["code"], answer.headers["Retry-After"]) == ("rate_limited", "10")
            assert answer.headers["Content-Type"] == "application/problem+json"


# How large.


async def test_a_head_that_is_whole_but_too_large_is_refused(site: Site, server: AServer) -> None:
    async with line(server) as sending:
        await sending.send(f"{HEAD}X-Filler: {'x' * limits.HEAD_BYTES_MAX}\r\n\r\n")
        status, problem = await sending.answer()
        assert (status, problem["code"]) == (431, "head_too_large")
        assert await sending.is_closed()


@pytest.mark.parametrize("characters", [40_000, 65_535, 70_000, 1_000_000])
async def test_an_address_that_is_too_long_is_a_head_that_is_too_large(
    site: Site, server: AServer, characters: int
) -> None:
    async with line(server) as sending:
        await sending.send(f"GET /{'a' * characters} HTTP/1.1\r\nHost: x\r\n\r\n")
        status, problem = await sending.answer()
        assert (status, problem["code"]) == (431, "head_too_large")


@pytest.mark.parametrize("piece", [b"X-A: b\r\n" * 100, b"x" * 1000], ids=["many headers", "one header"])
async def test_a_head_without_an_end_is_cut_off(site: Site, server: AServer, piece: bytes) -> None:
    async with line(server) as sending:
        await sending.send(HEAD + "X-Endless: ")
        flooding = asyncio.create_task(sending.trickle(piece, 0))
        status, problem = await sending.answer()
        assert (status, problem["code"]) == (431, "head_too_large")
        assert await sending.is_closed()
        flooding.cancel()


async def test_many_requests_of_one_connection_are_not_counted_as_one_head(site: Site, server: AServer) -> None:
    body = b'{"job_type": "sdxl_image_fast", "prompt": "%s"}' % (b"fog " * 4000)
    async with line(server) as sending:
        for _ in range(5):
            await sending.send(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, _ = await sending.answer()
            assert status in {202, 422}


# How slow.


@pytest.mark.parametrize("begun", ["", "POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"])
async def test_a_connection_that_never_asks_is_closed(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.3)
    async with line(server) as sending:
        await sending.send(begun)
        status, problem = await sending.answer()
        assert (status, problem["code"]) == (408, "request_timeout")
        assert await sending.is_closed()


async def test_a_head_that_trickles_is_cut_off_also_when_it_is_not_the_first(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.5)
    async with line(server) as sending:
        await sending.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await sending.answer())[0] == 200
        await sending.send("GET /healthz HTTP/1.1\r\nX-Slow: ")
        trickling = asyncio.create_task(sending.trickle(b"x", 0.05))
        assert (await sending.answer())[0] == 408
        assert await sending.is_closed()
        trickling.cancel()


async def test_a_body_that_trickles_is_given_up(site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_WAIT_S_MAX", 0.5)
    async with line(server) as sending:
        await sending.send(f"{HEAD}Content-Length: 1000000\r\n\r\n")
        trickling = asyncio.create_task(sending.trickle(b" ", 0.05))
        status, problem = await sending.answer()
        assert (status, problem["code"]) == (408, "request_timeout")
        assert await sending.is_closed()
        trickling.cancel()
    assert site.ledger.head() == 0


async def test_a_slow_line_that_keeps_coming_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_WAIT_S_MAX", 0.2)
    monkeypatch.setattr(limits, "BODY_BYTES_PER_S_MIN", 1000)
    parts = [b"x" * 100] * 8

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

    taken: list[bytes] = []

    async def take(_: Scope, receive: Receive, __: Send) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(message["body"])
            more = message["more_body"]
            await asyncio.sleep(0.05)  # what we do with it is not the client's fault

    async def send(_: Any) -> None:
        """Nobody listens."""

    await BoundedRequests(take)({"type": "http", "method": "POST", "headers": [], "query_string": b""}, receive, send)
    assert len(b"".join(taken)) == 800


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S_MAX", 0.3)
    ended = asyncio.Event()

    async def endless(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with asyncio.timeout(PATIENCE_S):
            while not ended.is_set():
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                if len(serving._server.server_state.connections) == 0:  # type: ignore[union-attr]
                    ended.set()

    serving = AServer(endless)  # type: ignore[arg-type]
    await serving.start()
    async with line(serving) as sending:
        await sending.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
    serving._server.should_exit = True  # type: ignore[union-attr]
    await serving._serving  # type: ignore[misc]


# How many.


async def test_connections_are_bounded_and_the_one_that_waits_longest_makes_room(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    async with line(server) as first, line(server) as second:
        await second.send("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN + "\r\n\r\n")
        await until(lambda: bool(server.app.state.running.feed._subscriptions))
        async with line(server) as third:
            status, problem = await first.answer()
            assert (status, problem["code"]) == (503, "too_many_connections")
            assert await first.is_closed()
            await third.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await third.answer())[0] == 200
    await until(lambda: server.connections == 0)


async def test_where_every_connection_has_a_request_in_work_a_further_one_is_refused(
    site: Site, server: AServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 1)
    async with server.events(), line(server) as further:
        status, problem = await further.answer()
        assert (status, problem["code"]) == (503, "too_many_connections")
        assert await further.is_closed()
