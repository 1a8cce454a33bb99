"""Batches and comparisons: open, read, rename, cancel, run again, prefer."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.batches.bodies import BATCH_BYTES_MAX, BatchPatch, NewBatch, PreferenceBody, RetryBody
from api.batches.commands import Answered, open_batch, prefer, run_again, statuses_of_jobs
from api.batches.documents import batch_document, batch_summary
from api.http import schemas
from api.http.bodies.json_body import read_body, read_nothing, read_optional, read_unchecked
from api.http.idempotency import KeyedContext, RequestContext, after_the_commit, asked_in
from api.http.identity import identity_of
from api.http.openapi import answers, body_and_headers
from api.http.pages import LIMIT_DEFAULT, Cursor, Limit, Text, Words, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, encoded, listed
from api.jobs.control import cancel
from api.jobs.reading import identifier
from api.state import ApiState, require_broker, state_of
from domain.commands import PreferAsset, RenameBatch
from domain.errors import NotFound
from domain.json_type import Json
from domain.statuses import ENDED
from projections.reads import batches as batch_reads
from projections.reads.batches import BatchFilter, BatchRow
from services.database import Unavailable
from services.ledger import BATCH, Context
from services.ledger.flusher import OutcomeUnknown
from services.scheduling import short_turns

router = APIRouter(tags=["batches"])

CANCELED_AT_ONCE: Final = 16
"""Jobs that are canceled together share one group commit; more would only take threads from others."""


@router.post(
    "/v1/batches",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.BatchAccepted, 200: schemas.BatchAccepted}, 400, 413, 415, 422, 503),
    openapi_extra=body_and_headers(NewBatch, "Idempotency-Key", "Cancel-After"),
)
async def submit_batch(request: Request) -> Response:
    """Submit jobs together. 202: each item with its job, or why there is none; a bad item never affects the others."""
    state = state_of(request)
    asked = asked_in(request)
    content = await read_unchecked(request, BATCH_BYTES_MAX)
    require_broker(state)
    async with state.batches_written.turn(asked.owner):
        return _answered(await asyncio.to_thread(_opened, state, asked, content), 202)


@router.get("/v1/batches", response_model=None, responses=answers({200: schemas.Page[schemas.BatchSummary]}, 422, 503))
async def list_batches(
    request: Request,
    kind: Annotated[Literal["batch", "comparison"] | None, Query()] = None,
    collection: Annotated[Text | None, Query(max_length=200)] = None,
    q: Words = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> Response:
    """The newest first, with the counts of their items by status. `q` searches name, collection and templates."""
    state = state_of(request)
    place = place_of("batches", cursor)
    await wait_for_views(request, state.positions, "batches")
    wanted = BatchFilter(kind, collection, q)
    rows = await asyncio.to_thread(_page, state, identity_of(request).owner, wanted, place, limit + 1)
    page, following = page_of(rows, limit, "batches", lambda row: [row.opened_position])
    return listed([batch_summary(row) for row in page], following)


@router.get("/v1/batches/{batch_id}", response_model=None, responses=answers({200: schemas.Batch}, 404, 503))
async def get_batch(request: Request, batch_id: str) -> Response:
    """One batch with every item, its status and its assets; for a comparison also the preferences."""
    state = state_of(request)
    found = identifier("batch", batch_id)
    await wait_for_views(request, state.positions, "batches", "jobs")
    owner = identity_of(request).owner
    document = await _shown(state, owner, found)
    if document is None:
        await _until_views_know(state, owner, found)
        document = await _shown(state, owner, found)
    if document is None:
        raise NotFound("batch", found)
    return Response(document, media_type="application/json")


async def _shown(state: ApiState, owner: str, found: UUID) -> bytes | None:
    async with state.batches_read.turn(owner):
        return await asyncio.to_thread(_document, state, owner, found)


@router.patch(
    "/v1/batches/{batch_id}",
    response_model=None,
    responses=answers({200: schemas.BatchSummary}, 400, 404, 413, 415, 422, 503),
    openapi_extra=body_and_headers(BatchPatch),
)
async def rename_batch(request: Request, batch_id: str) -> Response:
    """Rename it. Its assets keep their names."""
    state = state_of(request)
    found = identifier("batch", batch_id)
    body = await read_body(request, BatchPatch)
    require_broker(state)
    owner = identity_of(request).owner
    command = RenameBatch(body.name, state.parts.clock())
    executed = await asyncio.to_thread(state.parts.ledger.execute, BATCH, found, command, Context(owner, owner))
    with after_the_commit():
        row = await asyncio.to_thread(_row, state, owner, found)
        if row is None:
            await _until_views_know(state, owner, found)
            row = await asyncio.to_thread(_row, state, owner, found)
    if row is None:
        raise NotFound("batch", found)
    return answer(batch_summary(row) | {"name": body.name}, position=executed.position)


@router.post(
    "/v1/batches/{batch_id}/cancel",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.BatchCanceled}, 404, 422, 503),
)
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Cancel its remaining jobs: waiting ones immediately, running ones between steps."""
    state = state_of(request)
    found = identifier("batch", batch_id)
    await read_nothing(request)
    require_broker(state)
    owner = identity_of(request).owner
    batch, position = await asyncio.to_thread(state.parts.ledger.batch, found, owner=owner)
    known = await asyncio.to_thread(statuses_of_jobs, state.parts, owner, batch)
    jobs = [item.job_id for item in batch.items.values() if item.job_id is not None]
    left = [job_id for job_id in jobs if known.get(job_id) not in ENDED]
    free = asyncio.Semaphore(CANCELED_AT_ONCE)

    async def stopped(job_id: UUID) -> tuple[str, int]:
        async with free:
            return await cancel(state, owner, job_id)

    try:
        results = await asyncio.gather(*map(stopped, left))
    except Unavailable as error:
        raise OutcomeUnknown(f"Some jobs of this batch may be canceled, and others not. {error}") from error
    counts = Counter(result for result, _ in results)
    document = {
        "canceled": counts["canceled"],
        "cancel_requested": counts["cancel_requested"],
        "already_finished": counts["already_finished"] + len(jobs) - len(left),
    }
    return answer(document, 202, position=max((position, *(at for _, at in results))))


@router.post(
    "/v1/batches/{batch_id}/retry",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.BatchAgain, 200: schemas.BatchAgain}, 400, 404, 409, 413, 415, 422, 503),
    openapi_extra=body_and_headers(RetryBody, "Idempotency-Key", "Cancel-After", required=False),
)
async def retry_batch(request: Request, batch_id: str) -> Response:
    """Run items again as new jobs: lost outputs with the same seeds, an item without lost outputs with a new seed."""
    state = state_of(request)
    found = identifier("batch", batch_id)
    asked = asked_in(request)
    body = await read_optional(request, RetryBody)
    require_broker(state)
    async with state.batches_written.turn(asked.owner):
        return _answered(await asyncio.to_thread(_run_again, state, asked, found, body.items), 202)


@router.post(
    "/v1/batches/{batch_id}/preferences",
    status_code=201,
    response_model=None,
    responses=answers({201: schemas.Preference, 200: schemas.Preference}, 400, 404, 409, 413, 415, 422, 503),
    openapi_extra=body_and_headers(PreferenceBody),
)
async def prefer_asset(request: Request, batch_id: str) -> Response:
    """Say which of two assets of a comparison is better. A repeat changes nothing: 200."""
    state = state_of(request)
    found = identifier("batch", batch_id)
    body = await read_body(request, PreferenceBody)
    require_broker(state)
    wanted = PreferAsset(body.winner, body.loser, body.blind, state.parts.clock())
    return _answered(await asyncio.to_thread(prefer, state.parts, identity_of(request).owner, found, wanted), 201)


def _answered(answered: Answered, status: int) -> Response:
    return answer(answered.document, status if answered.new else 200, position=answered.position)


async def _until_views_know(state: ApiState, owner: str, batch_id: UUID) -> None:
    """Return when the views have the batch. Raises `NotFound` if the ledger does not have it, and `ViewBehind`."""
    _, position = await asyncio.to_thread(state.parts.ledger.batch, batch_id, owner=owner)
    await state.positions.reached(("batches", "jobs"), position)


def _page(
    state: ApiState, owner: str, wanted: BatchFilter, place: tuple[int, ...] | None, limit: int
) -> list[BatchRow]:
    before = None if place is None else place[0]
    with state.parts.views.of(owner) as connection:
        return batch_reads.list_batches(connection, owner, wanted, before=before, limit=limit)


def _row(state: ApiState, owner: str, batch_id: UUID) -> BatchRow | None:
    with state.parts.views.of(owner) as connection:
        return batch_reads.find_batch(connection, owner, batch_id)


def _opened(state: ApiState, asked: KeyedContext, content: Json) -> Answered:
    with short_turns():
        return open_batch(state.parts, asked, content)


def _run_again(state: ApiState, asked: RequestContext, batch_id: UUID, indexes: Sequence[int] | None) -> Answered:
    with short_turns():
        return run_again(state.parts, asked, batch_id, indexes)


def _document(state: ApiState, owner: str, batch_id: UUID) -> bytes | None:
    """The batch as JSON; None if the views do not have it."""
    with short_turns():
        return _document_of(state, owner, batch_id)


def _document_of(state: ApiState, owner: str, batch_id: UUID) -> bytes | None:
    with state.parts.views.of(owner) as connection:
        row = batch_reads.find_batch(connection, owner, batch_id)
        if row is None:
            return None
        items = batch_reads.items_of(connection, owner, batch_id)
        jobs = [job_id for item in items for job_id in item.jobs]
        assets = batch_reads.assets_of(connection, owner, jobs)
        preferences = batch_reads.preferences_of(connection, owner, batch_id)
    document = batch_document(row, items, assets, preferences)
    # Item by item: one call for all of them would block every other thread.
    shown = b",".join(encoded(item) for item in document.pop("items"))
    return b'%s,"items":[%s]}' % (encoded(document)[:-1], shown)
