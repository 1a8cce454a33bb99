"""Limits per owner and request: a token bucket for each owner, the size of heads, slow bodies, and lines of refusals.

api/http/protocol.py limits connections before there is a request.
"""

import asyncio
import math
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import BodyTooSlow, HeadTooLarge, RateLimited, problem_of
from api.http.identity import Identity
from api.http.limits.open_connections import address_of
from api.http.limits.rates import Rates, WaitingLine

HEAD_BYTES_MAX: Final = 32 * 1024
"""Maximum bytes of address and headers; browsers send 2 kB with all their cookies."""

BODY_WAIT_S_MAX: Final = 15.0
"""Maximum seconds of waiting for a client's body, all pauses together, in addition to the time for its size."""

BODY_BYTES_PER_S_MIN: Final = 8 * 1024
"""Minimum speed of a body: 64 kbit/s, a tenth of a bad mobile connection."""


REFUSED: Final = 400
"""The first status of a refusal."""

REFUSALS_PER_S_MAX: Final = 40.0
REFUSALS_AT_ONCE_MAX: Final = 200.0
"""Burst of refusals of one owner, or of one address if the owner is unknown. A refusal takes about a millisecond of the
event loop, and a client that sends its next request immediately would keep it busy."""

BODY_BYTES_OF_A_REFUSAL: Final = 5_000
"""Bytes of a refused body that count as one more refusal: parsing them takes as long."""

REFUSAL_WAIT_S_MAX: Final = 30.0
"""Maximum seconds that a refusal waits."""


class RateLimit:
    """Runs behind the gate: refuses requests that come too often.

    The administrator and paths without a token are exempt.
    """

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
    """Runs before the gate: refuses a head that is too large, and a body that arrives too slowly.

    Refusals are answered in turn, whichever layer refuses. The administrator never waits.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refusals = WaitingLine(REFUSALS_PER_S_MAX, REFUSALS_AT_ONCE_MAX, wait_s_max=REFUSAL_WAIT_S_MAX)

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
        if answer.kept:  # it no longer holds a place for requests in work
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
            await asyncio.sleep(wait_s)


def _nothing() -> None:
    """For servers without connections that give way."""


class _Refusal:
    """Forwards answers, but keeps a refusal until `send_kept`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: list[Message] = []

    @property
    def kept(self) -> bool:
        """Whether there is one."""
        return bool(self._kept)

    async def __call__(self, message: Message) -> None:
        """Send or keep a message."""
        if message["type"] == "http.response.start" and message["status"] >= REFUSED:
            self._kept.append(message)
        elif self._kept:
            self._kept.append(message)
            if message.get("more_body", False):  # longer than any refusal
                await self.send_kept()
        else:
            await self._send(message)

    async def send_kept(self) -> None:
        """Send the refusal."""
        kept, self._kept = self._kept, []
        for message in kept:
            await self._send(message)


class _Patient:
    """Receives a body; counts only the time during which we wait for the client.

    `bytes` is the number of bytes so far.
    """

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive = receive
        self._scope = scope
        self._waited_s = 0.0
        self.bytes = 0
        self._whole = False

    async def __call__(self) -> Message:
        """The next part. Raises `BodyTooSlow`."""
        if self._whole:  # the next message is the end of the connection, which may take long
            return await self._receive()
        if self._scope.get("darkroom.body_is_here"):
            self._whole = True  # in one message, with nothing to wait for
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
    """Bytes of the head as sent: the same for a head that arrives at once or in pieces."""
    first_line = (
        len(scope["method"]) + len(scope.get("raw_path") or b"") + len(scope["query_string"]) + len("  HTTP/1.1\r\n")
    )
    query_mark = 1 if scope["query_string"] else 0
    headers = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    return first_line + query_mark + headers + len("\r\n")
