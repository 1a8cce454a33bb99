"""Finds the function that answers a request, and calls it.

FastAPI tries one route after the other, which for the last of sixty takes as long as answering. It also collects the
arguments of every function again, even of one that takes only the request and parts of its path.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from inspect import iscoroutinefunction
from typing import Final

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

Key = tuple[int, str, str]
"""The number of segments of a path, and the first two of them."""

ANY: Final = "{}"
"""Stands for a segment that is a parameter."""

FOUND: Final = "darkroom.route"


class RouteTable(BaseRoute):
    """All routes of the API as one, which answers unknown paths as well. A parameter is one segment of a path."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        table: dict[Key, list[APIRoute]] = {}
        for route in routes:
            if not isinstance(route, APIRoute) or ":" in route.path:
                raise TypeError(f"The table cannot find {route}.")
            table.setdefault(_key(route.path_format), []).append(route)
        self._table: Mapping[Key, Sequence[APIRoute]] = table
        self._direct = {
            id(route): _directly(route) for of_key in table.values() for route in of_key if _is_plain(route)
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The first route with this path and method, else the first with this path, which answers 405; else 404."""
        if scope["type"] != "http":
            return Match.NONE, {}
        other_method: Scope = {FOUND: _not_found}
        allowed: set[str] = set()
        for route in self._candidates(scope):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return Match.FULL, {**found, FOUND: self._direct.get(id(route), route.handle)}
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
                other_method = {**found, **other_method, FOUND: _only(allowed)}
        return Match.FULL, other_method

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the route that was found answer."""
        answering: ASGIApp = scope[FOUND]
        await answering(scope, receive, send)

    def route_of(self, scope: Scope) -> APIRoute | None:
        """The route with this path and method."""
        return next((route for route in self._candidates(scope) if route.matches(scope)[0] is Match.FULL), None)

    def _candidates(self, scope: Scope) -> Sequence[APIRoute]:
        length, first, second = _key(scope["path"])
        return self._table.get((length, first, second)) or self._table.get((length, first, ANY), ())


def _key(path: str) -> Key:
    segments = path.split("/", 3)
    second = segments[2] if len(segments) > 2 else ""
    return path.count("/"), segments[1] if len(segments) > 1 else "", ANY if second.startswith("{") else second


def _is_plain(route: APIRoute) -> bool:
    """Whether a route's function takes only the request and parts of the path as text, and returns a response."""
    taken = route.dependant
    reads = (taken.query_params, taken.header_params, taken.cookie_params, taken.body_params, taken.dependencies)
    given = (taken.response_param_name, taken.background_tasks_param_name, taken.http_connection_param_name)
    texts = all(each.field_info.annotation is str and not each.field_info.metadata for each in taken.path_params)
    return (
        texts
        and not any(reads)
        and not any(given)
        and taken.request_param_name == "request"
        and iscoroutinefunction(route.endpoint)
        and route.response_model is None
    )


def _directly(route: APIRoute) -> ASGIApp:
    function: Callable[..., Awaitable[Response]] = route.endpoint

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await function(request=Request(scope, receive, send), **scope["path_params"])
        await response(scope, receive, send)

    return answer


def _only(methods: Set[str]) -> ASGIApp:
    """Refuses a method that the path does not take. `HEAD` works wherever `GET` does."""
    allowed = ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as every ASGI application
        raise HTTPException(405, headers={"Allow": allowed})

    return refuse


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as every ASGI application
    raise HTTPException(404)
