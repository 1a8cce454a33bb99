"""Cancels a job, and runs its lost outputs again: shared by several routes.

A job is run again only once, regardless of the caller, the route and the number of requests.
"""

import asyncio
import contextlib
from uuid import UUID

from nats.errors import Error as NatsError

from api.batches.commands import Retried, run_job_again
from api.http.idempotency import RequestContext, id_under_key, retry_sha256
from api.jobs.submission import retry_of
from api.state import ApiState, Parts
from domain.aggregates import job as jobs
from domain.aggregates.generation import Generation
from domain.aggregates.job import Finished, NotSubmitted
from domain.commands import CancelJob
from domain.errors import IdempotencyKeyReused, NotFound
from domain.events import JobCanceled
from services.ledger import JOB, Context, JobExecuted
from services.messaging.wire import CANCEL, cancel_subject


async def cancel(state: ApiState, owner: str | None, job_id: UUID, actor: str | None = None) -> tuple[str, int]:
    """Cancel the owner's job and notify its worker; returns the result as in `CancelResult`, and the position.

    `owner` None: the job of any owner. `actor` is the caller if it is not the owner.
    """
    context = Context(actor or owner or "", owner)
    executed = await asyncio.to_thread(state.parts.ledger.execute, JOB, job_id, CancelJob(state.parts.clock()), context)
    result = _cancel_result(executed)
    job = executed.state.job
    if isinstance(job, jobs.Running):  # a lost message costs one heartbeat: its answer says the same
        with contextlib.suppress(NatsError, OSError):
            await state.parts.broker.client.publish(cancel_subject(job.worker, job_id), CANCEL)
    return result, executed.position


def retry(parts: Parts, asked: RequestContext, job_id: UUID, actor: str | None = None) -> Retried:
    """Start the successor of the owner's job, or find the existing one. Blocks.

    The job of a batch's item gets its successor in the batch. `actor` is the caller if it is not the owner. Raises
    `NotFound`, `NothingToRetry` and `IdempotencyKeyReused`.
    """
    by = actor or asked.owner
    parent = parts.ledger.generation(job_id, owner=asked.owner)
    before = _under_key(parts, asked, job_id)
    if before is not None:
        return before
    command = retry_of(job_id, parent, asked)
    if command.batch_id is not None:
        again = run_job_again(parts, asked, command.batch_id, job_id, by)
        if again is not None:
            return again
    executed = parts.ledger.execute(JOB, command.job_id, command, Context(by, asked.owner))
    return Retried(command.job_id, executed.position, new=bool(executed.decision))


def _under_key(parts: Parts, asked: RequestContext, job_id: UUID) -> Retried | None:
    """The existing job under the key, from an earlier version for this retry. Raises `IdempotencyKeyReused`."""
    if asked.key is None or asked.key_is_new:
        return None
    named = id_under_key(asked.owner, asked.key)
    try:
        known: Generation = parts.ledger.generation(named, owner=asked.owner)
    except NotFound:
        return None
    if isinstance(known.job, NotSubmitted) or known.job.queued.request_sha256 != retry_sha256(job_id):
        raise IdempotencyKeyReused
    return Retried(named, parts.ledger.head(), new=False)


def _cancel_result(executed: JobExecuted) -> str:
    if any(isinstance(event, JobCanceled) for event in executed.decision.job):
        return "canceled"
    return "already_finished" if isinstance(executed.state.job, Finished) else "cancel_requested"
