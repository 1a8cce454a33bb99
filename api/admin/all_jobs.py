"""For administrators: the jobs of all owners: read, cancel, retry, and change their priority.

A job's history, which its owner can read, records who did it.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_body, read_nothing
from api.http.idempotency import RequestContext
from api.http.identity import require_admin
from api.http.openapi import answers, body_and_headers
from api.http.pages import LIMIT_MAX, Cursor, Limit, Text, cursor_of, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, listed
from api.jobs.control import cancel, retry
from api.jobs.documents import history_document
from api.jobs.reading import history_of, identifier, owner_of, read_anybodys, read_everybodys
from api.state import require_broker, state_of
from domain.aggregates.job import owner_of as owner_of_job
from domain.commands import ReprioritizeJob
from domain.json_type import Json
from domain.statuses import JobStatus
from projections.reads.jobs import EverybodysFilter
from services.ledger import JOB, Context

router = APIRouter(tags=["admin"])


class PriorityBody(BaseModel):
    """The new priority: jobs with a higher priority are dispatched first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    priority: Annotated[int, Field(ge=-10, le=10)]


@router.get(
    "/v1/admin/jobs", response_model=None, responses=answers({200: schemas.Page[schemas.AnybodysJob]}, 403, 422, 503)
)
async def list_everybodys_jobs(
    request: Request,
    owner: Annotated[Text | None, Query(max_length=100)] = None,
    status: Annotated[JobStatus | None, Query()] = None,
    pool: Annotated[Text | None, Query(max_length=100)] = None,
    job_type: Annotated[Text | None, Query(max_length=100)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Jobs of all owners, newest first."""
    require_admin(request)
    state = state_of(request)
    place = place_of("admin-jobs", cursor)
    await wait_for_views(request, state.positions, "jobs", "queue")
    wanted = EverybodysFilter(owner, status, pool, job_type)
    before = None if place is None else place[0]
    documents, more = await asyncio.to_thread(read_everybodys, state, wanted, before, limit)
    return listed(documents, None if more is None else cursor_of("admin-jobs", more))


@router.get(
    "/v1/admin/jobs/{job_id}", response_model=None, responses=answers({200: schemas.AnybodysJob}, 403, 404, 503)
)
async def get_anybodys_job(request: Request, job_id: str) -> Response:
    """One job of any owner."""
    require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    await wait_for_views(request, state.positions, "jobs", "queue")
    return answer(await asyncio.to_thread(read_anybodys, state, found))


@router.get(
    "/v1/admin/jobs/{job_id}/history",
    response_model=None,
    responses=answers({200: schemas.Page[schemas.HistoryItem]}, 403, 404, 422, 503),
)
async def anybodys_job_history(
    request: Request, job_id: str, cursor: Cursor = None, limit: Limit = LIMIT_MAX
) -> Response:
    """Every event of the job and of its assets in ledger order."""
    require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    place = place_of("history", cursor) or (0,)
    await wait_for_views(request, state.positions, "jobs", "history")
    owner = await asyncio.to_thread(owner_of, state, found)
    rows = await asyncio.to_thread(history_of, state, owner, found, place[0], limit + 1)
    page, following = page_of(rows, limit, "history", lambda row: [row.position])
    return listed([history_document(row) for row in page], following)


@router.post(
    "/v1/admin/jobs/{job_id}/cancel",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.CancelResult}, 403, 404, 422, 503),
)
async def cancel_anybodys_job(request: Request, job_id: str) -> Response:
    """Cancel a job: immediately while it waits, between steps while it runs."""
    identity = require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    await read_nothing(request)
    require_broker(state)
    result, position = await cancel(state, None, found, actor=identity.owner)
    return answer({"result": result}, 202, position=position)


@router.post(
    "/v1/admin/jobs/{job_id}/retry",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.RetriedJob, 200: schemas.RetriedJob}, 403, 404, 409, 422, 503),
)
async def retry_anybodys_job(request: Request, job_id: str) -> Response:
    """Run its lost outputs again for its owner, as a new job. A repeat for the same job: 200, and no second one."""
    identity = require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    await read_nothing(request)
    require_broker(state)
    owner = await asyncio.to_thread(owner_of, state, found)
    asked = RequestContext(owner, state.parts.clock(), None, None)
    retried = await asyncio.to_thread(retry, state.parts, asked, found, identity.owner)
    document: Json = {"id": retried.job_id, "parent_id": found, "owner": owner}
    return answer(document, 202 if retried.new else 200, position=retried.position)


@router.patch(
    "/v1/admin/jobs/{job_id}",
    response_model=None,
    responses=answers({200: schemas.JobPriority}, 400, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=body_and_headers(PriorityBody),
)
async def reprioritize_job(request: Request, job_id: str) -> Response:
    """Change its priority. A running job continues; if it is queued again, it waits with the new priority."""
    identity = require_admin(request)
    state = state_of(request)
    found = identifier("job", job_id)
    body = await read_body(request, PriorityBody)
    require_broker(state)
    command = ReprioritizeJob(body.priority, state.parts.clock())
    context = Context(identity.owner)
    executed = await asyncio.to_thread(state.parts.ledger.execute, JOB, found, command, context)
    document: Json = {"id": found, "owner": owner_of_job(executed.state.job), "priority": body.priority}
    return answer(document, position=executed.position)
