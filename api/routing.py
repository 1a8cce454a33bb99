"""Finds the route of a request in a table.

FastAPI tries one route after the other, which takes as long as answering for the last of sixty.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

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

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The first route with this path and method, else the first with this path, which answers 405; else none."""
        if scope["type"] != "http":
            return Match.NONE, {}
        other_method: Scope | None = None
        for route in self._candidates(scope):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return Match.FULL, {**found, FOUND: route}
            if match is Match.PARTIAL and other_method is None:
                other_method = {**found, FOUND: route}
        return Match.FULL, other_method or {FOUND: None}

    def route_of(self, scope: Scope) -> APIRoute | None:
        """The route with this path and method."""
        return next((route for route in self._candidates(scope) if route.matches(scope)[0] is Match.FULL), None)

    def _candidates(self, scope: Scope) -> Sequence[APIRoute]:
        length, first, second = _key(scope["path"])
        return self._table.get((length, first, second)) or self._table.get((length, first, ANY), ())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the route that was found answer."""
        route: APIRoute | None = scope[FOUND]
        if route is None:
            raise HTTPException(404)
        await route.handle(scope, receive, send)


def _key(path: str) -> Key:
    segments = path.split("/", 3)
    second = segments[2] if len(segments) > 2 else ""
    return path.count("/"), segments[1] if len(segments) > 1 else "", ANY if second.startswith("{") else second
