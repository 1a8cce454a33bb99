"""A request to generate: it waits, runs in numbered attempts, and ends exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, assert_never

from domain.commands import NoteOfAttempt, ReprioritizeJob, StartAttempt, SubmitJob
from domain.errors import (
    AttemptOfAnother,
    AttemptSuperseded,
    FieldProblem,
    IdempotencyKeyReused,
    InvalidInput,
    JobEnded,
    JobNotStartable,
    NotFound,
    PoolHeld,
    PromptAlreadyEnhanced,
    WorkerHeld,
)
from domain.events import (
    Event,
    JobAborted,
    JobCanceled,
    JobCancelRequested,
    JobEnding,
    JobEvent,
    JobFailed,
    JobHandedOver,
    JobMemoryLowered,
    JobNote,
    JobPartiallySucceeded,
    JobPromptEnhanced,
    JobQueued,
    JobReprioritized,
    JobRequeued,
    JobStarted,
    JobSucceeded,
    JobWarned,
    RequeueReason,
)

WARNINGS_MAX: Final = 20
"""Maximum number of warnings of a job."""


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    """No job was queued under this id."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts so far: the number of the last one, how many failed, how many lost their worker.

    `notes` are those of all attempts: a later attempt uses what an earlier one settled. `priority` is the last one set
    by an operator; None if it has not changed since the job was queued.
    """

    attempt: int = 0
    failures: int = 0
    workers_lost: int = 0
    notes: tuple[JobNote, ...] = ()
    priority: int | None = None

    @property
    def enhanced_prompt(self) -> str | None:
        """The enhanced prompt; None if the prompt was not enhanced."""
        return next((note.enhanced for note in self.notes if isinstance(note, JobPromptEnhanced)), None)

    @property
    def handed_over(self) -> dict[int, JobHandedOver]:
        """The last hand-over of each output, by index."""
        return {note.index: note for note in self.notes if isinstance(note, JobHandedOver)}


@dataclass(frozen=True, slots=True)
class Waiting:
    """No worker has the job; the next attempt may start at `not_before` (None: immediately)."""

    queued: JobQueued
    tries: Tries
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """Attempt `tries.attempt` is with `worker`."""

    queued: JobQueued
    tries: Tries
    worker: str
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The job has ended; this is final."""

    queued: JobQueued
    tries: Tries
    ending: JobEnding


Job = NotSubmitted | Waiting | Running | Finished
Submitted = Waiting | Running | Finished


def submit(command: SubmitJob, job: Job) -> list[JobEvent]:
    """Accept the job. The same request again returns nothing; another body under the same id is refused."""
    if not isinstance(job, NotSubmitted):
        if job.queued.request_sha256 is not None and job.queued.request_sha256 == command.request_sha256:
            return []
        raise IdempotencyKeyReused
    return [
        JobQueued(
            owner=command.owner,
            recipe=command.recipe,
            pool=command.pool,
            priority=command.priority,
            batch_id=command.batch_id,
            parent_id=command.parent_id,
            tags=command.tags,
            request_sha256=command.request_sha256,
            deadline=command.deadline,
            adjusted=dict(command.adjusted),
            negative_prompt_by=command.negative_prompt_by,
            negative_prompt_error=command.negative_prompt_error,
            expected_s=command.expected_s,
            title=command.title,
        )
    ]


def start(command: StartAttempt, job: Job) -> list[JobEvent]:
    """Start the next attempt of a waiting job. If the same worker asks again, nothing is added."""
    match job:
        case Waiting(tries=tries, not_before=not_before) if command.attempt == tries.attempt + 1:
            if past_deadline(job, command.now):
                raise JobNotStartable("past its deadline", command.attempt)
            if not_before is not None and command.now < not_before:
                raise JobNotStartable("backing off", command.attempt)
            if job.queued.pool in command.held.pools:
                raise PoolHeld(job.queued.pool)
            if command.worker in command.held.workers:
                raise WorkerHeld(command.worker)
            return [JobStarted(attempt=command.attempt, worker=command.worker)]
        case Running(tries=tries, worker=worker) if (tries.attempt, worker) == (command.attempt, command.worker):
            return []
        case _:
            raise JobNotStartable(status_of(job), command.attempt)


def note(command: NoteOfAttempt, job: Job) -> list[JobEvent]:
    """Record a note of the running attempt. A repeated note returns nothing; a prompt is enhanced only once.

    A repeated warning is ignored even from another attempt, and warnings beyond WARNINGS_MAX are dropped.

    A different enhanced prompt is refused: rendering it would contradict the ledger.
    """
    running = require_current(job, command.attempt)
    tries, quantity = running.tries, running.queued.recipe.quantity
    if isinstance(command.note, JobHandedOver) and command.note.index >= quantity:
        raise InvalidInput([FieldProblem("note.index", f"must be below {quantity}, as many as the job has outputs")])
    if isinstance(command.note, JobPromptEnhanced) and tries.enhanced_prompt is not None:
        if command.note.enhanced != tries.enhanced_prompt:
            raise PromptAlreadyEnhanced
        return []
    if isinstance(command.note, JobWarned):
        said = [(each.code, each.detail) for each in tries.notes if isinstance(each, JobWarned)]
        is_new = (command.note.code, command.note.detail) not in said
        return [command.note] if is_new and len(said) < WARNINGS_MAX else []
    return [] if command.note in tries.notes else [command.note]


def reprioritize(command: ReprioritizeJob, job: Job) -> list[JobEvent]:
    """Change the priority of a waiting or running job.

    If a running attempt is given back, the job waits at the new one.
    """
    match job:
        case NotSubmitted():
            raise NotFound("job", "under this id")
        case Finished():
            raise JobEnded(status_of(job))
        case Waiting() | Running():
            return [] if priority_of(job) == command.priority else [JobReprioritized(priority=command.priority)]
        case _:
            assert_never(job)


def past_deadline(job: Waiting, now: datetime) -> bool:
    """Whether it is too late to start. The deadline applies to the first start: a job that has run may run again."""
    deadline = job.queued.deadline
    return deadline is not None and job.tries.attempt == 0 and now >= deadline


def require_current(job: Job, attempt: int) -> Running:
    """The job if `attempt` is running; else raises `AttemptSuperseded`, which fences off late workers."""
    if isinstance(job, Running) and job.tries.attempt == attempt:
        return job
    raise AttemptSuperseded(current=attempt_of(job), reported=attempt)


def require_attempt(job: Job, attempt: int, worker: str) -> Running:
    """The job if `worker` runs `attempt`; else raises `AttemptSuperseded` or `AttemptOfAnother`."""
    running = require_current(job, attempt)
    if running.worker != worker:
        raise AttemptOfAnother(attempt=attempt, worker=worker)
    return running


def evolve(job: Job, event: JobEvent) -> Job:
    """Apply one event. Total, and without rules: history has already happened."""
    if isinstance(event, JobQueued):
        return Waiting(event, Tries())
    if isinstance(job, NotSubmitted):
        raise ValueError("The ledger goes on with a job that was never queued: it is damaged; run darkroom verify.")
    match event:
        case JobStarted(attempt=attempt, worker=worker):
            return Running(job.queued, replace(job.tries, attempt=attempt), worker)
        case JobPromptEnhanced() | JobMemoryLowered() | JobHandedOver() | JobWarned():
            return replace(job, tries=_noted(job.tries, event))
        case JobRequeued(reason=reason, not_before=not_before):
            return Waiting(job.queued, _counted(job.tries, reason), not_before)
        case JobReprioritized(priority=priority):
            return replace(job, tries=replace(job.tries, priority=priority))
        case JobCancelRequested():
            return replace(job, cancel_requested=True) if isinstance(job, Running) else job
        case JobSucceeded() | JobPartiallySucceeded() | JobFailed() | JobCanceled() | JobAborted():
            return Finished(job.queued, job.tries, event)
        case _:
            assert_never(event)


def status_of(job: Job) -> str:
    """The job's status in the API."""
    match job:
        case NotSubmitted():
            return "unknown"
        case Waiting():
            return "queued"
        case Running():
            return "processing"
        case Finished(ending=ending):
            return ENDED_AS[type(ending)]
        case _:
            assert_never(job)


ENDED_AS: Final[Mapping[type[Event], str]] = {
    JobSucceeded: "succeeded",
    JobPartiallySucceeded: "partially_succeeded",
    JobFailed: "failed",
    JobCanceled: "canceled",
    JobAborted: "aborted",
}


def attempt_of(job: Job) -> int:
    """The number of the last attempt that started; 0 before the first."""
    return 0 if isinstance(job, NotSubmitted) else job.tries.attempt


def priority_of(job: Submitted) -> int:
    """The priority at which the job waits, or would wait."""
    return job.queued.priority if job.tries.priority is None else job.tries.priority


def owner_of(job: Job) -> str | None:
    """The owner of the job; None for an id that was never queued."""
    return None if isinstance(job, NotSubmitted) else job.queued.owner


def _noted(tries: Tries, note: JobNote) -> Tries:
    return replace(tries, notes=(*tries.notes, note))


def _counted(tries: Tries, reason: RequeueReason) -> Tries:
    match reason:
        case RequeueReason.FAILED:
            return replace(tries, failures=tries.failures + 1)
        case RequeueReason.WORKER_LOST:
            return replace(tries, failures=tries.failures + 1, workers_lost=tries.workers_lost + 1)
        case RequeueReason.WORKER_STOPPING:
            return tries
        case _:
            assert_never(reason)
