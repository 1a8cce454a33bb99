"""Refuses query parameters that a route does not define, or that are there twice: no filter is ever ignored."""

from collections import Counter
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import problem_of
from api.http.identity import OPEN
from api.http.routing import RouteTable
from domain.errors import FieldProblem, InvalidInput

NAME_CHARACTERS_MAX: Final = 64
"""Characters of an unknown name that the answer repeats."""


class KnownQuery:
    """Runs behind the gate. Only the route of a request with a query is looked up.

    Supervisors may add any query to the health paths.
    """

    def __init__(self, app: ASGIApp, table: RouteTable) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "http" and scope["query_string"] and scope["path"] not in OPEN:
            problems = self._problems(scope)
            if problems:
                await problem_of(InvalidInput(problems))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problems(self, scope: Scope) -> list[FieldProblem]:
        """One problem for each name; none for a path without a route, which is a 404 anyway."""
        route = self._table.route_of(scope)
        if route is None:
            return []
        known = [parameter.alias for parameter in route.dependant.query_params]
        given = Counter(name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True))
        allowed = f"allowed: {', '.join(known)}" if known else "this call takes none"
        problems = [
            FieldProblem(name[:NAME_CHARACTERS_MAX], f"is no query parameter; {allowed}")
            for name in given
            if name not in known
        ]
        problems += [
            FieldProblem(name, f"is there {times} times; give it once")
            for name, times in given.items()
            if name in known and times > 1
        ]
        return problems
