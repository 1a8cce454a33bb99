"""A connection with limits: their number, the duration and size of a head, and the time that a reader may stall.

uvicorn waits without limit for the first request of a connection, for the rest of a head, and for a client that does
not read. It stores a head of any size, reads an unneeded body without limit, drops the body of a request that offers
another protocol (as Java's client does with HTTP/2), and resets a connection on which the client is still sending, so
that the client never sees the answer.
"""

import asyncio
import resource
from asyncio.events import TimerHandle
from typing import Any, Final, cast

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.http.errors import HeadTooLarge, HeadTooSlow, MalformedRequest, TooManyConnections, problem_of
from api.http.limits.open_connections import UNKNOWN, Crowd, counted_as, crowd_of
from api.http.limits.request_limits import HEAD_BYTES_MAX
from api.http.response_headers import DEFAULTS

CONNECTIONS_MAX: Final = 2_000
"""Maximum connections of a process: a thousand event streams, and as many other requests."""

OF_ONE_ADDRESS: Final = 0.5
"""The share of them that one address gets, unless it is a trusted proxy."""

FILES_KEPT: Final = 128
"""Files that a process keeps for Postgres, NATS and the object store."""

HEAD_S_MAX: Final = 10.0
"""Maximum seconds from the connection, or from the first byte of a further request, to the end of its head."""

STALL_S_MAX: Final = 30.0
"""Maximum seconds for which a client may leave 64 kB unread."""

UNWANTED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Maximum bytes of a body that are read and discarded after its request was answered. Most clients send the whole body
before they read the answer: if reading stops earlier, they report a broken pipe instead of the error."""

UNWANTED_S_MAX: Final = 30.0
"""Maximum seconds of reading such a body: enough for 256 MB at 70 Mbit/s."""

LINGER_S_MAX: Final = 5.0
"""Maximum seconds for which a closing connection is still read. The kernel resets a connection with unread bytes, and a
reset discards the answer that is on its way to the client."""


def connections_max() -> int:
    """The maximum number of connections, by the process's limit of open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS_MAX, files - FILES_KEPT))


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with limits: violations are answered with a problem if possible, and end the connection."""

    _in_head = True
    _heads = 0
    _steps = 0  # complete heads, parts of a body and their ends; it counts on in the parser's callbacks
    _idle_bytes = 0  # since the last step
    _unwanted_bytes = 0
    _lingers = False
    _refusal: Response | None = None
    _head_timer: TimerHandle | None = None
    _stall_timer: TimerHandle | None = None
    _end_timer: TimerHandle | None = None
    _pause_timer: TimerHandle | None = None
    _before: RequestResponseCycle | None = None
    _line: asyncio.Transport
    _crowd: Crowd
    address = UNKNOWN

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        self._line = transport
        super().connection_made(cast("asyncio.Transport", _Unhurried(transport, self)))
        self.address = counted_as(None if self.client is None else self.client[0])
        self._crowd = crowd_of(self.server_state)
        self._crowd.joins(self)
        if self._finds_room():
            self._await_head()
        else:
            self.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._crowd.leaves(self)
        self._end_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse. The parser keeps parts of a head or of trailers, so segments that complete nothing are counted."""
        if self._lingers or self._refusal is not None:
            self._throw_away(len(data))
            return
        steps = self._steps
        if self._in_head and self._head_timer is None and self._answered:
            self._await_head()
        self._unset_keepalive_if_required()
        self._parse(data)
        if steps == self._steps and not self.transport.is_closing():
            self._idle_bytes += len(data)
            if self._idle_bytes > HEAD_BYTES_MAX:
                self._refuse(problem_of(HeadTooLarge(HEAD_BYTES_MAX)))

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            is_long = (
                isinstance(error.__context__, httptools.HttpParserInvalidURLError) and len(self.url) > HEAD_BYTES_MAX
            )
            self._refuse(problem_of(HeadTooLarge(HEAD_BYTES_MAX) if is_long else MalformedRequest()))
        except httptools.HttpParserUpgrade as offered:
            self._decline_upgrade(data[offered.args[0] :])

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request as if it offered no other protocol; the parser would not read its body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(problem_of(MalformedRequest()))
            return
        self.parser = httptools.HttpRequestParser(self)
        head = [b"%s %s HTTP/1.1\r\n" % (method, self.url)]
        head += [b"%s: %s\r\n" % each for each in self.headers if each[0] not in (b"upgrade", b"connection")]
        self._parse(b"".join([*head, b"\r\n", rest]))

    def on_message_begin(self) -> None:
        """A request starts.

        Its application may reset the connection of a client that does not read: see api/events/stream.py.
        """
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._unwanted_bytes = 0
        if self._head_timer is None:
            self._await_head()
        self.scope["darkroom.hang_up"] = self._line.abort  # type: ignore[typeddict-unknown-key]
        self.scope["darkroom.give_way"] = self._give_way  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self.parser.should_upgrade():
            return  # it is parsed again: see _decline_upgrade
        if self.parser.get_http_version() == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            raise ValueError("RFC 9112, 3.2: one Host")  # refused like other bytes that are no request: see _parse
        self._in_head = False
        self._crowd.works(self)
        self._heads += 1
        self._steps += 1
        self._idle_bytes = 0
        self._before = self.cycle
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body; discarded if its request was already answered."""
        self._steps += 1
        self._idle_bytes = 0
        if self.cycle.response_complete:
            self._throw_away(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete: the next bytes are another head."""
        if self.parser.should_upgrade():
            return
        self._in_head = True
        self._steps += 1
        self._idle_bytes = 0
        self.scope["darkroom.body_is_here"] = True  # type: ignore[typeddict-unknown-key]
        if self._answered:  # uvicorn's wait for the next request began with the answer, and stopped when more came
            self._end_of_unwanted()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request has been answered: send a pending refusal, or read the rest of its body."""
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request is in work already
            return
        self._crowd.waits(self)
        if self._line.is_closing() or self._lingers:
            return
        if self._refusal is not None:
            self._send_refusal(self._refusal)
        elif not self._in_head:
            self._end_timer = self.loop.call_later(UNWANTED_S_MAX, self._line.abort)

    def shutdown(self) -> None:
        """The server stops: do not linger."""
        if self._lingers:
            self._line.abort()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S_MAX, self._line.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def end(self) -> None:
        """Close: immediately if the client has sent everything, else after reading the rest."""
        if self._lingers or self._line.is_closing():
            return
        if self._in_head and self._refusal is None:
            self._line.close()
        else:
            self._linger()

    def make_room(self) -> None:
        """Close immediately: another connection needs the place."""
        self._end_timers()
        if not self._heads and not self._line.is_closing():  # otherwise it was answered, and needs no message
            self._line.write(_without_application(problem_of(TooManyConnections())))
        self._line.close()

    def _finds_room(self) -> bool:
        """Whether there is a place, if necessary that of an idle connection."""
        most = connections_max()
        full = len(self.connections) > most
        if self._crowd.of(self.address) > most * OF_ONE_ADDRESS and self.client is not None:
            trusted = getattr(self.config.loaded_app, "trusted_hosts", ())
            if self.client[0] not in trusted:  # a proxy has many clients
                return self._crowd.make_room(self, self.address)
        return not full or self._crowd.make_room(self)

    @property
    def lingers(self) -> bool:
        """Whether nothing more is sent, and received bytes are discarded."""
        return self._lingers

    @property
    def _answered(self) -> bool:
        """Whether no request is in work."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S_MAX, self._head_too_slow)

    def _head_too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(problem_of(HeadTooSlow(HEAD_S_MAX)))

    def _refuse(self, answer: Response) -> None:
        """Answer without the application, after pending answers, and close."""
        self._end_timers()
        self._refusal = answer
        if self._answered:
            self._send_refusal(answer)
        elif not self._in_head:
            self._give_up_body(answer)

    def _give_up_body(self, answer: Response) -> None:
        """The body of the last request is incomplete: if its application has started, it sees a disconnect."""
        if self.pipeline:
            self.pipeline.popleft()
            self.cycle = cast("RequestResponseCycle", self._before)
        elif not self.cycle.response_started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._send_refusal(answer)

    def _send_refusal(self, answer: Response) -> None:
        self.transport.write(_without_application(answer))
        self.transport.close()

    def _linger(self) -> None:
        """Send no more, and read until the client closes, within limits."""
        self._end_timers()
        self._lingers = True
        self._line.resume_reading()
        self._line.write_eof()
        self._end_timer = self.loop.call_later(LINGER_S_MAX, self._line.abort)

    def _give_way(self) -> None:
        """The request will be refused in turn: until then it may be closed to make room."""
        self._crowd.waits(self)

    def _throw_away(self, size_bytes: int) -> None:
        self._unwanted_bytes += size_bytes
        if self._unwanted_bytes > UNWANTED_BYTES_MAX:
            self._line.abort()
            return
        wait_s = self._crowd.unwanted.wait_s(self.address, size_bytes)
        if wait_s > 0 and self._pause_timer is None and not self._line.is_closing():
            self._line.pause_reading()
            self._pause_timer = self.loop.call_later(wait_s, self._read_on)

    def _read_on(self) -> None:
        self._pause_timer = None
        if not self._line.is_closing():
            self._line.resume_reading()

    def _end_of_unwanted(self) -> None:
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _end_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer, self._end_timer, self._pause_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = self._end_timer = self._pause_timer = None


def _without_application(answer: Response) -> bytes:
    """The bytes of an answer to something that is not a request."""
    head = [f"HTTP/1.1 {answer.status_code} \r\n".encode(), b"connection: close\r\n"]
    headers = [each for each in answer.raw_headers if each[0] != b"connection"]
    head += [b"%s: %s\r\n" % each for each in (*headers, *DEFAULTS)]
    return b"".join([*head, b"\r\n", bytes(answer.body)])


class _Unhurried:
    """A transport as uvicorn sees it: closing it leaves the client time to read the answer."""

    def __init__(self, line: asyncio.Transport, connection: BoundedConnection) -> None:
        self._line = line
        self._connection = connection
        self.write = line.write
        self.get_extra_info = line.get_extra_info

    def close(self) -> None:
        """See the class."""
        self._connection.end()

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._connection.lingers or self._line.is_closing()

    def pause_reading(self) -> None:
        """Pause reading; a closing connection is still read to its end."""
        if not self.is_closing():
            self._line.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading."""
        if not self._line.is_closing():
            self._line.resume_reading()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)
