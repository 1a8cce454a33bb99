"""Limits the number of concurrent requests: each kind has places, with a maximum per owner and per address.

A request is in work until its answer has been sent: while its body arrives, while it waits for a job, while a stream is
open. There are fewer places than connections, so health checks and other kinds of requests are answered even if one
kind has no free place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import Busy, TooManyInWork, problem_of
from api.http.idempotency import wait_s
from api.http.identity import Identity
from api.http.limits.open_connections import address_of
from api.http.limits.pacing import Company

OF_ONE_ADDRESS: Final = 0.75
"""The share of a kind's places that one address gets."""

BATCHES: Final = re.compile(r"/v1/batches(/[^/]+/retry)?")


@dataclass(frozen=True, slots=True)
class Bound:
    """The maximum of concurrent requests of a kind: of one owner, and of all. `words` is their name in messages."""

    words: str
    of_owner: int
    of_all: int

    @property
    def of_address(self) -> int:
        """The maximum of one address."""
        return max(self.of_owner, int(self.of_all * OF_ONE_ADDRESS))


def places(connections: int) -> Mapping[str, Bound]:
    """The places of a process with this many connections; together about nine tenths of them."""
    streams, waits, others = (max(1, int(connections * share)) for share in (0.4, 0.2, 0.2))
    return {
        "stream": Bound("event streams", min(250, _half(streams)), streams),
        "wait": Bound("requests that wait for a job", min(100, _half(waits)), waits),
        "upload": Bound("uploads", 8, 32),
        "batch": Bound("batches being submitted", 8, 32),  # they wait for each other
        "other": Bound("requests", min(128, _half(others)), others),
        "open": Bound("requests without a token", 16, 64),
    }


def _half(of_all: int) -> int:
    return max(1, of_all // 2)


def kind_of(scope: Scope, identity: Identity | None) -> str:
    """The kind of a request, by its route and its headers."""
    method, path = scope["method"], scope["path"]
    if identity is None:
        return "open"
    if method == "GET" and path == "/v1/events":
        return "stream"
    if method == "POST" and path == "/v1/uploads":
        return "upload"
    if method == "POST" and BATCHES.fullmatch(path):
        return "batch"
    if method == "POST" and any(name == b"prefer" for name, _ in scope["headers"]):
        return "other" if wait_s(Headers(scope=scope)) is None else "wait"
    return "other"


class Places:
    """Runs behind the gate: refuses requests without a free place. The administrator's requests take places as well."""

    def __init__(self, app: ASGIApp, bounds: Mapping[str, Bound], company: Company) -> None:
        self._app = app
        self._company = company
        self._bounds = bounds
        self._in_work: dict[tuple[str, str], int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity: Identity | None = scope.get("darkroom.identity")
        if identity is not None:
            self._company.asks(identity.owner)
        kind = kind_of(scope, identity)
        bound = self._bounds[kind]
        address = address_of(scope)
        owner = f"address {address}" if identity is None else f"owner {identity.owner}"
        in_work = self._in_work
        taken = ((kind, owner), bound.of_owner), ((kind, f"at {address}"), bound.of_address), ((kind, ""), bound.of_all)
        for place, most in taken:
            if in_work.get(place, 0) >= most:
                mine = place[1] == owner
                refusal = TooManyInWork(bound.words, most) if mine else Busy(bound.words)
                await problem_of(refusal)(scope, receive, send)
                return
        for place, _ in taken:
            in_work[place] = in_work.get(place, 0) + 1
        try:
            await self._app(scope, receive, send)
        finally:
            for place, _ in taken:
                in_work[place] -= 1
                if not in_work[place]:
                    del in_work[place]
