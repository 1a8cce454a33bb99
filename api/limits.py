"""What an owner and a request may cost: a token bucket for each owner, heads of bounded size, bodies that keep coming,
refusals that wait in line.

What a connection may cost before there is a request is bounded in api/connections.py.
"""

import asyncio
import math
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.crowd import address_of
from api.errors import BodyTooSlow, HeadTooLarge, RateLimited, problem_of
from api.identity import Identity
from api.rates import Line, Rates

HEAD_BYTES_MAX: Final = 32 * 1024
"""Address and headers; browsers send 2 kB with all their cookies."""

BODY_WAIT_S_MAX: Final = 15.0
"""So long a client may let us wait for its body, all pauses together, beside what its size allows."""

BODY_BYTES_PER_S_MIN: Final = 8 * 1024
"""What a body comes at least at: 64 kbit/s, a tenth of a bad mobile line."""


REFUSED: Final = 400
"""The first status of what is refused."""

REFUSALS_PER_S_MAX: Final = 40.0
REFUSALS_AT_ONCE_MAX: Final = 200.0
"""For one owner, or for one address if the owner is unknown. A refusal takes about a millisecond of the event loop, and
a client that sends its next request at once would keep it busy."""

BODY_BYTES_OF_A_REFUSAL: Final = 5_000
"""Bytes of a refused body that count as one more refusal: parsing them takes as long."""

REFUSAL_WAIT_S_MAX: Final = 30.0
"""Maximum seconds that a refusal waits."""


class RateLimit:
    """Behind the gate: refuses what comes too often. The administrator is exempt, and so is who needs no token."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        identity: Identity | None = scope.get("darkroom.identity")
        if scope["type"] == "http" and identity is not None and not identity.is_admin:
            wait_s = self._rates.take(identity.owner)
            if wait_s > 0:
                await problem_of(RateLimited(math.ceil(wait_s)))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BoundedRequests:
    """Before the gate: refuses a head that is too large, and gives up on a body that trickles.

    Refusals are answered in turn, whichever layer refuses. The administrator never waits.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refusals = Line(REFUSALS_PER_S_MAX, REFUSALS_AT_ONCE_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, answer = _Patient(receive, scope), _Refusal(send)
        if _head_bytes(scope) > HEAD_BYTES_MAX:
            await problem_of(HeadTooLarge(HEAD_BYTES_MAX))(scope, body, answer)
        else:
            await self._app(scope, body, answer)
        if answer.kept:  # by now it holds no place for requests in work
            await self._in_turn(scope, body.bytes)
            await answer.send_kept()

    async def _in_turn(self, scope: Scope, body_bytes: int) -> None:
        identity: Identity | None = scope.get("darkroom.identity")
        if identity is not None and identity.is_admin:
            return
        who = f"address {address_of(scope)}" if identity is None else f"owner {identity.owner}"
        wait_s = self._refusals.wait_s(who, 1 + body_bytes / BODY_BYTES_OF_A_REFUSAL)
        if wait_s > 0:
            scope.get("darkroom.give_way", _nothing)()
            await asyncio.sleep(min(wait_s, REFUSAL_WAIT_S_MAX))


def _nothing() -> None:
    """For servers without connections that give way."""


class _Refusal:
    """Sends answers on, but keeps a refusal until `send_kept`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: list[Message] = []

    @property
    def kept(self) -> bool:
        """Whether there is one."""
        return bool(self._kept)

    async def __call__(self, message: Message) -> None:
        """Send, or keep."""
        if message["type"] == "http.response.start" and message["status"] >= REFUSED:
            self._kept.append(message)
        elif self._kept:
            self._kept.append(message)
            if message.get("more_body", False):  # longer than any refusal
                await self.send_kept()
        else:
            await self._send(message)

    async def send_kept(self) -> None:
        """Send what was kept."""
        kept, self._kept = self._kept, []
        for message in kept:
            await self._send(message)


class _Patient:
    """Receives a body; counts only the time that we wait for the client, not that in which it waits for us.

    `bytes` is how much came so far.
    """

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive = receive
        self._scope = scope
        self._waited_s = 0.0
        self.bytes = 0
        self._whole = False

    async def __call__(self) -> Message:
        """The next part. Raises `BodyTooSlow`."""
        if self._whole:  # what comes now is the end of the connection, for which one may wait long
            return await self._receive()
        if self._scope.get("darkroom.body_is_here"):
            self._whole = True  # in one message, and nothing to wait for
            message = await self._receive()
            self.bytes += len(message.get("body", b""))
            return message
        began_s = time.monotonic()
        left_s = BODY_WAIT_S_MAX + self.bytes / BODY_BYTES_PER_S_MIN - self._waited_s
        try:
            async with asyncio.timeout(left_s):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._waited_s += time.monotonic() - began_s
        self.bytes += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _head_bytes(scope: Scope) -> int:
    """What the head takes on the wire: the same for a head that came whole as for one that came in pieces."""
    first_line = (
        len(scope["method"]) + len(scope.get("raw_path") or b"") + len(scope["query_string"]) + len("  HTTP/1.1\r\n")
    )
    query_mark = 1 if scope["query_string"] else 0
    headers = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    return first_line + query_mark + headers + len("\r\n")
