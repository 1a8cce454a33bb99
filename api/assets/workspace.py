"""The workspace: assets in progress or under review, until they are dismissed."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.assets.routes import execute_asset
from api.http import schemas
from api.http.bodies.json_body import read_nothing
from api.http.identity import identity_of
from api.http.openapi import answers
from api.http.pages import LIMIT_DEFAULT, Cursor, Limit, page_of, place_of
from api.http.read_your_writes import POSITION, wait_for_views
from api.http.responses import listed
from api.jobs.documents import listed_asset_document
from api.jobs.reading import identifier
from api.state import ApiState, state_of
from domain.commands import DismissAsset
from projections.reads import jobs as reads

router = APIRouter(tags=["workspace"])


@router.get("/v1/workspace", response_model=None, responses=answers({200: schemas.Page[schemas.ListedAsset]}, 422, 503))
async def list_workspace(request: Request, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT) -> Response:
    """The newest jobs first, their assets by index."""
    state = state_of(request)
    place = place_of("workspace", cursor, parts=2)
    await wait_for_views(request, state.positions, "workspace")
    rows = await asyncio.to_thread(_rows, state, identity_of(request).owner, place, limit + 1)
    page, following = page_of(rows, limit, "workspace", lambda row: [row.list_position, row.index])
    return listed([listed_asset_document(row) for row in page], following)


@router.delete(
    "/v1/workspace/{asset_id}",
    status_code=204,
    response_model=None,
    responses=answers({204: None}, 404, 409, 410, 422, 503),
)
async def dismiss_asset(request: Request, asset_id: str) -> Response:
    """Remove a reviewed asset from the workspace. 409 while it is still being made."""
    found = identifier("asset", asset_id)
    await read_nothing(request)
    executed = await execute_asset(request, found, DismissAsset(state_of(request).parts.clock()))
    return Response(status_code=204, headers={POSITION: str(executed.position)})


def _rows(state: ApiState, owner: str, place: tuple[int, ...] | None, limit: int) -> list[reads.ListedAssetRow]:
    before, after_index = (None, 0) if place is None else (place[0], place[1])
    with state.parts.views.of(owner) as connection:
        return reads.list_workspace(connection, owner, before=before, after_index=after_index, limit=limit)
