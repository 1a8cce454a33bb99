"""The vocabulary of the specifications: `given` facts, `when` a command, then what was decided.

A fact, or all the facts of a commit, is a `Decision`; so is what a command leads to, and they compare as they are:

    job = given(queued(3), started(1), released(1), started(2))
    assert when(job, report_completed(0, attempt=2)) == completed(0, attempt=2)
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import pytest

from domain.aggregates import asset as assets
from domain.aggregates import generation as generations
from domain.aggregates.asset import Asset, UnknownAsset
from domain.aggregates.generation import Decision, Generation
from domain.commands import (
    AbortJob,
    AssetCommand,
    CancelJob,
    ConfirmCancel,
    ExpireLease,
    FailAttempt,
    Held,
    JobCommand,
    NoteOfAttempt,
    ReleaseAttempt,
    ReportAssetCompleted,
    ReportAssetFailed,
    StartAttempt,
    SubmitJob,
)
from domain.errors import Refused
from domain.events import (
    AssetCanceled,
    AssetCompleted,
    AssetEvent,
    AssetFailed,
    AssetReserved,
    AssetThumbnailed,
    ErrorClass,
    Failure,
    JobAborted,
    JobCanceled,
    JobCancelRequested,
    JobFailed,
    JobNote,
    JobPartiallySucceeded,
    JobPromptEnhanced,
    JobRequeued,
    JobStarted,
    JobSucceeded,
    RequeueReason,
)
from domain.recipes.recipe import Kind, Recipe, Task, seeds_from

NOW = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)
DEADLINE = NOW + timedelta(seconds=60)
JOB_ID = UUID("6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40")
OWNER = "ada"
WORKER = "gpu-1"
REQUEST_SHA256 = "cd" * 32
SEED = 42

OUT_OF_MEMORY = Failure(error_class=ErrorClass.OUT_OF_MEMORY, message="The GPU has no 4 GiB left.")
TRANSIENT = Failure(error_class=ErrorClass.TRANSIENT, message="The object store did not answer.")
INVALID_INPUT = Failure(error_class=ErrorClass.INVALID_INPUT, message="The reference is not a picture.")
MODEL_UNAVAILABLE = Failure(error_class=ErrorClass.MODEL_UNAVAILABLE, message="There is no folder models/sdxl.")
INTERNAL = Failure(error_class=ErrorClass.INTERNAL, message="The decoder returned no image.")

RefusedT = TypeVar("RefusedT", bound=Refused)


# Given, when, why not.


def given(*facts: Decision) -> Generation:
    """The job and its assets after these facts."""
    generation = Generation()
    for fact in facts:
        generation = generations.evolve(generation, fact)
    return generation


def when(generation: Generation, command: JobCommand) -> Decision:
    """What the command leads to."""
    return generations.decide(command, generation)


def why_not(refusal: type[RefusedT], generation: Generation, command: JobCommand) -> RefusedT:
    """The refusal of the command, with its evidence."""
    with pytest.raises(refusal) as caught:
        when(generation, command)
    return caught.value


def given_asset(*facts: AssetEvent) -> Asset:
    """An asset after these facts."""
    asset: Asset = UnknownAsset()
    for fact in facts:
        asset = assets.evolve(asset, fact)
    return asset


def when_asset(asset: Asset, command: AssetCommand) -> list[AssetEvent]:
    """What the command leads to."""
    return assets.decide(command, asset)


def after(seconds: float) -> datetime:
    """So long after `NOW`."""
    return NOW + timedelta(seconds=seconds)


# Facts.

NOTHING = Decision()
SUCCEEDED = Decision(job=(JobSucceeded(),))
CANCELED = Decision(job=(JobCanceled(),))
ABORTED = Decision(job=(JobAborted(),))


def together(*facts: Decision) -> Decision:
    """These facts in one commit."""
    by_index: dict[int, tuple[AssetEvent, ...]] = {}
    for fact in facts:
        for index, events in fact.assets.items():
            by_index[index] = by_index.get(index, ()) + events
    return Decision(job=tuple(event for fact in facts for event in fact.job), assets=by_index)


def recipe(quantity: int = 3) -> Recipe:
    """A portrait of a lighthouse, `quantity` times."""
    return Recipe(
        job_type="sdxl_image_fast",
        model="sdxl-demo",
        task=Task.TEXT_TO_IMAGE,
        prompt="a lighthouse in fog",
        params={"width": 256, "height": 256, "steps": 15, "guidance": 6.0},
        seeds=seeds_from(SEED, quantity),
    )


def reservation(index: int, job_id: UUID = JOB_ID) -> AssetReserved:
    """What the job owes at `index`."""
    return AssetReserved(
        owner=OWNER,
        job_id=job_id,
        index=index,
        seed=SEED + index,
        kind=Kind.IMAGE,
        bucket="sdxl_image_fast",
        path=f"sdxl_image_fast/{OWNER}/{job_id}_{index}.png",
    )


def queued(quantity: int = 3, *, deadline: datetime | None = None) -> Decision:
    """The job was accepted and its assets reserved."""
    return generations.decide(submit(quantity, deadline=deadline), Generation())


def started(attempt: int, worker: str = WORKER) -> Decision:
    """A worker took it."""
    return Decision(job=(JobStarted(attempt=attempt, worker=worker),))


ENHANCED = JobPromptEnhanced(
    attempt=1, original="a lighthouse in fog", enhanced="a lighthouse in fog, soft light", enhancer="rules 1"
)


def noted(note: JobNote) -> Decision:
    """What a worker said of its attempt while it ran."""
    return Decision(job=(note,))


def file_of(index: int, attempt: int, kind: Kind = Kind.IMAGE) -> AssetCompleted:
    """The file that `attempt` made for `index`."""
    return AssetCompleted(
        attempt=attempt,
        sha256=f"{index % 256:02x}" * 32,
        pixels_sha256=f"{index % 256:02x}" * 32,
        media_type="image/png" if kind is Kind.IMAGE else "video/mp4",
        bytes=81_234,
        width=256,
        height=256,
        render_ms=1_200,
        store_ms=8,
        worker_versions={"diffusers": "0.42.0"},
    )


def thumbnail_of(index: int) -> AssetThumbnailed:
    """The thumbnail of `file_of(index)`."""
    path = f"thumbnails/{OWNER}/{index}.webp"
    return AssetThumbnailed(sha256=f"{255 - index % 256:02x}" * 32, bytes=9_876, width=256, height=256, path=path)


def completed(index: int, attempt: int = 1) -> Decision:
    """The file of one asset exists."""
    return Decision(assets={index: (file_of(index, attempt),)})


def failed(*indexes: int, error: Failure = INVALID_INPUT, attempt: int = 1) -> Decision:
    """These assets get no file."""
    return Decision(assets=dict.fromkeys(indexes, (AssetFailed(attempt=attempt, error=error),)))


def canceled(*indexes: int) -> Decision:
    """These assets get no file, as asked."""
    return Decision(assets=dict.fromkeys(indexes, (AssetCanceled(),)))


def requeued(attempt: int, error: Failure, *, not_before: datetime = NOW) -> Decision:
    """The attempt failed as a whole; the job waits again."""
    reason = RequeueReason.WORKER_LOST if error.error_class is ErrorClass.WORKER_LOST else RequeueReason.FAILED
    return Decision(job=(JobRequeued(attempt=attempt, reason=reason, error=error, not_before=not_before),))


def released(attempt: int) -> Decision:
    """The worker stopped and gave the job back."""
    reason = RequeueReason.WORKER_STOPPING
    return Decision(job=(JobRequeued(attempt=attempt, reason=reason, not_before=NOW),))


def cancel_requested(attempt: int = 1) -> Decision:
    """The owner wants it stopped while a worker has it."""
    return Decision(job=(JobCancelRequested(attempt=attempt),))


def partially_succeeded(*, completed: int, failed: int) -> Decision:
    """It ended with some of its assets."""
    return Decision(job=(JobPartiallySucceeded(completed=completed, failed=failed),))


def job_failed(error: Failure) -> Decision:
    """It ended with none of its assets."""
    return Decision(job=(JobFailed(error=error),))


def lost(attempt: int, worker: str = WORKER) -> Failure:
    """Why an attempt is over when its worker went silent."""
    message = f"Worker {worker} was not heard of for a whole lease during attempt {attempt}."
    return Failure(error_class=ErrorClass.WORKER_LOST, message=message)


# Commands.

SUBMIT = SubmitJob(
    job_id=JOB_ID,
    owner=OWNER,
    recipe=recipe(),
    pool="sdxl",
    kind=Kind.IMAGE,
    bucket="sdxl_image_fast",
    extension="png",
    now=NOW,
    request_sha256=REQUEST_SHA256,
)
CANCEL = CancelJob(now=NOW)


def note(kept: JobNote) -> NoteOfAttempt:
    """A worker has something to say of its attempt."""
    return NoteOfAttempt(note=kept, now=NOW)


def submit(
    quantity: int = 3,
    *,
    job_id: UUID = JOB_ID,
    request_sha256: str | None = REQUEST_SHA256,
    deadline: datetime | None = None,
) -> SubmitJob:
    """Accept the job."""
    return replace(SUBMIT, job_id=job_id, recipe=recipe(quantity), request_sha256=request_sha256, deadline=deadline)


def start(attempt: int, worker: str = WORKER, *, now: datetime = NOW, held: Held | None = None) -> StartAttempt:
    """Take the job."""
    return StartAttempt(attempt=attempt, worker=worker, now=now, held=held or Held())


def report_completed(index: int, attempt: int = 1, kind: Kind = Kind.IMAGE) -> ReportAssetCompleted:
    """The file of one asset exists."""
    return ReportAssetCompleted(index=index, completed=file_of(index, attempt, kind), now=NOW)


def report_failed(index: int, attempt: int = 1, error: Failure = INVALID_INPUT) -> ReportAssetFailed:
    """One asset cannot be made."""
    return ReportAssetFailed(attempt=attempt, index=index, error=error, now=NOW)


def fail(attempt: int, error: Failure = TRANSIENT, *, jitter: float = 0.0) -> FailAttempt:
    """The attempt failed as a whole."""
    return FailAttempt(attempt=attempt, error=error, jitter=jitter, now=NOW)


def release(attempt: int = 1) -> ReleaseAttempt:
    """Give the job back unharmed."""
    return ReleaseAttempt(attempt=attempt, now=NOW)


def expire(attempt: int = 1) -> ExpireLease:
    """The worker went silent."""
    return ExpireLease(attempt=attempt, now=NOW)


def confirm(attempt: int = 1) -> ConfirmCancel:
    """The worker stopped as asked."""
    return ConfirmCancel(attempt=attempt, now=NOW)


def abort(*, now: datetime = DEADLINE) -> AbortJob:
    """The deadline passed."""
    return AbortJob(now=now)


TOLD_OF_A_JOB: list[JobCommand] = [
    start(1),
    start(2),
    report_completed(0),
    report_completed(1),
    release(1),
    CANCEL,
    confirm(1),
]
"""What may be said of a job with two images, in any order."""
