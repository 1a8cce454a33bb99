"""A connection to the API, bounded: how many there are, how long and large a head may be, how long a reader may stall.

uvicorn waits without end for the first request of a connection, for the rest of a head, and for a client that does not
read; and it keeps a head of any size.
"""

import asyncio
import resource
from asyncio.events import TimerHandle
from typing import Final

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import HeadTooLarge, HeadTooSlow, TooManyConnections, problem_of
from api.limits import HEAD_BYTES_MAX

CONNECTIONS_MAX: Final = 2_000
"""Of one process: a thousand event streams, and as many that ask."""

FILES_KEPT: Final = 128
"""Of the files that a process may open: for Postgres, NATS and the object store."""

HEAD_S_MAX: Final = 10.0
"""From the connection, or the first byte of a further request, to the end of its head."""

STALL_S_MAX: Final = 30.0
"""So long a client may leave 64 kB unread before it is cut off."""


def connections_max() -> int:
    """How many are taken, by what the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS_MAX, files - FILES_KEPT))


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with bounds: what is over them is answered with a problem if possible, and closed."""

    _in_head = True
    _heads = 0
    _head_bytes = 0
    _head_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > connections_max():
            self._refuse(problem_of(TooManyConnections()))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._end_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; the parser keeps what it has of a head, so that is counted."""
        heads = self._heads
        if self._in_head and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self._in_head and heads == self._heads and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(problem_of(HeadTooLarge(HEAD_BYTES_MAX)))

    def on_message_begin(self) -> None:
        """A request begins. Its application may hang up on a client that does not read: see api/stream.py."""
        super().on_message_begin()
        self.scope["darkroom.hang_up"] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._heads += 1
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole: what comes now is another head."""
        self._in_head = True
        self.scope["darkroom.body_is_here"] = True  # type: ignore[typeddict-unknown-key]
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S_MAX, self._head_too_slow)

    def _head_too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(problem_of(HeadTooSlow(HEAD_S_MAX)))

    def _refuse(self, answer: Response) -> None:
        """Answer without an application, unless another answer is on its way, and close."""
        self._end_timers()
        if self.cycle is None or self.cycle.response_complete:
            head = [f"HTTP/1.1 {answer.status_code} \r\n".encode(), b"connection: close\r\n"]
            head += [b"%s: %s\r\n" % (name, value) for name, value in answer.raw_headers]
            self.transport.write(b"".join([*head, b"\r\n", bytes(answer.body)]))
        self.transport.close()

    def _end_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = None
