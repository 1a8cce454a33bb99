"""For administrators: failed jobs of all owners, and running one of them again."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.batches.commands import Retried
from api.http import schemas
from api.http.bodies.json_body import read_nothing
from api.http.idempotency import RequestContext, retry_id
from api.http.identity import require_admin
from api.http.openapi import answers
from api.http.pages import Cursor, Limit, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, listed
from api.jobs.control import retry
from api.jobs.reading import identifier
from api.state import ApiState, require_broker, state_of
from domain.aggregates.job import Finished, status_of
from domain.errors import NothingToRetry
from domain.events import ErrorClass, JobFailed
from projections.reads import jobs as reads
from projections.reads.jobs import DeadJobRow

router = APIRouter(tags=["admin"])


@router.get(
    "/v1/admin/dead-jobs", response_model=None, responses=answers({200: schemas.Page[schemas.DeadJob]}, 403, 422, 503)
)
async def list_dead_jobs(
    request: Request,
    error_class: Annotated[ErrorClass | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Failed jobs of all owners, newest first."""
    require_admin(request)
    state = state_of(request)
    place = place_of("dead-jobs", cursor)
    await wait_for_views(request, state.positions, "jobs")
    before = None if place is None else place[0]
    rows, retried = await asyncio.to_thread(_read, state, error_class, before, limit + 1)
    page, following = page_of(rows, limit, "dead-jobs", lambda row: [row.queued_position])
    return listed([_document(row, retried) for row in page], following)


@router.post(
    "/v1/admin/dead-jobs/{job_id}/retry",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.RetriedJob, 200: schemas.RetriedJob}, 403, 404, 409, 503),
)
async def retry_dead_job(request: Request, job_id: str) -> Response:
    """Run it again for its owner, as a new job with the same seeds.

    A repeat for the same job: 200, and no second one.
    """
    identity = require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    await read_nothing(request)
    require_broker(state)
    retried, document = await asyncio.to_thread(_retry, state, found, identity.owner)
    return answer(document, 202 if retried.new else 200, position=retried.position)


def _read(
    state: ApiState, error_class: str | None, before: int | None, limit: int
) -> tuple[list[DeadJobRow], set[UUID]]:
    """Dead jobs, and the existing retries of them. They belong to many owners, so they are not read as an owner."""
    with state.parts.database.connection() as connection:
        rows = reads.dead_jobs(connection, error_class=error_class, before=before, limit=limit)
        return rows, reads.which_exist(connection, [retry_id(row.owner, row.job_id) for row in rows])


def _retry(state: ApiState, job_id: UUID, administrator: str) -> tuple[Retried, dict[str, Any]]:
    job = state.parts.ledger.generation(job_id).job
    if not isinstance(job, Finished) or not isinstance(job.ending, JobFailed):
        raise NothingToRetry(status_of(job))
    owner = job.queued.owner
    retried = retry(state.parts, RequestContext(owner, state.parts.clock(), None, None), job_id, administrator)
    return retried, {"id": retried.job_id, "parent_id": job_id, "owner": owner}


def _document(row: DeadJobRow, retried: set[UUID]) -> dict[str, Any]:
    successor = retry_id(row.owner, row.job_id)
    return {
        "id": row.job_id,
        "owner": row.owner,
        "job_type": row.job_type,
        "model": row.model,
        "pool": row.pool,
        "quantity": row.quantity,
        "attempts": row.attempts,
        "error": {"error_class": row.error["error_class"], "message": row.error["message"]},
        "quarantined": row.error["error_class"] == ErrorClass.WORKER_LOST,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "retried_as": successor if successor in retried else None,
    }
