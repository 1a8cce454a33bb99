"""Jobs: submit, read, cancel, retry, and read their history."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http import schemas
from api.http.bodies.json_body import read_nothing, read_object
from api.http.errors import Unauthorized
from api.http.idempotency import after_the_commit, asked_in, wait_s
from api.http.identity import identity_of, until_revoked
from api.http.openapi import answers, body_and_headers
from api.http.pages import LIMIT_MAX, Cursor, Limit, TagText, Text, cursor_of, page_of, place_of
from api.http.read_your_writes import wait_for_views
from api.http.responses import answer, listed
from api.jobs.control import cancel, retry
from api.jobs.documents import history_document, new_job_document
from api.jobs.draft import Draft, SubmitBody, draft_of
from api.jobs.reading import history_of, identifier, job_from_ledger, read_job, read_page
from api.jobs.sources import Files, gone
from api.jobs.submission import NOTHING_GIVEN, Given, given_of, submission_of
from api.state import ApiState, require_broker, state_of
from domain.commands import CancelJob, SubmitJob
from domain.errors import NotFound
from domain.json_type import Json
from domain.statuses import ENDED, JobStatus
from projections.reads.jobs import JobFilter
from services.ledger import JOB, Context, JobExecuted
from services.ledger.commits import Conflict, Receipt
from services.ledger.flusher import ANSWER_S_MAX, gave_up

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.Job, 200: schemas.Job}, 400, 413, 415, 422, 503),
    openapi_extra=body_and_headers(SubmitBody, "Idempotency-Key", "Prefer", "Cancel-After"),
)
async def submit_job(request: Request) -> Response:
    """Submit a job. 202 with the job; the same Idempotency-Key and body again: 200 and the same job."""
    state = state_of(request)
    asked = asked_in(request)
    draft = draft_of(await read_object(request))
    given = await _given(state, draft, asked.owner)
    command = submission_of(draft, asked, state.parts.catalog, given)
    try:
        return await _submit(request, state, command)
    except NotFound as error:
        raise gone(error, draft.sources) from error


async def _given(state: ApiState, draft: Draft, owner: str) -> Given:
    """The files and the job that a body names; reads nothing if it names none."""
    if not draft.sources and draft.body.parent_id is None:
        return NOTHING_GIVEN
    return await asyncio.to_thread(given_of, draft, Files(owner, state.parts.ledger))


@router.get("/v1/jobs", response_model=None, responses=answers({200: schemas.Page[schemas.Job]}, 422, 503))
async def list_jobs(
    request: Request,
    status: Annotated[JobStatus | None, Query()] = None,
    job_type: Annotated[Text | None, Query(max_length=100)] = None,
    batch_id: Annotated[UUID | None, Query()] = None,
    tag: TagText | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """The owner's jobs, newest first."""
    state = state_of(request)
    place = place_of("jobs", cursor)
    await wait_for_views(request, state.positions, "jobs", "queue")
    wanted = JobFilter(status, job_type, batch_id, tag)
    owner = identity_of(request).owner
    before = None if place is None else place[0]
    documents, more = await asyncio.to_thread(read_page, state, owner, wanted, before, limit)
    return listed(documents, None if more is None else cursor_of("jobs", more))


@router.get("/v1/jobs/{job_id}", response_model=None, responses=answers({200: schemas.Job}, 404, 503))
async def get_job(request: Request, job_id: str) -> Response:
    """One job with its assets, progress, queue position and ETA."""
    state = state_of(request)
    found = identifier("job", job_id)
    await wait_for_views(request, state.positions, "jobs", "queue")
    return answer(await asyncio.to_thread(read_job, state, identity_of(request).owner, found))


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.CancelResult}, 404, 503),
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel a job: immediately while it waits, between steps while it runs."""
    state = state_of(request)
    found = identifier("job", job_id)
    await read_nothing(request)
    require_broker(state)
    result, position = await cancel(state, identity_of(request).owner, found)
    return answer({"result": result}, 202, position=position)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    response_model=None,
    responses=answers({202: schemas.Job, 200: schemas.Job}, 404, 409, 422, 503),
)
async def retry_job(request: Request, job_id: str) -> Response:
    """Run failed and canceled outputs again, as a new job with the same seeds; 409 if there are none.

    A job is run again only once: a second request answers 200 with the job of the first. In a batch the new job takes
    the place of the old one.
    """
    state = state_of(request)
    found = identifier("job", job_id)
    asked = asked_in(request)
    await read_nothing(request)
    require_broker(state)
    retried = await asyncio.to_thread(retry, state.parts, asked, found)
    seconds = wait_s(request.headers)
    with after_the_commit():
        if seconds is None:
            document, waited = await asyncio.to_thread(job_from_ledger, state, asked.owner, retried.job_id), {}
        else:
            document = await _when_ended(request, state, asked.owner, retried.job_id, seconds)
            waited = {"Preference_Applied": f"wait={seconds}"}
    return answer(document, 202 if retried.new else 200, position=retried.position, **waited)


@router.get(
    "/v1/jobs/{job_id}/history",
    response_model=None,
    responses=answers({200: schemas.Page[schemas.HistoryItem]}, 404, 422, 503),
)
async def job_history(request: Request, job_id: str, cursor: Cursor = None, limit: Limit = LIMIT_MAX) -> Response:
    """Every event of the job and of its assets in ledger order."""
    state = state_of(request)
    found = identifier("job", job_id)
    place = place_of("history", cursor) or (0,)
    await wait_for_views(request, state.positions, "jobs", "history")
    rows = await asyncio.to_thread(history_of, state, identity_of(request).owner, found, place[0], limit + 1)
    page, following = page_of(rows, limit, "history", lambda row: [row.position])
    return listed([history_document(row) for row in page], following)


async def _submit(request: Request, state: ApiState, command: SubmitJob) -> Response:
    require_broker(state)
    seconds = wait_s(request.headers)
    if seconds is not None:
        return await _submit_and_wait(request, state, command, seconds)
    if not command.uploads:
        try:
            receipt = await _begin(state, command)
        except Conflict:  # the Idempotency-Key was used before
            pass
        else:
            return answer(new_job_document(command), 202, position=receipt.last_position)
    executed = await _execute(state, command.owner, command.job_id, command)
    if executed.decision:
        return answer(new_job_document(command), 202, position=executed.position)
    with after_the_commit():
        document = await asyncio.to_thread(job_from_ledger, state, command.owner, command.job_id)
    return answer(document, 200, position=executed.position)


async def _submit_and_wait(request: Request, state: ApiState, command: SubmitJob, seconds: int) -> Response:
    """Answer when the job has ended, or after `seconds`, with the job as it is then."""
    executed = await _execute(state, command.owner, command.job_id, command)
    with after_the_commit():
        document = await _when_ended(request, state, command.owner, command.job_id, seconds)
    status = 202 if executed.decision else 200
    return answer(document, status, position=executed.position, Preference_Applied=f"wait={seconds}")


async def _when_ended(request: Request, state: ApiState, owner: str, job_id: UUID, seconds: int) -> Json:
    """The job's document when it has ended, or after `seconds`.

    Raises `Unauthorized` once the credential is revoked.
    """
    ended = await state.feed.watch_end(job_id)
    revoked = asyncio.create_task(until_revoked(request.scope))
    try:
        document: Json = await asyncio.to_thread(job_from_ledger, state, owner, job_id)
        if document["status"] not in ENDED:
            waited: list[asyncio.Future[Any]] = [ended, revoked]
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if revoked.done():
                raise Unauthorized(given=True)
            document = await asyncio.to_thread(job_from_ledger, state, owner, job_id)
    finally:
        state.feed.unwatch(job_id, ended)
        revoked.cancel()
    return document


async def _begin(state: ApiState, command: SubmitJob) -> Receipt:
    """Append a new job without a thread that waits for the commit: forty at once share one."""
    committed = state.parts.ledger.begin_submit(command, Context(actor=command.owner, owner=command.owner))
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await asyncio.wrap_future(committed)
    except TimeoutError:
        raise gave_up(taken_back=committed.cancel()) from None


async def _execute(state: ApiState, owner: str, job_id: UUID, command: SubmitJob | CancelJob) -> JobExecuted:
    return await asyncio.to_thread(state.parts.ledger.execute, JOB, job_id, command, Context(actor=owner, owner=owner))
