"""Every refusal of the domain, with a stable code and its evidence. Never HTTP: see `api/http/errors.py`.

Refused
├── InvalidInput             fields of a request are invalid; carries the path of each
├── NotFound                 unknown, or it belongs to another owner: deliberately the same
├── IdempotencyKeyReused     the key was already used with another body
├── AttemptSuperseded        a report of an attempt that is not the current one
├── AssetEnded               a file for an asset that failed or was canceled: delete it
├── PromptAlreadyEnhanced    the job already has a different enhanced prompt
├── JobNotStartable          the job is not waiting for this attempt: drop the message
├── PoolHeld                 an operator paused or drained the pool: drop the message, the job waits
├── WorkerHeld               an operator paused or drained the worker: leave the job to other workers
├── JobEnded                 changing the priority of a job that has ended
├── NothingToRetry           the job has no failed or canceled outputs, or has not ended
├── NoItemToRetry            none of the requested items of a batch can run again
├── AssetNotCompleted        changing an asset that has no file
├── AssetNotTrashed          purging an asset that is not in the trash
├── AssetGone                changing an asset that was purged
├── AssetInProgress          dismissing an asset that has not ended
├── MediaInUse               deleting an upload that a job uses
├── BatchMovedOn             another request already ran the item again
├── NotAComparison           a preference in a batch that is not a comparison
├── MediaMoved               an upload was stored at an outdated path
└── EventTooLarge            an event would exceed the maximum size
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

REASONS_TOLD_MAX: Final = 5
"""Maximum number of item reasons in a message."""

PROBLEMS_TOLD_MAX: Final = 20
"""Maximum number of fields that one refusal names; further problems appear after these are fixed."""

PROBLEM_CHARACTERS_MAX: Final = 1_000
"""Maximum characters of a problem's path and of its detail: both may repeat input."""


class Refused(Exception):
    """A command that the rules do not allow. `code` is stable; `str()` is a sentence that users can act on."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One invalid field: `path` as in the request body (`params.steps`), and a sentence that says what is allowed."""

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
    """Fields of a request are invalid."""

    code = "invalid_input"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        """Keep the first `PROBLEMS_TOLD_MAX`, shorten long ones, and count the rest in the message."""
        self.problems = tuple(_cut(problem) for problem in problems[:PROBLEMS_TOLD_MAX])
        told = "; ".join(f"{problem.path}: {problem.detail}" for problem in self.problems)
        more = len(problems) - len(self.problems)
        super().__init__(f"{told}; and {more} more" if more else told)


class NotFound(Refused):
    """This owner has nothing of that kind under that id."""

    code = "not_found"

    def __init__(self, kind: str, identifier: object) -> None:
        self.kind = kind
        self.identifier = identifier
        super().__init__(f"There is no {kind} {identifier}.")


class IdempotencyKeyReused(Refused):
    """The key was already used for a job, batch or prompt with another body."""

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
    """Another worker has this attempt; the report is ignored."""

    code = "attempt_of_another"

    def __init__(self, *, attempt: int, worker: str) -> None:
        self.attempt = attempt
        self.worker = worker
        super().__init__(f"Attempt {attempt} is not with {worker}: another worker has it.")


class AssetEnded(Refused):
    """The asset failed or was canceled. No attempt will complete it, so its file must be deleted."""

    code = "asset_ended"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The asset is {status}; nobody wants its file any more.")


class PromptAlreadyEnhanced(Refused):
    """The job already has an enhanced prompt. End the attempt; the next one receives that prompt."""

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
    """An operator paused or drained the worker. Return the message so that another worker can take it."""

    code = "worker_held"

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"The worker {worker} takes no jobs until an operator resumes it.")


class JobEnded(Refused):
    """The job has ended; its priority no longer matters."""

    code = "job_ended"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"The job is {status}; only the priority of a job that has not ended can change.")


class NothingToRetry(Refused):
    """Retry runs the failed and canceled outputs of an ended job again; this job has none."""

    code = "nothing_to_retry"

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"There is nothing to retry: the job is {status}. Only an ended job's lost outputs run again.")


class NoItemToRetry(Refused):
    """None of the requested items can run again. `reasons` by index; empty if the request named no items."""

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
    """Only an asset in the trash can be permanently deleted."""

    code = "asset_not_trashed"

    def __init__(self) -> None:
        super().__init__("The asset is not in the trash; move it there first.")


class AssetGone(Refused):
    """The asset was purged. Its file is deleted and it can no longer be changed."""

    code = "asset_purged"

    def __init__(self) -> None:
        super().__init__("The asset was deleted for good; its file is gone.")


class AssetInProgress(Refused):
    """An asset in progress cannot be dismissed; cancel its job instead."""

    code = "asset_in_progress"

    def __init__(self) -> None:
        super().__init__("The asset is still in progress; cancel its job instead of dismissing it.")


class MediaInUse(Refused):
    """An upload that a job uses cannot be deleted; jobs are never deleted."""

    code = "media_in_use"

    def __init__(self, job_id: UUID | None) -> None:
        self.job_id = job_id
        super().__init__(f"The upload is kept: jobs start from it, first of all job {job_id}.")


class BatchMovedOn(Refused):
    """The item has a new job. Read the batch and decide again."""

    code = "batch_moved_on"

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"Item {index} was run again by another request at this moment; look at the batch again.")


class NotAComparison(Refused):
    """Preferences compare variants of one prompt; the templates of a batch have different prompts."""

    code = "not_a_comparison"

    def __init__(self) -> None:
        super().__init__("Only in a comparison one asset can be preferred to another; this batch is not a comparison.")


class MediaMoved(Refused):
    """The upload was deleted or uploaded again meanwhile: store the file at `path` and send the command again."""

    code = "media_moved"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__("The upload was deleted while it came again; send it once more.")


class EventTooLarge(Refused):
    """An event would exceed the NATS message limit. Nothing was recorded; send a smaller request."""

    code = "event_too_large"

    def __init__(self, name: str, bytes_: int, bytes_max: int) -> None:
        self.name = name
        self.bytes = bytes_
        super().__init__(f"This would be recorded as {name} of {bytes_} bytes; the most is {bytes_max} bytes.")
