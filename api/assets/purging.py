"""Deletes assets permanently: first the event, then file and thumbnail. After a crash the sweeper deletes the rest."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_nothing
from api.http.errors import ViewBehind
from api.http.identity import identity_of, require_admin
from api.http.openapi import answers
from api.http.pages import Text
from api.http.read_your_writes import POSITION
from api.http.responses import answer
from api.jobs.reading import identifier
from api.state import ApiState, require_broker, state_of
from domain.aggregates.asset import Purged
from domain.commands import PurgeAsset
from domain.errors import FieldProblem, InvalidInput, Refused
from domain.json_type import Json
from projections.reads import jobs as reads
from services.crash_points import Point, reached
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.files.sweeper import delete_files
from services.ledger import ASSET, AssetExecuted, Context, Instruction

router = APIRouter(tags=["assets"])

SEEN_S_MAX: Final = 2.0
"""Seconds to wait for the views; a purge is valid even if they do not show it yet."""

PURGED_AT_ONCE_MAX: Final = 200
"""Maximum number of assets purged by one request: a full trash needs several, each short enough to wait for."""


@router.post(
    "/v1/assets/{asset_id}/purge",
    status_code=204,
    response_model=None,
    responses=answers({204: None}, 404, 409, 422, 503),
)
async def purge_asset(request: Request, asset_id: str) -> Response:
    """Delete an asset in the trash permanently, with its file and its thumbnail. It cannot be restored."""
    found = identifier("asset", asset_id)
    owner = identity_of(request).owner
    return await _purge_one(request, found, Context(owner, owner))


@router.delete(
    "/v1/trash", response_model=None, responses=answers({200: schemas.EmptiedTrash}, 422, 503), tags=["library"]
)
async def empty_trash(request: Request) -> Response:
    """Delete the assets in the trash permanently, at most 200 at a time; `more` says whether some are left."""
    return await _empty(request, identity_of(request).owner, identity_of(request).owner)


@router.post(
    "/v1/admin/assets/{asset_id}/purge",
    status_code=204,
    response_model=None,
    responses=answers({204: None}, 403, 404, 409, 422, 503),
    tags=["admin"],
)
async def purge_anybodys_asset(request: Request, asset_id: str) -> Response:
    """The same for an asset of any owner. It must be in its owner's trash."""
    identity = require_admin(request)
    return await _purge_one(request, identifier("asset", asset_id), Context(identity.owner))


@router.delete(
    "/v1/admin/trash",
    response_model=None,
    responses=answers({200: schemas.EmptiedTrash}, 403, 422, 503),
    tags=["admin"],
)
async def empty_anybodys_trash(
    request: Request, owner: Annotated[Text | None, Query(min_length=1, max_length=100)] = None
) -> Response:
    """Empty the trash of one owner, who must be named."""
    identity = require_admin(request)  # first of all: other users learn nothing about what exists
    if owner is None:
        raise InvalidInput([FieldProblem("owner", "must name the owner of the trash")])
    return await _empty(request, owner, identity.owner)


async def _purge_one(request: Request, asset_id: UUID, context: Context) -> Response:
    state = state_of(request)
    await read_nothing(request)
    require_broker(state)
    command = PurgeAsset(state.parts.clock())
    executed = await asyncio.to_thread(state.parts.ledger.execute, ASSET, asset_id, command, context)
    reached(Point.PURGE_AFTER_EVENT)
    if isinstance(executed.state, Purged):
        await asyncio.to_thread(_delete, state.parts.blobs, {asset_id: executed.state})
    await _seen(state, executed.position)
    return Response(status_code=204, headers={POSITION: str(executed.position)})


async def _empty(request: Request, owner: str, actor: str) -> Response:
    state = state_of(request)
    await read_nothing(request)
    require_broker(state)
    document, position = await asyncio.to_thread(_emptied, state, owner, actor)
    await _seen(state, position)
    return answer(document, position=position)


async def _seen(state: ApiState, position: int) -> None:
    """Wait until the views include it: a request for the file is then answered "purged", not "missing"."""
    with suppress(ViewBehind):
        await state.positions.reached(("jobs", "library"), position, SEEN_S_MAX)


def _emptied(state: ApiState, owner: str, actor: str) -> tuple[Json, int]:
    wanted = reads.LibraryFilter(trashed=True)
    with state.parts.views.of(owner) as connection:
        rows = reads.list_library(connection, owner, wanted, before=None, limit=PURGED_AT_ONCE_MAX + 1)
    now = state.parts.clock()
    asked = [Instruction(ASSET, row.asset_id, PurgeAsset(now), Context(actor, owner)) for row in rows]
    done: dict[UUID, AssetExecuted] = {}
    for one, outcome in zip(asked, state.parts.ledger.execute_each(asked[:PURGED_AT_ONCE_MAX]), strict=False):
        if not isinstance(outcome, Exception):
            done[one.stream] = outcome
        elif not isinstance(outcome, Refused):  # an asset that was restored meanwhile stays
            raise outcome
    purged = {asset_id: one.state for asset_id, one in done.items() if isinstance(one.state, Purged)}
    _delete(state.parts.blobs, purged)
    document: Json = {
        "purged": len(purged),
        "bytes": sum(asset.completed.bytes for asset in purged.values()),
        "more": len(rows) > PURGED_AT_ONCE_MAX,
    }
    return document, max((one.position for one in done.values()), default=state.parts.ledger.head())


def _delete(blobs: Blobs, purged: Mapping[UUID, Purged]) -> None:
    """Delete the files.

    The sweeper deletes those that cannot be deleted now: the ledger says that they are not needed.
    """
    for asset_id, asset in purged.items():
        try:
            delete_files(blobs, asset_id, asset)
        except BlobStoreUnavailable:
            return
