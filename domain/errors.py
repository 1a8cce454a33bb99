"""Every refusal of the domain, with a stable code and its evidence. Never HTTP: `api/errors.py` maps these to statuses.

Refused
├── InvalidInput             a field of a request does not hold; carries the path of each
├── NotFound                 unknown, or somebody else's: deliberately the same
├── IdempotencyKeyReused     the key was used before with another body
├── AttemptSuperseded        a report of an attempt that is not the current one
├── AssetEnded               a file for an asset that ended without one: delete it
├── PromptAlreadyEnhanced    a second, other text where the ledger has one
├── JobNotStartable          the work is no longer waiting: drop the message
├── PoolHeld                 an operator paused or drained the pool: drop the message, the job waits
├── WorkerHeld               an operator paused or drained the worker: leave the work to others
├── JobEnded                 changing the priority of a job that is over
├── NothingToRetry           the job has no failed or canceled outputs, or has not ended
├── NoItemToRetry            the same of every item of a batch that was asked for
├── AssetNotCompleted        rating, saving, naming, trashing or thumbnailing what has no file
├── AssetNotTrashed          purging what is not in the trash
├── AssetGone                changing what was purged
├── AssetInProgress          dismissing what is still being made
├── MediaInUse               deleting an upload that jobs start from
├── BatchMovedOn             an item was run again by somebody else in between
├── NotAComparison           preferring one of two assets of a batch that compares nothing
├── MediaMoved               an upload was stored where it does not belong any more
└── EventTooLarge            what would be recorded is larger than any event may be
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

REASONS_TOLD_MAX: Final = 5
"""Of the items of a batch: a sentence with more of them nobody reads."""

PROBLEMS_TOLD_MAX: Final = 20
"""Fields that one refusal names: whoever made more mistakes finds the others next time."""

PROBLEM_CHARACTERS_MAX: Final = 1_000
"""Of a path, and of what is said about it: both may repeat what was sent."""


class Refused(Exception):
    """A command that the rules do not allow. `code` is stable; `str()` is a sentence a person can act on."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field: `path` as in the request body (`params.steps`), and a sentence that says what is allowed."""

    path: str
    detail: str


def _cut(problem: FieldProblem) -> FieldProblem:
    if max(len(problem.path), len(problem.detail)) <= PROBLEM_CHARACTERS_MAX:
        return problem
    path, detail = (
        text if len(text) <= PROBLEM_CHARACTERS_MAX else text[: PROBLEM_CHARACTERS_MAX - 1] + "…"
        for text in (problem.path, problem.detail)
    )
    return FieldProblem(path, detail)


class InvalidInput(Refused):
    """Fields of a request do not hold."""

    code = "invalid_input"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        """The first `PROBLEMS_TOLD_MAX` are kept, each cut where it is very long; the message says how many more."""
        self.problems = tuple(_cut(problem) for problem in problems[:PROBLEMS_TOLD_MAX])
        told = "; ".join(f"{problem.path}: {problem.detail}" for problem in self.problems)
        more = len(problems) - len(self.problems)
        super().__init__(f"{told}; and {more} more" if more else told)


class NotFound(Refused):
    """Nothing of that kind under that id belongs to this owner."""

    code = "not_found"

    def __init__(self, kind: str, identifier: object) -> None:
        self.kind = kind
        self.identifier = identifier
        super().__init__(f"There is no {kind} {identifier}.")


class IdempotencyKeyReused(Refused):
    """The key names a job, batch or prompt that was submitted with another body."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with another body; use a new key for a new request.")


class AttemptSuperseded(Refused):
    """Another attempt owns this job. Discard the result and fetch other work."""

    code = "attempt_superseded"

    def __init__(self, *, current: int, reported: int) -> None:
        self.current = current
        self.reported = reported
        super().__init__(f"Attempt {reported} does not run any more; the last one that started is {current}.")


class AttemptOfAnother(Refused):
    """Another worker has this attempt. Nothing that this one says of it counts."""

    code = "attempt_of_another"

    def __init__(self, *, attempt: int, worker: str) -> None:
        self.attempt = attempt
        self.worker = worker
        super().__init__(f"Attempt {attempt} is not with {worker}: another worker has it.")


class AssetEnded(Refused):
    """The asset failed or was canceled: no attempt will ever complete it, so a file of it is to be deleted."""

    code = "asset_ended"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The asset is {status}; nobody wants its file any more.")


class PromptAlreadyEnhanced(Refused):
    """The job has its richer prompt. End the attempt: the order of the next one carries it."""

    code = "prompt_already_enhanced"

    def __init__(self) -> None:
        super().__init__("The prompt was made richer before, and otherwise; the next attempt renders what is recorded.")


class JobNotStartable(Refused):
    """The job is not waiting for this attempt: canceled, finished or running elsewhere. Drop the message."""

    code = "job_not_startable"

    def __init__(self, status: str, attempt: int) -> None:
        self.status = status
        self.attempt = attempt
        super().__init__(f"Attempt {attempt} cannot start: the job is {status}.")


class PoolHeld(Refused):
    """An operator paused or drained the pool. The job waits; drop the message."""

    code = "pool_held"

    def __init__(self, pool: str) -> None:
        self.pool = pool
        super().__init__(f"The pool {pool} is paused; its jobs wait until an operator resumes it.")


class WorkerHeld(Refused):
    """An operator paused or drained the worker. Give the message back: others may take it."""

    code = "worker_held"

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"The worker {worker} takes no jobs until an operator resumes it.")


class JobEnded(Refused):
    """The job is over; there is nothing left to hand out."""

    code = "job_ended"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The job is {status}; only the priority of a job that has not ended can change.")


class NothingToRetry(Refused):
    """Retry runs failed and canceled outputs of an ended job again; here there are none."""

    code = "nothing_to_retry"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"There is nothing to retry: the job is {status}. Only an ended job's lost outputs run again.")


class NoItemToRetry(Refused):
    """No item that was asked for can run again. `reasons` by index; empty when none was asked for by name."""

    code = NothingToRetry.code

    def __init__(self, reasons: Mapping[int, str]) -> None:
        self.reasons = reasons
        first = "".join(f" Item {index}: {reason}" for index, reason in list(reasons.items())[:REASONS_TOLD_MAX])
        why = first or " Only lost outputs of items whose job has ended run again, unless an item is asked for."
        super().__init__(f"There is nothing to retry in this batch.{why}")


class AssetNotCompleted(Refused):
    """Only a completed asset can be rated, named, tagged, saved, trashed or restored, or get a thumbnail."""

    code = "asset_not_completed"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The asset is {status}; only a completed asset can be changed.")


class AssetNotTrashed(Refused):
    """Only what is in the trash is deleted for good."""

    code = "asset_not_trashed"

    def __init__(self) -> None:
        super().__init__("The asset is not in the trash; move it there first.")


class AssetGone(Refused):
    """The asset was purged: its file is deleted, and nothing about it changes any more."""

    code = "asset_purged"

    def __init__(self) -> None:
        super().__init__("The asset was deleted for good; its file is gone.")


class AssetInProgress(Refused):
    """An asset that is still being made cannot be dismissed; cancel its job instead."""

    code = "asset_in_progress"

    def __init__(self) -> None:
        super().__init__("The asset is still in progress; cancel its job instead of dismissing it.")


class MediaInUse(Refused):
    """What a job starts from is kept as long as there is the job, and no job is ever deleted."""

    code = "media_in_use"

    def __init__(self, job_id: UUID | None) -> None:
        self.job_id = job_id
        super().__init__(f"The upload is kept: jobs start from it, first of all job {job_id}.")


class BatchMovedOn(Refused):
    """The item has another job by now: look at the batch and decide again."""

    code = "batch_moved_on"

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"Item {index} was run again by another request at this moment; look at the batch again.")


class NotAComparison(Refused):
    """Preferences are about the variants of one prompt; templates of a batch are about different ones."""

    code = "not_a_comparison"

    def __init__(self) -> None:
        super().__init__("Only in a comparison one asset can be preferred to another; this batch is none.")


class MediaMoved(Refused):
    """Meanwhile the upload was deleted, or came again: store the file at `path` and say so once more."""

    code = "media_moved"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__("The upload was deleted while it came again; send it once more.")


class EventTooLarge(Refused):
    """What would be recorded is larger than NATS passes on. Nothing of it was recorded: ask for less at once."""

    code = "event_too_large"

    def __init__(self, name: str, bytes_: int, bytes_max: int) -> None:
        self.name = name
        self.bytes = bytes_
        super().__init__(f"This would be recorded as {name} of {bytes_} bytes; the most is {bytes_max} bytes.")
