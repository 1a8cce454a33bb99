"""Who asks: a token, in the Authorization header or in the cookie that a browser gets once, becomes an identity."""

import hmac
from dataclasses import dataclass
from typing import Final, Protocol, cast

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Forbidden, Unauthorized, problem_of

COOKIE: Final = "darkroom_token"

COOKIE_S_MAX: Final = 400 * 24 * 3600
"""The longest that browsers keep a cookie; the token itself has no end."""

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""What load balancers and supervisors ask without a token."""

SIGN_IN: Final = "/"
"""The link that is printed at start: `/?token=…` is answered here, before there is an identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose jobs and assets are meant. Only an administrator sees projections and queues."""

    owner: str
    is_admin: bool = False


class Identities(Protocol):
    """Tokens to identities: today one administrator's token, tomorrow a key for each user."""

    def identify(self, token: str) -> Identity | None:
        """Whom the token stands for; None for a token that is not ours."""
        ...


class AdminToken:
    """The one token of an installation; its owner is `admin`."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("An empty administrator's token would let everybody in.")
        self._token = token.encode()
        self._admin = Identity("admin", is_admin=True)

    def identify(self, token: str) -> Identity | None:
        """See `Identities`. Takes the same time for every wrong token of the same length."""
        return self._admin if hmac.compare_digest(token.encode(), self._token) else None


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
    """Lets through who is known, everywhere but at the open addresses, and marks every answer `nosniff`."""

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self._app = app
        self._identities = identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        path = scope["path"]
        if path not in OPEN:
            token = token_of(scope)
            identity = None if token is None else self._identities.identify(token)
            signs_in = path == SIGN_IN and b"token=" in scope["query_string"]
            if identity is None and not signs_in:
                await problem_of(Unauthorized(given=token is not None))(scope, receive, sealed)
                return
            scope["darkroom.identity"] = identity
        await self._app(scope, receive, sealed)


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
