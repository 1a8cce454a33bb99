"""Clients of event streams as they are: they vanish in the middle of a frame, resume anywhere, or never read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import httptools

from tests.api.serving import AServer, Json

SILENCE_S_MAX = 20.0
"""Comments come far more often; a stream that is silent for so long hangs."""


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
async def opened(
    server: AServer, key: str, session: Session
) -> AsyncIterator[tuple[asyncio.StreamReader, Wire] | None]:
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
def stalled(server: AServer, keys: Sequence[str]) -> Iterator[list[socket.socket]]:
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
