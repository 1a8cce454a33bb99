"""Gives every request an id, metrics, and a log entry if it failed.

The id is the client's own `Request-Id` if that is valid, else a new one; the answer contains it, and so does every log
entry of the request. It is all that a failure report needs.
"""

import logging
import re
import time
from functools import cache
from typing import Final
from uuid import uuid4

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import internal
from services.observability import telemetry
from services.observability.logs import about
from services.observability.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS

log = logging.getLogger(__name__)

REQUEST_ID: Final = "Request-Id"
REQUEST_ID_RAW: Final = b"request-id"

DECENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
"""Valid ids: no character that could end a line, a header or a quotation, and at most 128 characters."""

METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

UNROUTED: Final = "unrouted"
"""The route in the metrics for unknown paths: clients can invent any number of them."""


class Observed:
    """Wraps everything that answers. Also answers unexpected errors, so that those answers have an id as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers.get(REQUEST_ID))
        began_s = time.perf_counter()
        answered: list[tuple[int, float]] = []

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append((message["status"], time.perf_counter() - began_s))
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_RAW, request_id.encode("ascii"))]
            await send(message)

        with about(request_id=request_id), telemetry.request(headers) as request:
            try:
                await self._answer(scope, receive, named, answered)
            finally:
                for status, seconds in answered:
                    method, route = method_of(scope), route_of(scope)
                    requests, durations = _figures_of(method, route, status)
                    requests.inc()
                    durations.observe(seconds)
                    request.answered(method=method, route=route, status=status, request_id=request_id)
                    log.debug("%s %s answered %d in %.1f ms", method, scope["path"], status, seconds * 1000)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, answered: list[tuple[int, float]]) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answered:
                raise  # half an answer is sent: the server closes the connection
            await internal()(scope, receive, send)


def request_id_of(given: str | None) -> str:
    """The client's id, if it is valid in headers and logs; else a new one."""
    return given if given is not None and DECENT.fullmatch(given) else uuid4().hex


def route_of(scope: Scope) -> str:
    """The route as it is declared, as in `/v1/jobs/{job_id}`."""
    return str(getattr(scope.get("route"), "path", UNROUTED))


def method_of(scope: Scope) -> str:
    """The method, or `other` for an unknown one."""
    return scope["method"] if scope["method"] in METHODS else "other"


@cache
def _figures_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Cached: looking them up by their labels costs more than counting; there are few."""
    return HTTP_REQUESTS.labels(method, route, str(status)), HTTP_REQUEST_SECONDS.labels(method, route)
