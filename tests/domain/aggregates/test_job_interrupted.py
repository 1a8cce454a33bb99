"""The other ways: cancelling, failing, losing a worker, giving back, aborting. Nothing is lost, and a job ends once."""

from datetime import timedelta

import pytest

from domain.aggregates import job as jobs
from domain.aggregates.generation import Generation, pending_indexes, recipe_of_retry
from domain.aggregates.job import Waiting
from domain.errors import AttemptSuperseded, JobNotStartable, NotFound, NothingToRetry
from domain.events import ErrorClass, Failure
from tests.spec import (
    ABORTED,
    CANCEL,
    CANCELED,
    DEADLINE,
    INTERNAL,
    INVALID_INPUT,
    MODEL_UNAVAILABLE,
    NOTHING,
    OUT_OF_MEMORY,
    SEED,
    SUCCEEDED,
    TRANSIENT,
    abort,
    after,
    cancel_requested,
    canceled,
    completed,
    confirm,
    expire,
    fail,
    failed,
    given,
    job_failed,
    lost,
    partially_succeeded,
    queued,
    recipe,
    release,
    released,
    report_completed,
    report_failed,
    requeued,
    start,
    started,
    together,
    when,
    why_not,
)

PARTLY = given(queued(3), started(1), completed(0), failed(1), completed(2), partially_succeeded(completed=2, failed=1))
FAILED = given(queued(1), started(1), failed(0), job_failed(INVALID_INPUT))
ALL_DONE = given(queued(1), started(1), completed(0), SUCCEEDED)
ALL_CANCELED = given(queued(3), canceled(0, 1, 2), CANCELED)
ALL_ABORTED = given(queued(3, deadline=DEADLINE), canceled(0, 1, 2), ABORTED)
ENDED = [
    pytest.param(ALL_DONE, id="succeeded"),
    pytest.param(PARTLY, id="partially_succeeded"),
    pytest.param(FAILED, id="failed"),
    pytest.param(ALL_CANCELED, id="canceled"),
    pytest.param(ALL_ABORTED, id="aborted"),
]


# Cancelling.


def test_cancelling_a_waiting_job_ends_it_at_once() -> None:
    assert when(given(queued(3)), CANCEL) == together(CANCELED, canceled(0, 1, 2))


def test_cancelling_a_job_that_waits_again_keeps_what_was_made() -> None:
    job = given(queued(3), started(1), completed(0), failed(1), released(1))
    assert when(job, CANCEL) == together(CANCELED, canceled(2))


def test_cancelling_a_running_job_asks_its_worker_to_stop() -> None:
    job = given(queued(3), started(1), released(1), started(2))
    assert when(job, CANCEL) == cancel_requested(attempt=2)


def test_cancelling_a_running_job_twice_asks_once() -> None:
    assert when(given(queued(3), started(1), cancel_requested()), CANCEL) == NOTHING


@pytest.mark.parametrize("job", ENDED)
def test_cancelling_after_the_end_decides_nothing(job: Generation) -> None:
    assert when(job, CANCEL) == NOTHING


def test_a_worker_that_stopped_as_asked_ends_the_job_and_keeps_what_was_made() -> None:
    job = given(queued(3), started(1), completed(1), cancel_requested())
    assert when(job, confirm()) == together(CANCELED, canceled(0, 2))


def test_a_worker_that_stops_unasked_gives_the_job_back() -> None:
    assert when(given(queued(3), started(1)), confirm()) == released(1)


def test_a_cancel_is_confirmed_by_the_current_attempt_only() -> None:
    job = given(queued(3), started(1), released(1), started(2), cancel_requested(2))
    refusal = why_not(AttemptSuperseded, job, confirm(1))
    assert (refusal.current, refusal.reported) == (2, 1)


@pytest.mark.parametrize(
    "end_of_attempt",
    [
        pytest.param(expire(), id="lease expires"),
        pytest.param(fail(1, TRANSIENT), id="attempt fails"),
        pytest.param(fail(1, MODEL_UNAVAILABLE), id="attempt fails for good"),
        pytest.param(release(), id="worker stops"),
    ],
)
def test_a_requested_cancel_is_kept_however_the_attempt_ends(end_of_attempt: object) -> None:
    job = given(queued(3), started(1), completed(1), cancel_requested())
    assert when(job, end_of_attempt) == together(CANCELED, canceled(0, 2))  # type: ignore[arg-type]


def test_a_job_that_completes_before_the_worker_hears_of_the_cancel_has_succeeded() -> None:
    job = given(queued(2), started(1), cancel_requested(), completed(0))
    assert when(job, report_completed(1)) == together(completed(1), SUCCEEDED)


def test_the_last_asset_may_fail_after_the_cancel_was_requested() -> None:
    job = given(queued(2), started(1), cancel_requested(), completed(0))
    assert when(job, report_failed(1)) == together(failed(1), partially_succeeded(completed=1, failed=1))


# Failing.


def test_a_transient_failure_is_tried_again_after_a_backoff() -> None:
    job = given(queued(3), started(1))
    assert when(job, fail(1, TRANSIENT, jitter=0.5)) == requeued(1, TRANSIENT, not_before=after(1.0))


def test_the_backoff_doubles() -> None:
    job = given(queued(3), started(1), requeued(1, INTERNAL), started(2))
    assert when(job, fail(2, INTERNAL, jitter=0.5)) == requeued(2, INTERNAL, not_before=after(2.0))


def test_out_of_memory_is_tried_again_at_once() -> None:
    job = given(queued(3), started(1))
    assert when(job, fail(1, OUT_OF_MEMORY, jitter=0.9)) == requeued(1, OUT_OF_MEMORY)


def test_the_third_failure_is_final() -> None:
    job = given(queued(3), started(1), requeued(1, TRANSIENT), started(2), requeued(2, OUT_OF_MEMORY), started(3))
    end = together(failed(0, 1, 2, error=TRANSIENT, attempt=3), job_failed(TRANSIENT))
    assert when(job, fail(3, TRANSIENT)) == end


@pytest.mark.parametrize("error", [MODEL_UNAVAILABLE, INVALID_INPUT], ids=lambda error: error.error_class)
def test_what_cannot_get_better_is_not_tried_again(error: Failure) -> None:
    end = together(failed(0, 1, error=error), job_failed(error))
    assert when(given(queued(2), started(1)), fail(1, error)) == end


def test_giving_up_keeps_what_was_made() -> None:
    job = given(queued(3), started(1), completed(0), failed(1))
    end = together(failed(2, error=MODEL_UNAVAILABLE), partially_succeeded(completed=1, failed=2))
    assert when(job, fail(1, MODEL_UNAVAILABLE)) == end


def test_a_job_that_waits_after_a_failure_still_owes_the_same_assets() -> None:
    job = given(queued(3), started(1), completed(1), requeued(1, TRANSIENT))
    assert pending_indexes(job) == (0, 2)


# Losing the worker, and giving back.


def test_a_job_that_lost_its_worker_waits_again_at_once() -> None:
    assert when(given(queued(3), started(1)), expire(1)) == requeued(1, lost(1))


def test_a_job_that_lost_its_worker_twice_is_failed_with_that_reason() -> None:
    job = given(queued(2), started(1), requeued(1, lost(1)), started(2, "gpu-2"))
    reason = lost(2, "gpu-2")
    assert when(job, expire(2)) == together(failed(0, 1, error=reason, attempt=2), job_failed(reason))
    assert reason.error_class is ErrorClass.WORKER_LOST


def test_a_lost_worker_counts_as_a_failure() -> None:
    job = given(queued(1), started(1), requeued(1, lost(1)), started(2), requeued(2, TRANSIENT), started(3))
    end = together(failed(0, error=TRANSIENT, attempt=3), job_failed(TRANSIENT))
    assert when(job, fail(3, TRANSIENT)) == end


def test_giving_a_job_back_counts_as_no_failure() -> None:
    given_back = [fact for attempt in range(1, 9) for fact in (started(attempt), released(attempt))]
    job = given(queued(1), *given_back, started(9))
    assert when(given(queued(1), *given_back[:-1]), release(8)) == released(8)
    assert when(job, fail(9, TRANSIENT, jitter=0.5)) == requeued(9, TRANSIENT, not_before=after(1.0))
    assert when(job, expire(9)) == requeued(9, lost(9))


def test_a_job_given_back_can_be_taken_at_once() -> None:
    assert when(given(queued(1), started(1), released(1)), start(2)) == started(2)


@pytest.mark.parametrize("command", [fail(1), release(1), expire(1), confirm(1)], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(given(queued(3), started(1), released(1)), id="waiting again"),
        pytest.param(given(queued(3), started(1), released(1), started(2)), id="superseded"),
        pytest.param(given(queued(3), started(1), released(1), canceled(0, 1, 2), CANCELED), id="ended"),
    ],
)
def test_an_attempt_that_is_over_cannot_end_again(job: Generation, command: object) -> None:
    refusal = why_not(AttemptSuperseded, job, command)  # type: ignore[arg-type]
    assert (refusal.current, refusal.reported) == (jobs.attempt_of(job.job), 1)


# The deadline.


def test_a_job_that_nobody_took_by_its_deadline_is_aborted() -> None:
    job = given(queued(3, deadline=DEADLINE))
    assert when(job, abort(now=DEADLINE)) == together(ABORTED, canceled(0, 1, 2))


def test_a_job_is_not_aborted_before_its_deadline() -> None:
    job = given(queued(3, deadline=DEADLINE))
    assert when(job, abort(now=DEADLINE - timedelta(milliseconds=1))) == NOTHING


def test_a_job_without_a_deadline_is_never_aborted() -> None:
    assert when(given(queued(3)), abort(now=after(1e9))) == NOTHING


def test_a_job_that_started_in_time_is_not_aborted() -> None:
    running = given(queued(3, deadline=DEADLINE), started(1))
    assert when(running, abort()) == NOTHING
    waits_again = given(queued(3, deadline=DEADLINE), started(1), requeued(1, TRANSIENT))
    assert isinstance(waits_again.job, Waiting)
    assert when(waits_again, abort()) == NOTHING


def test_a_job_past_its_deadline_is_not_begun_even_when_nobody_aborted_it_yet() -> None:
    job = given(queued(3, deadline=DEADLINE))
    assert when(job, start(1, now=DEADLINE - timedelta(milliseconds=1))) == started(1)
    assert why_not(JobNotStartable, job, start(1, now=DEADLINE)).status == "past its deadline"


def test_a_job_that_ran_in_time_may_run_again_after_its_deadline() -> None:
    job = given(queued(3, deadline=DEADLINE), started(1), requeued(1, TRANSIENT))
    assert when(job, start(2, now=after(3600))) == started(2)


def test_a_failed_job_says_what_ended_it_not_what_failed_first() -> None:
    job = given(queued(3), started(1), failed(2, error=INVALID_INPUT))
    decided = when(job, fail(1, MODEL_UNAVAILABLE))
    assert decided == together(job_failed(MODEL_UNAVAILABLE), failed(0, 1, error=MODEL_UNAVAILABLE))


# After the end, and before the beginning.


@pytest.mark.parametrize("job", ENDED)
def test_an_ended_job_never_starts_again(job: Generation) -> None:
    for attempt in (1, 2):
        refusal = why_not(JobNotStartable, job, start(attempt))
        assert (refusal.status, refusal.attempt) == (jobs.status_of(job.job), attempt)
    assert when(job, abort()) == NOTHING


def test_nothing_can_be_interrupted_that_was_never_submitted() -> None:
    for command in (CANCEL, abort(), fail(1), release(1), expire(1), confirm(1)):
        why_not(NotFound, given(), command)


# Retrying.


def test_a_retry_runs_the_failed_outputs_alone_each_with_its_seed() -> None:
    job = given(queued(3), started(1), failed(0), completed(1), failed(2), partially_succeeded(completed=1, failed=2))
    assert recipe_of_retry(job) == recipe(3).model_copy(update={"seeds": (SEED, SEED + 2)})


def test_a_retry_of_a_canceled_job_runs_what_was_not_made() -> None:
    job = given(queued(3), started(1), completed(0), released(1), canceled(1, 2), CANCELED)
    assert recipe_of_retry(job).seeds == (SEED + 1, SEED + 2)
    assert recipe_of_retry(ALL_ABORTED).seeds == (SEED, SEED + 1, SEED + 2)


@pytest.mark.parametrize(
    ("job", "status"),
    [
        pytest.param(ALL_DONE, "succeeded", id="all completed"),
        pytest.param(given(queued(3)), "queued", id="waiting"),
        pytest.param(given(queued(3), started(1), failed(0)), "processing", id="running"),
        pytest.param(given(), "unknown", id="never submitted"),
    ],
)
def test_there_is_nothing_to_retry(job: Generation, status: str) -> None:
    with pytest.raises(NothingToRetry) as caught:
        recipe_of_retry(job)
    assert caught.value.status == status
