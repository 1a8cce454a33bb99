"""A job together with its assets: the unit of one commit.

A job ends in the same commit as its last asset. So a job never still runs with all its assets ended, and no report of
its end can be lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from domain.aggregates import asset as assets_of
from domain.aggregates import job as jobs
from domain.aggregates.asset import Asset, Completed, FailedAsset, Purged, Reserved
from domain.aggregates.job import Finished, Job, NotSubmitted, Running, Waiting
from domain.commands import (
    AbortJob,
    CancelJob,
    ConfirmCancel,
    ExpireLease,
    FailAttempt,
    JobCommand,
    NoteOfAttempt,
    ReleaseAttempt,
    ReportAssetCompleted,
    ReportAssetFailed,
    Reported,
    ReprioritizeJob,
    StartAttempt,
    SubmitJob,
)
from domain.errors import AssetEnded, AttemptSuperseded, FieldProblem, InvalidInput, NotFound, NothingToRetry
from domain.events import (
    AssetCanceled,
    AssetEvent,
    AssetFailed,
    AssetReserved,
    ErrorClass,
    Failure,
    JobAborted,
    JobCanceled,
    JobCancelRequested,
    JobEnding,
    JobEvent,
    JobFailed,
    JobPartiallySucceeded,
    JobRequeued,
    JobSucceeded,
    RequeueReason,
)
from domain.policies.retry import GiveUp, TryAgain, after_failure
from domain.recipes.recipe import Recipe, asset_path
from domain.wording.text import normalized_tags


@dataclass(frozen=True, slots=True)
class Generation:
    """A job and its assets by index."""

    job: Job = field(default_factory=NotSubmitted)
    assets: tuple[Asset, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """New events of the job and of its assets. Empty if the command repeats an earlier one."""

    job: tuple[JobEvent, ...] = ()
    assets: Mapping[int, tuple[AssetEvent, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.job or self.assets)


def decide(command: JobCommand, generation: Generation) -> Decision:
    """The rules of a job's life. Raises a `Refused` with its evidence; a repeated command returns an empty decision."""
    if isinstance(command, SubmitJob):
        return _submit(command, generation)
    job = generation.job
    if isinstance(job, NotSubmitted):
        raise NotFound("job", "under this id")
    match command:
        case StartAttempt():
            return Decision(job=tuple(jobs.start(command, job)))
        case Reported(worker=worker, command=reported):
            if isinstance(job, Running) and job.tries.attempt == reported.attempt:
                jobs.require_attempt(job, reported.attempt, worker)
            return decide(reported, generation)
        case NoteOfAttempt():
            return Decision(job=tuple(jobs.note(command, job)))
        case ReportAssetCompleted() | ReportAssetFailed():
            return _report(command, generation)
        case FailAttempt(error=error, jitter=jitter):
            running = jobs.require_current(job, command.attempt)
            return _after_failure(command, error, RequeueReason.FAILED, jitter, generation, running)
        case ExpireLease():
            running = jobs.require_current(job, command.attempt)
            return _after_failure(command, _lost(running), RequeueReason.WORKER_LOST, 0.0, generation, running)
        case ReleaseAttempt() | ConfirmCancel():  # a worker that stops without a cancel request gives the job back
            return _release(command, generation)
        case CancelJob():
            return _cancel(job, generation)
        case ReprioritizeJob():
            return Decision(job=tuple(jobs.reprioritize(command, job)))
        case AbortJob():
            overdue = isinstance(job, Waiting) and jobs.past_deadline(job, command.now)
            return _cancel_rest(generation, JobAborted()) if overdue else Decision()
        case _:
            assert_never(command)


def evolve(generation: Generation, decision: Decision) -> Generation:
    """Apply a decision."""
    job = generation.job
    for job_event in decision.job:
        job = jobs.evolve(job, job_event)
    slots = list(generation.assets)
    for index, asset_events in sorted(decision.assets.items()):
        slots.extend(assets_of.UnknownAsset() for _ in range(index + 1 - len(slots)))
        for asset_event in asset_events:
            slots[index] = assets_of.evolve(slots[index], asset_event)
    return Generation(job, tuple(slots))


def pending_indexes(generation: Generation) -> tuple[int, ...]:
    """The assets that have not ended."""
    return tuple(index for index, asset in enumerate(generation.assets) if isinstance(asset, Reserved))


def recipe_of_retry(generation: Generation) -> Recipe:
    """The recipe of a new job for only the failed and canceled outputs, each with its original seed.

    Raises `NothingToRetry` when the job has not ended or has no such outputs.
    """
    job = generation.job
    if not isinstance(job, Finished):
        raise NothingToRetry(jobs.status_of(job))
    seeds = tuple(
        asset.reservation.seed
        for asset in generation.assets
        if isinstance(asset, assets_of.FailedAsset | assets_of.CanceledAsset)
    )
    if not seeds:
        raise NothingToRetry(jobs.status_of(job))
    return job.queued.recipe.model_copy(update={"seeds": seeds})


def _submit(command: SubmitJob, generation: Generation) -> Decision:
    queued = jobs.submit(command, generation.job)
    if not queued:
        return Decision()
    reserved = {
        index: (
            AssetReserved(
                owner=command.owner,
                job_id=command.job_id,
                index=index,
                seed=seed,
                kind=command.kind,
                bucket=command.bucket,
                path=asset_path(command.bucket, command.owner, command.job_id, index, command.extension),
                title=command.title,
                tags=normalized_tags(command.tags),
            ),
        )
        for index, seed in enumerate(command.recipe.seeds)
    }
    return Decision(job=tuple(queued), assets=reserved)


def _report(command: ReportAssetCompleted | ReportAssetFailed, generation: Generation) -> Decision:
    if not 0 <= command.index < len(generation.assets):
        detail = f"the job has assets 0 to {len(generation.assets) - 1}, not {command.index}"
        raise InvalidInput([FieldProblem("index", detail)])
    asset = generation.assets[command.index]
    if not isinstance(asset, Reserved):
        if _repeats(command, asset):
            return Decision()
        if isinstance(command, ReportAssetCompleted) and not isinstance(asset, Completed | Purged):
            raise AssetEnded(assets_of.status_of(asset))
        raise AttemptSuperseded(current=jobs.attempt_of(generation.job), reported=command.attempt)
    jobs.require_current(generation.job, command.attempt)
    event: AssetEvent
    if isinstance(command, ReportAssetCompleted):
        assets_of.require_file_of(asset.reservation, command.completed)
        event = command.completed
    else:
        event = AssetFailed(attempt=command.attempt, error=command.error)
    return _ended_if_last(generation, {command.index: (event,)})


def _repeats(command: ReportAssetCompleted | ReportAssetFailed, asset: Asset) -> bool:
    match asset:
        case Completed(completed=completed) | Purged(completed=completed):
            return isinstance(command, ReportAssetCompleted) and completed == command.completed
        case FailedAsset(failed=failed):
            return isinstance(command, ReportAssetFailed) and failed.attempt == command.attempt
        case _:
            return False


def _ended_if_last(generation: Generation, endings: Mapping[int, tuple[AssetEvent, ...]]) -> Decision:
    after = evolve(generation, Decision(assets=endings))
    if pending_indexes(after):
        return Decision(assets=endings)
    latest = [event.error for events in endings.values() for event in events if isinstance(event, AssetFailed)]
    return Decision(job=(_outcome(after.assets, latest),), assets=endings)


def _outcome(assets: tuple[Asset, ...], latest: Sequence[Failure]) -> JobEnding:
    """The ending of the job. If no asset was completed, the error is the last of `latest`, this commit's failures."""
    failed = sum(isinstance(asset, FailedAsset) for asset in assets)
    completed = sum(isinstance(asset, Completed | Purged) for asset in assets)
    if not failed:
        return JobSucceeded()
    if completed:
        return JobPartiallySucceeded(completed=completed, failed=failed)
    return JobFailed(error=latest[-1])


def _after_failure(
    command: FailAttempt | ExpireLease,
    error: Failure,
    reason: RequeueReason,
    jitter: float,
    generation: Generation,
    running: Running,
) -> Decision:
    if running.cancel_requested:
        return _cancel_rest(generation, JobCanceled())
    lost = reason is RequeueReason.WORKER_LOST
    verdict = after_failure(
        error.error_class,
        failures=running.tries.failures + 1,
        workers_lost=running.tries.workers_lost + lost,
        jitter=jitter,
    )
    match verdict:
        case TryAgain(delay=delay):
            return _requeue(command, reason, delay, error)
        case GiveUp():
            failed = AssetFailed(attempt=command.attempt, error=error)
            return _ended_if_last(generation, dict.fromkeys(pending_indexes(generation), (failed,)))
        case _:
            assert_never(verdict)


def _release(command: ReleaseAttempt | ConfirmCancel, generation: Generation) -> Decision:
    running = jobs.require_current(generation.job, command.attempt)
    if running.cancel_requested:
        return _cancel_rest(generation, JobCanceled())
    return _requeue(command, RequeueReason.WORKER_STOPPING, timedelta(0), None)


def _requeue(
    command: FailAttempt | ExpireLease | ReleaseAttempt | ConfirmCancel,
    reason: RequeueReason,
    delay: timedelta,
    error: Failure | None,
) -> Decision:
    not_before = command.now + delay
    return Decision(job=(JobRequeued(attempt=command.attempt, reason=reason, error=error, not_before=not_before),))


def _cancel(job: Job, generation: Generation) -> Decision:
    match job:
        case Waiting():
            return _cancel_rest(generation, JobCanceled())
        case Running(cancel_requested=False, tries=tries):
            return Decision(job=(JobCancelRequested(attempt=tries.attempt),))
        case _:
            return Decision()


def _cancel_rest(generation: Generation, ending: JobCanceled | JobAborted) -> Decision:
    canceled: tuple[AssetEvent, ...] = (AssetCanceled(),)
    return Decision(job=(ending,), assets=dict.fromkeys(pending_indexes(generation), canceled))


def _lost(running: Running) -> Failure:
    message = f"Worker {running.worker} was not heard of for a whole lease during attempt {running.tries.attempt}."
    return Failure(error_class=ErrorClass.WORKER_LOST, message=message)
