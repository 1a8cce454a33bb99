"""Signs a browser in: a link that works once, the session that it starts, and signing out."""

import asyncio
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from api.http import schemas
from api.http.bodies.json_body import read_nothing
from api.http.errors import LinkUsed
from api.http.identity import cookie_name, credential_of, identity_of, session_of
from api.http.limits.open_connections import address_of
from api.http.openapi import answers
from api.http.responses import answer
from api.state import Parts, state_of
from services import sessions
from services.sessions import NewLink

router = APIRouter(tags=["sign-in"])

INDEX: Final = {"name": "Darkroom", "docs": "/docs", "openapi": "/openapi.json", "jobs": "/v1/jobs"}

FETCHED_AHEAD: Final = ("sec-purpose", "purpose", "x-moz")
"""Headers that browsers set when they prefetch a link that the user has not opened."""


@router.post(
    "/v1/sign-in-links",
    status_code=201,
    response_model=None,
    responses=answers({201: schemas.SignInLink}, 422, 503),
)
async def make_sign_in_link(request: Request) -> Response:
    """A link for the caller that signs one browser in, once, within a day. Needs a token or key, not a session."""
    state = state_of(request)
    await read_nothing(request)
    owner, credential = identity_of(request).owner, credential_of(request)
    link = await asyncio.to_thread(_make_link, state.parts, owner, credential)
    url = f"{str(request.base_url).rstrip('/')}/?code={link.code}"
    return answer({"url": url, "expires_at": link.expires_at}, 201, Cache_Control="no-store")


@router.post("/v1/sign-out", status_code=204, response_model=None, responses=answers({204: None}, 422, 503))
async def sign_out(request: Request) -> Response:
    """End the session of this browser: 204, also if there is none."""
    state = state_of(request)
    await read_nothing(request)
    session = session_of(request.scope)
    if session is not None:
        await asyncio.to_thread(_end, state.parts, session)
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(request.scope), httponly=True, samesite="strict")
    return response


@router.head("/", include_in_schema=False, response_model=None)
async def look() -> Response:
    """`HEAD` of the index: it does not use up a sign-in link."""
    return answer(INDEX)


@router.get("/", include_in_schema=False, response_model=None)
async def index(request: Request, code: str | None = None) -> Response:
    """List the main addresses; with the code of a link, start a session. Raises `LinkUsed`."""
    if code is None:
        return answer(INDEX)
    if any("fetch" in request.headers.get(name, "") for name in FETCHED_AHEAD):
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    state, address = state_of(request), address_of(request.scope)
    state.identities.require_patience(address)
    session = await asyncio.to_thread(_sign_in, state.parts, code)
    if session is None:
        state.identities.count_wrong(address)
        raise LinkUsed
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        cookie_name(request.scope),
        session,
        max_age=int(sessions.SESSION_LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _make_link(parts: Parts, owner: str, credential: bytes) -> NewLink:
    with parts.database.connection() as connection:
        return sessions.new_link(connection, owner, credential)


def _sign_in(parts: Parts, code: str) -> str | None:
    with parts.database.connection() as connection:
        return sessions.sign_in(connection, code)


def _end(parts: Parts, session: str) -> None:
    with parts.database.connection() as connection:
        sessions.sign_out(connection, session)
