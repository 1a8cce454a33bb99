"""Clients of event streams as they are: they vanish in the middle of a frame, resume anywhere, or never read."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, cast

import httptools

from api.http.responses import encoded
from api.jobs.documents import history_item_of_event
from domain.envelope import Recorded
from domain.json_type import Json
from services.database import Unavailable
from services.ledger import Ledger

SILENCE_S_MAX = 20.0
"""Comments come far more often; a stream that is silent for so long hangs."""


class Served(Protocol):
    """An API on a port of this machine."""

    @property
    def port(self) -> int:
        """Where it listens, when it does."""


@dataclass
class Session:
    """What one connection of an owner brought: events in the order in which they came, and their progress aside.

    `after` is the position it asked for; without one it began somewhere from `not_before` to `not_after`.
    """

    owner: str
    after: int | None
    not_before: int = 0
    not_after: int = 0
    events: list[Json] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    hung_up: bool = False
    """The server ended the stream."""

    @property
    def last(self) -> int:
        """The position of the last whole event; 0 before the first."""
        return self.ids[-1] if self.ids else 0


class Wire:
    """The bytes of a stream as they come: whole frames go into the session, the rest is lost with it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._parser = httptools.HttpResponseParser(self)
        self._buffer = b""
        self._began = False
        self.status: int | None = None

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._session.hung_up = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser, without the marks of chunks."""
        if self.status != 200:
            return
        *frames, self._buffer = (self._buffer + body).split(b"\n\n")
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.decode().split("\n") if not line.startswith(":"))
            if "id" in fields:
                data = json.loads(fields["data"])
                assert fields["event"] == data["type"]
                self._session.ids.append(int(fields["id"]))
                self._session.events.append(data)


def request_of(key: str, after: int | None) -> bytes:
    """The head of a request for a stream."""
    resume = "" if after is None else f"Last-Event-ID: {after}\r\n"
    return f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{resume}\r\n".encode()


@asynccontextmanager
async def opened(server: Served, key: str, session: Session) -> AsyncIterator[tuple[asyncio.StreamReader, Wire] | None]:
    """A stream whose head has come; None where the server had no place or no database for it just now.

    In the end the connection is reset, whatever is on its way.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    wire = Wire(session)
    try:
        writer.write(request_of(key, session.after))
        async with asyncio.timeout(SILENCE_S_MAX):
            while wire.status is None and (data := await reader.read(64)):
                wire.feed(data)
        assert wire.status in {200, 429, 503, None}, wire.status
        yield (reader, wire) if wire.status == 200 else None
    finally:
        cast("asyncio.Transport", writer.transport).abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@contextmanager
def stalled(server: Served, keys: Sequence[str]) -> Iterator[list[socket.socket]]:
    """Clients that ask for streams and never read a byte: their sockets."""
    with ExitStack() as stack:
        sockets = []
        for key in keys:
            slow = stack.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before connecting: else the window is larger
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(request_of(key, None))
            sockets.append(slow)
        yield sockets


@dataclass
class Client:
    """Somebody who follows an owner's events, badly. `last`: everything up to there was seen."""

    owner: str
    key: str
    servers: Sequence[Served]
    ledger_head: Callable[[], int]
    chance: random.Random
    sessions: list[Session] = field(default_factory=list)
    last: int = 0

    async def until(self, over: asyncio.Event) -> None:
        """Connect, drop and resume until it is over."""
        while not over.is_set():
            head = await self._head()
            anywhere = [0, head, None, self.chance.randint(0, head)]
            after = self.last if self.chance.random() < 0.6 else self.chance.choice(anywhere)
            await self._connect(after, int(10 ** self.chance.uniform(1, 5)), over.is_set)

    async def finish(self, head: int) -> None:
        """Resume where it stopped until everything up to `head` is seen."""
        while self.last < head:
            await self._connect(self.last, 10**9, lambda: False, head)

    async def _connect(
        self, after: int | None, bytes_max: int, is_over: Callable[[], bool], head: int | None = None
    ) -> None:
        """Read so many bytes at most, and reset the connection wherever that is."""
        session = Session(self.owner, after, not_before=await self._head())
        with suppress(ConnectionError):
            async with opened(self.chance.choice(self.servers), self.key, session) as stream:
                if stream is None:
                    await asyncio.sleep(0.05)
                    return
                session.not_after = await self._head()
                self.sessions.append(session)
                reader, wire = stream
                taken = 0
                while taken < bytes_max and not session.hung_up and not is_over():
                    if head is not None and session.last >= head:
                        break
                    async with asyncio.timeout(SILENCE_S_MAX):
                        data = await reader.read(self.chance.choice([1, 7, 100, 4096, 65536]))
                    if not data:
                        break
                    taken += len(data)
                    wire.feed(data)
        if after is not None and after <= self.last:
            self.last = max(self.last, session.last)

    async def _head(self) -> int:
        while True:
            with suppress(Unavailable):
                return await asyncio.to_thread(self.ledger_head)
            await asyncio.sleep(0.02)


def told(ledger: Ledger, owner: str) -> list[Json]:
    """What every client of the owner should hear, from the first event to the last."""
    events = ledger.read(0, 1_000_000)
    assert all(isinstance(event, Recorded) for event in events)
    return [
        json.loads(encoded(history_item_of_event(event)))
        for event in events
        if isinstance(event, Recorded) and event.envelope.owner == owner
    ]


def holds(session: Session, expected: Sequence[Json]) -> None:
    """What it heard is the owner's sequence from where it began, without a gap, up to where it stopped."""
    positions = [item["position"] for item in expected]
    assert session.ids == [event["position"] for event in session.events]
    if not session.ids:
        return
    first = positions.index(session.ids[0])
    before = positions[first - 1] if first else 0
    if session.after is None:
        assert before <= session.not_after
        assert session.ids[0] > session.not_before
    else:
        assert before <= session.after < session.ids[0]
    assert session.events == expected[first : first + len(session.events)]
