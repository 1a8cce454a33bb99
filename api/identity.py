"""Who asks: a token, in the Authorization header or in the cookie that a browser gets once, becomes an identity."""

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from api.crowd import address_of
from api.errors import Forbidden, RateLimited, Unauthorized, problem_of
from api.rates import Rates
from services.database import Database, Unavailable
from services.logs import about
from services.users import ADMIN, fingerprint, is_key, owners_of, working_keys

COOKIE: Final = "darkroom_token"

COOKIE_S_MAX: Final = 400 * 24 * 3600
"""The longest that browsers keep a cookie; the token itself has no end."""

KNOWN_S: Final = 1.0
"""So long a revoked key may go on to work: one look into the database a second for each key in use."""

KNOWN_MAX: Final = 10_000
"""Keys that are remembered; the one looked up longest ago is forgotten first."""

WRONG_KEYS_AT_ONCE_MAX: Final = 20
"""From one address: enough for a script with an old key, or somebody who mistypes."""

WRONG_KEYS_PER_S_MAX: Final = 0.5

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""What load balancers and supervisors ask without a token."""

SIGN_IN: Final = "/"
"""The link that is printed at start: `/?token=…` is answered here, before there is an identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose jobs and assets are meant. Only an administrator sees projections and queues."""

    owner: str
    is_admin: bool = False


class Identities:
    """Tokens to identities: the administrator's, and the keys that the database knows. For one event loop.

    A key that was looked up is remembered for `KNOWN_S`; the administrator's token works without a database.
    """

    def __init__(self, admin_token: str, database: Database) -> None:
        if not admin_token:
            raise ValueError("An empty administrator's token would let everybody in.")
        self._admin = fingerprint(admin_token)
        self._database = database
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._wrong = Rates(WRONG_KEYS_PER_S_MAX, WRONG_KEYS_AT_ONCE_MAX)
        self._working: Mapping[bytes, str] = {}
        self._working_until = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._asked: set[bytes] = set()
        self._answering: asyncio.Task[Mapping[bytes, str]] | None = None

    async def identify(self, token: str, address: str | None = None) -> Identity | None:
        """Whom the token stands for; None for one that is not ours, or was revoked.

        Raises `Unavailable`, and `RateLimited` for a wrong token from an `address` that has sent too many: a right one
        is let in from there as well, and the database is not asked about each.

        Only fingerprints are compared, so the time that it takes says nothing of the tokens that there are.
        """
        given = fingerprint(token)
        if hmac.compare_digest(given, self._admin):
            return Identity(ADMIN, is_admin=True)
        owner = await self._owner_by(given, address) if is_key(token) else None
        if owner is not None:
            return Identity(owner)
        wait_s = 0.0 if address is None else self._wrong.take(address)
        if wait_s > 0:
            raise RateLimited(math.ceil(wait_s))
        return None

    async def _owner_by(self, given: bytes, address: str | None) -> str | None:
        known = self._known.get(given)
        if known is not None and time.monotonic() < known.until:
            return known.owner
        if address is None or self._wrong.wait_s(address) == 0:
            return await self._owner_of(given)
        return await self._owner_among_all(given)

    async def _owner_among_all(self, given: bytes) -> str | None:
        """Look among all keys that work: read once in `KNOWN_S`, however many wrong keys come."""
        if time.monotonic() >= self._working_until:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_all())
                self._reading.add_done_callback(_heard)
            await asyncio.shield(self._reading)
        return self._working.get(given)

    async def _read_all(self) -> None:
        until = time.monotonic() + KNOWN_S
        self._working = await asyncio.to_thread(self._all_working)
        self._working_until = until

    def _all_working(self) -> Mapping[bytes, str]:
        with self._database.connection() as connection:
            return working_keys(connection)

    async def _owner_of(self, given: bytes) -> str | None:
        """Ask the database, together with all who ask while it answers those before: one question at a time."""
        if not self._asked:  # before this one is added: the same key may be asked for twice
            self._answering = asyncio.create_task(self._answer(self._answering))
            self._answering.add_done_callback(_heard)  # all who asked may have given up
        self._asked.add(given)
        answering = cast("asyncio.Task[Mapping[bytes, str]]", self._answering)
        return (await asyncio.shield(answering)).get(given)  # one who gives up must not end the question of the others

    async def _answer(self, before: "asyncio.Task[Mapping[bytes, str]] | None") -> Mapping[bytes, str]:
        if before is not None:
            await asyncio.wait([before])
        asked, self._asked = self._asked, set()
        until = time.monotonic() + KNOWN_S  # from before the question: what it says may be old at once
        owners = await asyncio.to_thread(self._read, list(asked))
        for each, owner in owners.items():
            self._known[each] = _Known(owner, until)
            self._known.move_to_end(each)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return owners

    def _read(self, asked: Sequence[bytes]) -> Mapping[bytes, str]:
        with self._database.connection() as connection:
            return owners_of(connection, asked)


def _heard(answering: "asyncio.Task[Mapping[bytes, str]] | asyncio.Task[None]") -> None:
    if not answering.cancelled():
        answering.exception()


@dataclass(frozen=True, slots=True)
class _Known:
    """A key's owner, and until when that may be believed, by the monotonic clock."""

    owner: str
    until: float


def identity_of(connection: HTTPConnection) -> Identity:
    """Who sent this request; the gate has let it pass."""
    return cast("Identity", connection.scope["darkroom.identity"])


def require_admin(connection: HTTPConnection) -> Identity:
    """The administrator, or `Forbidden`."""
    identity = identity_of(connection)
    if not identity.is_admin:
        raise Forbidden
    return identity


class Gate:
    """Lets through who is known, everywhere but at the open addresses."""

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self._app = app
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        signs_in = path == SIGN_IN and "token" in QueryParams(scope["query_string"])
        if path not in OPEN and not signs_in:
            try:
                scope["darkroom.identity"] = await self._known(scope)
            except (Unauthorized, RateLimited, Unavailable) as error:
                await problem_of(error)(scope, receive, send)
                return
            with about(owner=scope["darkroom.identity"].owner):
                await self._app(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _known(self, scope: Scope) -> Identity:
        """Who asks. Raises `Unauthorized`, `RateLimited` and `Unavailable`."""
        token = token_of(scope)
        identity = None if token is None else await self._identities.identify(token, address_of(scope))
        if identity is None:
            raise Unauthorized(given=token is not None)
        return identity


def token_of(scope: Scope) -> str | None:
    """The token that a request brings, the header's before the cookie's; None for none."""
    cookie = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
        if name == b"cookie":
            cookie = HTTPConnection(scope).cookies.get(COOKIE)
    return cookie
