"""Assets: details, the file, and curation by the owner."""

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.assets.content import File, file_answer
from api.http import schemas
from api.http.bodies.json_body import read_body, read_nothing
from api.http.bodies.texts import Tags, Title
from api.http.idempotency import after_the_commit
from api.http.identity import identity_of
from api.http.openapi import answers, body_and_headers, files
from api.http.read_your_writes import POSITION, WAIT_S_MAX, wait_for_views
from api.http.responses import answer
from api.jobs.documents import curated, listed_asset_document
from api.jobs.reading import identifier
from api.state import ApiState, require_broker, state_of
from domain.aggregates.asset import Completed
from domain.commands import (
    AssetCommand,
    ChangeTags,
    RateAsset,
    RestoreAsset,
    SaveAsset,
    TagAsset,
    TitleAsset,
    TrashAsset,
    UnsaveAsset,
)
from domain.errors import AssetGone, FieldProblem, InvalidInput, NotFound
from domain.json_type import Json
from projections.reads import jobs as reads
from projections.reads.jobs import ListedAssetRow
from services.ledger import ASSET, AssetExecuted, Context

router = APIRouter(tags=["assets"])


THUMBNAIL_TYPE = "image/webp"
"""The media type of every thumbnail."""

WRITTEN = answers({200: schemas.ListedAsset}, 400, 404, 409, 410, 413, 415, 422, 503)


class RatingBody(BaseModel):
    """A quick rating."""

    model_config = ConfigDict(extra="forbid", strict=True)

    score: Annotated[int, Field(ge=1, le=5)]


class AssetPatch(BaseModel):
    """The changes; absent fields stay unchanged. A null title removes the title; `tags` replaces the whole set.

    `add_tags` and `remove_tags` leave all other tags unchanged, also those of concurrent changes.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Title | None = None
    tags: Tags = Field(default_factory=list)
    add_tags: Tags = Field(default_factory=list)
    remove_tags: Tags = Field(default_factory=list)


@router.get("/v1/assets/{asset_id}", response_model=None, responses=answers({200: schemas.ListedAsset}, 404, 503))
async def get_asset(request: Request, asset_id: str) -> Response:
    """One asset."""
    return answer(listed_asset_document(await _found(request, asset_id)))


@router.head("/v1/assets/{asset_id}/content", response_model=None, include_in_schema=False)
@router.get(
    "/v1/assets/{asset_id}/content",
    response_model=None,
    response_class=Response,
    responses=files(404, 410, 416, 503),
)
async def get_content(request: Request, asset_id: str) -> Response:
    """The file. Its entity tag is the SHA-256 in the ledger; supports a range and conditional requests."""
    row = await _with_file(request, asset_id)
    if row.media_type is None or row.bytes is None or row.sha256 is None:
        raise NotFound("file yet of the asset", f"{row.asset_id}, which is {row.status}")
    file = File(row.path, row.media_type, row.bytes, row.sha256)
    return await file_answer(state_of(request).parts.blobs, file, request.headers, head=request.method == "HEAD")


@router.head("/v1/assets/{asset_id}/thumbnail", response_model=None, include_in_schema=False)
@router.get(
    "/v1/assets/{asset_id}/thumbnail",
    response_model=None,
    response_class=Response,
    responses=files(404, 410, 416, 503),
)
async def get_thumbnail(request: Request, asset_id: str) -> Response:
    """A small WebP of the file, for a video of one of its frames; created soon after the asset was completed."""
    row = await _with_file(request, asset_id)
    if row.thumbnail_path is None or row.thumbnail_bytes is None or row.thumbnail_sha256 is None:
        raise NotFound("thumbnail yet of the asset", f"{row.asset_id}, which is {row.status}")
    file = File(row.thumbnail_path, THUMBNAIL_TYPE, row.thumbnail_bytes, row.thumbnail_sha256)
    return await file_answer(state_of(request).parts.blobs, file, request.headers, head=request.method == "HEAD")


@router.put(
    "/v1/assets/{asset_id}/rating",
    response_model=None,
    responses=WRITTEN,
    openapi_extra=body_and_headers(RatingBody),
)
async def rate_asset(request: Request, asset_id: str) -> Response:
    """Rate it; rating again replaces the score."""
    found = identifier("asset", asset_id)
    body = await read_body(request, RatingBody)
    return await _written(request, found, RateAsset(body.score, state_of(request).parts.clock()))


@router.put("/v1/assets/{asset_id}/saved", response_model=None, responses=WRITTEN)
async def save_asset(request: Request, asset_id: str) -> Response:
    """Save it."""
    return await _without_body(request, asset_id, SaveAsset(state_of(request).parts.clock()))


@router.delete("/v1/assets/{asset_id}/saved", response_model=None, responses=WRITTEN)
async def unsave_asset(request: Request, asset_id: str) -> Response:
    """Remove it from the saved assets."""
    return await _without_body(request, asset_id, UnsaveAsset(state_of(request).parts.clock()))


@router.patch(
    "/v1/assets/{asset_id}",
    response_model=None,
    responses=WRITTEN,
    openapi_extra=body_and_headers(AssetPatch),
)
async def patch_asset(request: Request, asset_id: str) -> Response:
    """Change its title and tags."""
    found = identifier("asset", asset_id)
    body = await read_body(request, AssetPatch)
    return await _written(request, found, *_commands_of(body, state_of(request).parts.clock()))


def _commands_of(body: AssetPatch, now: datetime) -> list[AssetCommand]:
    """Raises `InvalidInput`. The title comes last: if the tags are refused, nothing is changed."""
    given = body.model_fields_set
    commands: list[AssetCommand] = []
    changes = given & {"add_tags", "remove_tags"}
    if "tags" in given and changes:
        raise InvalidInput([FieldProblem("tags", "replaces all tags, so it cannot go with add_tags or remove_tags")])
    if both := sorted({*body.add_tags} & {*body.remove_tags}):
        raise InvalidInput([FieldProblem("remove_tags", f"has {both[0]!r}, which add_tags has as well")])
    if "tags" in given:
        commands.append(TagAsset(tuple(body.tags), now))
    if changes:
        commands.append(ChangeTags(tuple(body.add_tags), tuple(body.remove_tags), now))
    if "title" in given:
        commands.append(TitleAsset(body.title, now))
    if not commands:
        raise InvalidInput([FieldProblem("body", "must have title, tags, add_tags or remove_tags")])
    return commands


@router.delete(
    "/v1/assets/{asset_id}",
    status_code=204,
    response_model=None,
    responses=answers({204: None}, 404, 409, 410, 422, 503),
)
async def trash_asset(request: Request, asset_id: str) -> Response:
    """Move it to the trash; its file stays until it is purged."""
    found = identifier("asset", asset_id)
    await read_nothing(request)
    executed = await execute_asset(request, found, TrashAsset(state_of(request).parts.clock()))
    return Response(status_code=204, headers={POSITION: str(executed.position)})


@router.post("/v1/assets/{asset_id}/restore", response_model=None, responses=WRITTEN)
async def restore_asset(request: Request, asset_id: str) -> Response:
    """Restore it from the trash."""
    return await _without_body(request, asset_id, RestoreAsset(state_of(request).parts.clock()))


async def execute_asset(request: Request, asset_id: UUID, command: AssetCommand) -> AssetExecuted:
    """Execute a command on an asset of the caller. Raises the domain's refusals."""
    state = state_of(request)
    require_broker(state)
    owner = identity_of(request).owner
    context = Context(actor=owner, owner=owner)
    return await asyncio.to_thread(state.parts.ledger.execute, ASSET, asset_id, command, context)


async def _without_body(request: Request, asset_id: str, command: AssetCommand) -> Response:
    found = identifier("asset", asset_id)
    await read_nothing(request)
    return await _written(request, found, command)


async def _written(request: Request, asset_id: UUID, *commands: AssetCommand) -> Response:
    """Execute the commands; the answer is the changed asset."""
    executed = await execute_asset(request, asset_id, commands[0])
    with after_the_commit():
        for command in commands[1:]:
            executed = await execute_asset(request, asset_id, command)
        document = await _document_after(state_of(request), identity_of(request).owner, asset_id, executed)
    return answer(document, position=executed.position)


async def _document_after(state: ApiState, owner: str, asset_id: UUID, executed: AssetExecuted) -> Json:
    """The asset after a write: the view's row, which must include its completion, with the ledger's newer curation.

    Raises `AssetGone` if it was purged since: a commit that had to be sent again is answered with the present state.
    """
    if not isinstance(executed.state, Completed):
        raise AssetGone
    row = await asyncio.to_thread(_row, state, owner, asset_id)
    if row is None or row.status != "completed":
        await state.positions.reached(("jobs",), executed.position, WAIT_S_MAX)
        row = await asyncio.to_thread(_row, state, owner, asset_id)
    if row is None:
        raise NotFound("asset", asset_id)
    return curated(listed_asset_document(row), executed.state.curation)


async def _found(request: Request, text: str) -> ListedAssetRow:
    state = state_of(request)
    asset_id = identifier("asset", text)
    await wait_for_views(request, state.positions, "jobs")
    row = await asyncio.to_thread(_row, state, identity_of(request).owner, asset_id)
    if row is None:
        raise NotFound("asset", asset_id)
    return row


async def _with_file(request: Request, text: str) -> ListedAssetRow:
    """An asset with a file to read. Also raises `AssetGone` if it was purged."""
    row = await _found(request, text)
    if row.status == "purged":
        raise AssetGone
    return row


def _row(state: ApiState, owner: str, asset_id: UUID) -> ListedAssetRow | None:
    with state.parts.views.of(owner) as connection:
        return reads.find_asset(connection, owner, asset_id)
