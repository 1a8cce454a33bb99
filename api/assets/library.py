"""The library: completed assets with filters and search; and the trash with the same."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http import schemas
from api.http.identity import identity_of
from api.http.openapi import answers
from api.http.pages import LIMIT_DEFAULT, Cursor, Limit, TagText, Text, Words, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import listed
from api.jobs.documents import listed_asset_document
from api.state import ApiState, state_of
from domain.statuses import OutputKind
from projections.reads import jobs as reads
from projections.reads.jobs import LibraryFilter

router = APIRouter(tags=["library"])


@router.get("/v1/library", response_model=None, responses=answers({200: schemas.Page[schemas.ListedAsset]}, 422, 503))
async def list_library(
    request: Request,
    kind: Annotated[OutputKind | None, Query()] = None,
    saved: Annotated[bool | None, Query()] = None,
    tag: TagText | None = None,
    q: Words = None,
    min_score: Annotated[int | None, Query(ge=1, le=5)] = None,
    model: Annotated[Text | None, Query(max_length=100)] = None,
    trashed: Annotated[bool, Query(description="What is in the trash, instead of what is not.")] = False,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """The newest first. `q` searches prompt, title and tags."""
    state = state_of(request)
    place = place_of("library", cursor)
    await wait_for_views(request, state.positions, "library")
    wanted = LibraryFilter(kind, saved, tag, q, min_score, model, trashed)
    rows = await asyncio.to_thread(_rows, state, identity_of(request).owner, wanted, place, limit + 1)
    page, following = page_of(rows, limit, "library", lambda row: [row.list_position])
    return listed([listed_asset_document(row) for row in page], following)


def _rows(
    state: ApiState, owner: str, wanted: LibraryFilter, place: tuple[int, ...] | None, limit: int
) -> list[reads.ListedAssetRow]:
    before = None if place is None else place[0]
    with state.parts.views.of(owner) as connection:
        return reads.list_library(connection, owner, wanted, before=before, limit=limit)
