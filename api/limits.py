"""What an owner and a request may cost: a token bucket for each owner, heads of bounded size, bodies that keep coming.

What a connection may cost before there is a request is bounded in api/connections.py.
"""

import asyncio
import math
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyTooSlow, HeadTooLarge, RateLimited, problem_of
from api.identity import Identity
from api.rates import Rates

HEAD_BYTES_MAX: Final = 32 * 1024
"""Address and headers; browsers send 2 kB with all their cookies."""

BODY_WAIT_S_MAX: Final = 15.0
"""So long a client may let us wait for its body, all pauses together, beside what its size allows."""

BODY_BYTES_PER_S_MIN: Final = 8 * 1024
"""What a body comes at least at: 64 kbit/s, a tenth of a bad mobile line."""


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
    """Before the gate: refuses a head that is too large, and gives up on a body that trickles."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _head_bytes(scope) > HEAD_BYTES_MAX:
            await problem_of(HeadTooLarge(HEAD_BYTES_MAX))(scope, receive, send)
        else:
            await self._app(scope, _Patient(receive, scope), send)


class _Patient:
    """Receives a body; counts only the time that we wait for the client, not that in which it waits for us."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive = receive
        self._scope = scope
        self._waited_s = 0.0
        self._bytes = 0
        self._whole = False

    async def __call__(self) -> Message:
        """The next part. Raises `BodyTooSlow`."""
        if self._whole:  # what comes now is the end of the connection, for which one may wait long
            return await self._receive()
        if self._scope.get("darkroom.body_is_here"):
            self._whole = True  # in one message, and nothing to wait for
            return await self._receive()
        began_s = time.monotonic()
        left_s = BODY_WAIT_S_MAX + self._bytes / BODY_BYTES_PER_S_MIN - self._waited_s
        try:
            async with asyncio.timeout(left_s):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._waited_s += time.monotonic() - began_s
        self._bytes += len(message.get("body", b""))
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
