"""Authentication: a token or API key in the Authorization header, or the session in a browser's cookie."""

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import CredentialNeeded, CrossOrigin, Forbidden, RateLimited, Unauthorized, problem_of
from api.http.limits.open_connections import address_of
from api.http.limits.rates import Rates
from api.http.same_origin import is_from_own_page
from services import sessions
from services.database import Database, Unavailable
from services.observability.logs import about
from services.sessions import is_session
from services.users import ADMIN, fingerprint, is_key, owners_of, working_keys

COOKIE_PREFIX: Final = "darkroom_session_"
"""Cookies go to every port of a host: the port in the name separates two installations."""

KNOWN_S: Final = 1.0
"""Seconds for which a revoked key may still work: each key in use costs one database query per second."""

KNOWN_MAX: Final = 10_000
"""Maximum number of keys remembered; the one looked up longest ago is forgotten first."""

WRONG_KEYS_AT_ONCE_MAX: Final = 20
"""Maximum burst of wrong keys from one address: enough for a script with an old key, or for typing errors."""

WRONG_KEYS_PER_S_MAX: Final = 0.5

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths that load balancers and supervisors read without a token."""

SIGN_IN: Final = "/"
"""The path of sign-in links: `/?code=…` is answered before there is an identity."""

Recheck = Callable[[], Awaitable["Identity | None"]]
"""Checks whether a credential still works. Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of the jobs and assets in a request. Only an administrator can read projections and queues."""

    owner: str
    is_admin: bool = False


ADMINISTRATOR: Final = Identity(ADMIN, is_admin=True)


class Identities:
    """Maps tokens to identities: the administrator's, and the keys in the database. For one event loop.

    A key is remembered for `KNOWN_S`; the administrator's token works without a database.
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
        """The identity of a token; None if it is unknown or revoked.

        Raises `Unavailable`, and `RateLimited` for a wrong token from an `address` that has sent too many. A right
        token is accepted from such an address too, without a database query for each.

        Only fingerprints are compared, so the duration reveals nothing about existing tokens.
        """
        given = fingerprint(token)
        if hmac.compare_digest(given, self._admin):
            return ADMINISTRATOR
        return await self._identified(given, address, can_be_ours=is_key(token))

    def remembered(self, scope: Scope) -> str | None:
        """The remembered sender of a request: good enough to tell senders apart, not for authentication."""
        credential = token_of(scope) or session_of(scope)
        if not credential:
            return None
        given = fingerprint(credential)
        if hmac.compare_digest(given, self._admin):
            return ADMIN
        known = self._known.get(given)
        return None if known is None else known.owner

    def is_admins(self, token: str | None) -> bool:
        """Whether this is the administrator's token."""
        return token is not None and hmac.compare_digest(fingerprint(token), self._admin)

    async def identify_session(self, session: str, address: str | None = None) -> Identity | None:
        """The identity of a session; None if it is unknown or has ended. Raises as `identify`."""
        return await self._identified(fingerprint(session), address, can_be_ours=is_session(session))

    def require_patience(self, address: str | None) -> None:
        """Refuse an address that has sent too many wrong credentials. Raises `RateLimited`."""
        wait_s = 0.0 if address is None else self._wrong.wait_s(address)
        if wait_s > 0:
            raise RateLimited(math.ceil(wait_s))

    def count_wrong(self, address: str | None) -> None:
        """Count a wrong credential from an address."""
        if address is not None:
            self._wrong.take(address)

    async def _identified(self, given: bytes, address: str | None, *, can_be_ours: bool) -> Identity | None:
        owner = await self._owner_by(given, address) if can_be_ours else None
        if owner is not None:
            return Identity(owner, is_admin=owner == ADMIN)
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
        """Search all valid keys and sessions. They are read at most twice in `KNOWN_S`, however many wrong keys arrive.

        They are read again before they expire, so that a client with a right key does not wait for the database.
        """
        left_s = self._working_until - time.monotonic()
        if left_s < KNOWN_S / 2 and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read_all())
            self._reading.add_done_callback(_heard)
        if left_s <= 0 and self._reading is not None:
            await asyncio.shield(self._reading)
        return self._working.get(given)

    async def _read_all(self) -> None:
        until = time.monotonic() + KNOWN_S
        self._working = await asyncio.to_thread(self._all_working)
        self._working_until = until

    def _all_working(self) -> Mapping[bytes, str]:
        with self._database.connection() as connection:
            return {**working_keys(connection), **sessions.working(connection, self._admin)}

    async def _owner_of(self, given: bytes) -> str | None:
        """Query the database: one query at a time, each for all requests that arrived during the previous one."""
        if not self._asked:  # before this one is added: the same key may come twice
            self._answering = asyncio.create_task(self._answer(self._answering))
            self._answering.add_done_callback(_heard)  # all callers may have given up
        self._asked.add(given)
        answering = cast("asyncio.Task[Mapping[bytes, str]]", self._answering)
        return (await asyncio.shield(answering)).get(given)  # one caller that gives up must not cancel the others

    async def _answer(self, before: "asyncio.Task[Mapping[bytes, str]] | None") -> Mapping[bytes, str]:
        if before is not None:
            await asyncio.wait([before])
        asked, self._asked = self._asked, set()
        until = time.monotonic() + KNOWN_S  # from before the query: its result may be outdated immediately
        owners = await asyncio.to_thread(self._read, list(asked))
        for each, owner in owners.items():
            self._known[each] = _Known(owner, until)
            self._known.move_to_end(each)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return owners

    def _read(self, asked: Sequence[bytes]) -> Mapping[bytes, str]:
        with self._database.connection() as connection:
            return {**owners_of(connection, asked), **sessions.owners_of(connection, asked, self._admin)}


def _heard(answering: "asyncio.Task[Mapping[bytes, str]] | asyncio.Task[None]") -> None:
    if not answering.cancelled():
        answering.exception()


@dataclass(frozen=True, slots=True)
class _Known:
    """A key's owner, and until when it is valid, by the monotonic clock."""

    owner: str
    until: float


def identity_of(connection: HTTPConnection) -> Identity:
    """The sender of this request; the gate has authenticated it."""
    return cast("Identity", connection.scope["darkroom.identity"])


def require_admin(connection: HTTPConnection) -> Identity:
    """The administrator; raises `Forbidden` for others."""
    identity = identity_of(connection)
    if not identity.is_admin:
        raise Forbidden
    return identity


class Gate:
    """Lets only authenticated requests through, except to the open paths."""

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self._app = app
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        signs_in = path == SIGN_IN and "code" in QueryParams(scope["query_string"])
        if path not in OPEN and not signs_in:
            try:
                scope["darkroom.identity"] = await self._known(scope)
            except (Unauthorized, CrossOrigin, RateLimited, Unavailable) as error:
                await problem_of(error)(scope, receive, send)
                return
            with about(owner=scope["darkroom.identity"].owner):
                await self._app(scope, receive, send)
            return
        if path in OPEN and self._identities.is_admins(token_of(scope)):  # without the database: it may be down
            scope["darkroom.identity"] = ADMINISTRATOR
        await self._app(scope, receive, send)

    async def _known(self, scope: Scope) -> Identity:
        """The sender. Raises `Unauthorized`, `CrossOrigin`, `RateLimited` and `Unavailable`."""
        token, identity = token_of(scope), None
        recheck: Recheck | None = None
        if token is not None:
            recheck = partial(self._identities.identify, token)
            identity = await self._identities.identify(token, address_of(scope))
        elif (session := session_of(scope)) is not None:
            if not is_from_own_page(scope["method"], Headers(scope=scope)):
                raise CrossOrigin
            recheck = partial(self._identities.identify_session, session)
            identity = await self._identities.identify_session(session, address_of(scope))
        if identity is None:
            raise Unauthorized(given=recheck is not None)
        scope["darkroom.recheck"] = recheck
        return identity


async def until_revoked(scope: Scope) -> None:
    """Return when the credential of a request no longer works: long requests end with it.

    While Postgres is unavailable no credential can be revoked.
    """
    recheck: Recheck = scope["darkroom.recheck"]
    while True:
        await asyncio.sleep(KNOWN_S)
        with suppress(Unavailable):
            if await recheck() is None:
                return


def token_of(scope: Scope) -> str | None:
    """The token of the Authorization header; None without such a header."""
    authorization = Headers(scope=scope).get("authorization")
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def session_of(scope: Scope) -> str | None:
    """The session in the cookie of this server's port; None without one."""
    return HTTPConnection(scope).cookies.get(cookie_name(scope))


def cookie_name(scope: Scope) -> str:
    """The name of this server's cookie."""
    _, port = scope.get("server") or ("", 0)
    return f"{COOKIE_PREFIX}{port or 0}"


def credential_of(connection: HTTPConnection) -> bytes:
    """The fingerprint of the request's token or API key. Raises `CredentialNeeded` for a session."""
    token = token_of(connection.scope)
    if token is None:
        raise CredentialNeeded
    return fingerprint(token)
