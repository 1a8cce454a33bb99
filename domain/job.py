"""A request to generate: it waits, runs in numbered attempts, and ends exactly once."""

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
"""Warnings of one job: more would not be read."""


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    """Nothing was ever queued under this id."""


@dataclass(frozen=True, slots=True)
class Tries:
    """What was tried so far: the number of the last attempt, how many failed, how many lost their worker.

    `notes` are those of all attempts: what one of them settled, the next goes on with. `priority` is the last one that
    an operator gave it; None: it has the one that it was queued with.
    """

    attempt: int = 0
    failures: int = 0
    workers_lost: int = 0
    notes: tuple[JobNote, ...] = ()
    priority: int | None = None

    @property
    def enhanced_prompt(self) -> str | None:
        """What the prompt became; None when nobody made it richer yet."""
        return next((note.enhanced for note in self.notes if isinstance(note, JobPromptEnhanced)), None)

    @property
    def handed_over(self) -> dict[int, JobHandedOver]:
        """The last hand-over of each output, by index."""
        return {note.index: note for note in self.notes if isinstance(note, JobHandedOver)}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody works on it; from `not_before` (None: at once) the next attempt may start."""

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
    """It ended, once and for all."""

    queued: JobQueued
    tries: Tries
    ending: JobEnding


Job = NotSubmitted | Waiting | Running | Finished
Submitted = Waiting | Running | Finished

ENDED: Final = frozenset({"succeeded", "partially_succeeded", "failed", "canceled", "aborted"})
"""Statuses of a job that nothing changes any more."""


def submit(command: SubmitJob, job: Job) -> list[JobEvent]:
    """Accept it. The same request again returns nothing; another body under the same id is refused."""
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
    """Hand it to a worker: only the next attempt of a waiting job. The same worker asking again gets it again."""
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
    """Keep a note of the attempt that runs. The same one again returns nothing; the prompt is made richer once.

    A warning is the same one whichever attempt says it; what a job has more than WARNINGS_MAX of is dropped.

    Another text is refused: whoever rendered it would render something else than the ledger says.
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
    """Change its priority while it waits or runs: an attempt that is given back waits at the new one."""
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
    """Whether it is too late to begin. The promise is about the first start: a job that ran once may run again."""
    deadline = job.queued.deadline
    return deadline is not None and job.tries.attempt == 0 and now >= deadline


def require_current(job: Job, attempt: int) -> Running:
    """The job if `attempt` is the one that runs; else `AttemptSuperseded`: that fences late workers off."""
    if isinstance(job, Running) and job.tries.attempt == attempt:
        return job
    raise AttemptSuperseded(current=attempt_of(job), reported=attempt)


def require_attempt(job: Job, attempt: int, worker: str) -> Running:
    """The job if `attempt` runs and `worker` has it; else `AttemptSuperseded` or `AttemptOfAnother`."""
    running = require_current(job, attempt)
    if running.worker != worker:
        raise AttemptOfAnother(attempt=attempt, worker=worker)
    return running


def evolve(job: Job, event: JobEvent) -> Job:
    """Fold one fact. Total, and without rules: history has already happened."""
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
    """The status word of the API."""
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


ENDED_AS: dict[type[JobEnding], str] = {
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
    """At which it waits, or would wait."""
    return job.queued.priority if job.tries.priority is None else job.tries.priority


def owner_of(job: Job) -> str | None:
    """Whom it belongs to; None for an id under which nothing was queued."""
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
