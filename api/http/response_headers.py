"""Headers of every answer: what browsers may do with it, and the Idempotency-Key of the request.

A route that needs another value sets the header itself: existing headers are kept.
"""

from collections.abc import Iterable, Set
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import IDEMPOTENCY_KEY

DEFAULTS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Defaults, suited to JSON: no browser shows the answer as a page, and no page can frame it."""

NAMES: Final = frozenset(name for name, _ in DEFAULTS)


class AnswerHeaders:
    """Adds the default headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                message["headers"] = [*given, *_missing({name for name, _ in given}), *_key(scope)]
            await send(message)

        await self._app(scope, receive, complete)


def _missing(given: Set[bytes]) -> Iterable[tuple[bytes, bytes]]:
    if given.isdisjoint(NAMES):
        return DEFAULTS
    return [(name, value) for name, value in DEFAULTS if name not in given]


def _key(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    key = scope.get(IDEMPOTENCY_KEY)
    return () if key is None else ((b"idempotency-key", key.encode("ascii")),)
