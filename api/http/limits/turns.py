"""Requests that arrive together start in turn: a few in each pass of the event loop, the same number for each owner.

Otherwise the event loop would start a thousand requests that arrived together before it looks at the next one, a second
later.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

AT_ONCE_MAX: Final = 64
"""Maximum number of requests that start in one pass while none waits. Fewer than this never wait."""

IN_TURN_MAX: Final = 4
"""Maximum number of requests that start in one pass while some wait: about five milliseconds of work."""


class Turns:
    """The outermost layer. `name_of` says who sent a request; it is called only while requests wait."""

    def __init__(self, app: ASGIApp, name_of: Callable[[Scope], str]) -> None:
        self._app = app
        self._name_of = name_of
        self._begun = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the next one is the first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "http":
            if self._waiting or self._begun >= AT_ONCE_MAX:
                await self._turn(self._name_of(scope))
            else:
                self._count()
        await self._app(scope, receive, send)

    def _count(self) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._next_pass)
        self._begun += 1

    async def _turn(self, name: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, deque()).append(turn)
        await turn

    def _next_pass(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < IN_TURN_MAX:
            name = next(iter(self._waiting))
            own = self._waiting.pop(name)
            turn = own.popleft()
            if own:
                self._waiting[name] = own
            if not turn.done():  # otherwise its task was canceled
                turn.set_result(None)
                self._count()
