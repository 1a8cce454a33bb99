"""`HEAD` wherever `GET` works: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHOD_NOT_ALLOWED = 405


class HeadRequests:
    """Wraps the routes: a `HEAD` without a route of its own runs as a `GET`, which ends after its headers.

    Routes with expensive bodies, like files, handle `HEAD` themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        refused = False

        async def unless_refused(message: Message) -> None:
            nonlocal refused
            refused = refused or (message["type"] == "http.response.start" and message["status"] == METHOD_NOT_ALLOWED)
            if not refused:
                await send(message)

        await self._app(scope, receive, unless_refused)
        if refused:
            await self._head_of_get(scope, receive, send)

    async def _head_of_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def head(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _HeadSent

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, head)
        except _HeadSent:
            pass
        finally:
            scope["route"] = asked.get("route")  # for the metrics of this request


class _HeadSent(Exception):
    """The headers have been sent; the rest is not needed."""
