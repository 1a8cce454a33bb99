"""The straight way: a job is submitted, started, its assets are reported, and it ends with the last of them."""

from dataclasses import replace
from uuid import UUID

import pytest
from pydantic import ValidationError

from domain.aggregates import job as jobs
from domain.aggregates.generation import Generation, pending_indexes
from domain.aggregates.job import Finished, NotSubmitted, Running, Waiting
from domain.aggregates.media import EXTENSIONS
from domain.commands import ReportAssetCompleted, ReportAssetFailed
from domain.errors import (
    AssetEnded,
    AttemptSuperseded,
    IdempotencyKeyReused,
    InvalidInput,
    JobNotStartable,
    NotFound,
    PromptAlreadyEnhanced,
)
from domain.events import WARNING_CHARACTERS_MAX, JobHandedOver, JobQueued, JobStarted, JobWarned
from tests.spec import (
    CANCELED,
    ENHANCED,
    INVALID_INPUT,
    MODEL_UNAVAILABLE,
    NOTHING,
    OUT_OF_MEMORY,
    OWNER,
    REQUEST_SHA256,
    SUBMIT,
    SUCCEEDED,
    TRANSIENT,
    after,
    canceled,
    completed,
    failed,
    file_of,
    given,
    job_failed,
    note,
    noted,
    partially_succeeded,
    queued,
    recipe,
    released,
    report_completed,
    report_failed,
    requeued,
    reservation,
    start,
    started,
    submit,
    together,
    when,
    why_not,
)

BATCH_ID = UUID("00000000-0000-4000-8000-000000000001")
PARENT_ID = UUID("00000000-0000-4000-8000-000000000002")


# Submitting.


@pytest.mark.parametrize("quantity", [1, 3, 6])
def test_submitting_queues_the_job_and_reserves_its_assets_in_one_commit(quantity: int) -> None:
    decision = when(given(), submit(quantity))
    expected = JobQueued(owner=OWNER, recipe=recipe(quantity), pool="sdxl", request_sha256=REQUEST_SHA256)
    assert decision.job == (expected,)
    assert decision.assets == {index: (reservation(index),) for index in range(quantity)}


def test_a_submission_keeps_everything_that_was_asked_for() -> None:
    command = replace(SUBMIT, priority=7, batch_id=BATCH_ID, parent_id=PARENT_ID, tags=("fog",), deadline=after(60))
    [event] = when(given(), command).job
    assert isinstance(event, JobQueued)
    assert (event.priority, event.batch_id, event.parent_id) == (7, BATCH_ID, PARENT_ID)
    assert (event.tags, event.deadline) == (("fog",), after(60))


def test_two_assets_of_a_job_never_share_a_seed_or_a_path() -> None:
    reserved = [events[0] for events in when(given(), submit(6)).assets.values()]
    assert len({event.model_dump()["seed"] for event in reserved}) == 6
    assert len({event.model_dump()["path"] for event in reserved}) == 6


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(given(queued()), id="waiting"),
        pytest.param(given(queued(), started(1)), id="running"),
        pytest.param(given(queued(), canceled(0, 1, 2), CANCELED), id="canceled"),
    ],
)
def test_the_same_request_again_decides_nothing(job: Generation) -> None:
    assert when(job, submit()) == NOTHING


@pytest.mark.parametrize("other", [None, "ef" * 32])
def test_another_body_under_the_same_key_is_refused(other: str | None) -> None:
    refusal = why_not(IdempotencyKeyReused, given(queued()), submit(request_sha256=other))
    assert "use a new key" in str(refusal)


def test_two_requests_without_a_key_never_pass_for_a_repeat() -> None:
    nameless = when(given(), submit(request_sha256=None))
    why_not(IdempotencyKeyReused, given(nameless), submit(request_sha256=None))


# Starting.


def test_the_first_attempt_of_a_waiting_job_starts() -> None:
    assert when(given(queued()), start(1)) == started(1)


def test_the_same_worker_asking_again_gets_it_again() -> None:
    assert when(given(queued(), started(1)), start(1)) == NOTHING


def test_another_worker_does_not_get_a_running_job() -> None:
    refusal = why_not(JobNotStartable, given(queued(), started(1)), start(1, "gpu-2"))
    assert (refusal.status, refusal.attempt) == ("processing", 1)


@pytest.mark.parametrize("attempt", [0, 2, 9])
def test_only_the_next_attempt_of_a_waiting_job_starts(attempt: int) -> None:
    refusal = why_not(JobNotStartable, given(queued()), start(attempt))
    assert (refusal.status, refusal.attempt) == ("queued", attempt)


def test_an_old_message_of_a_requeued_job_does_not_start_it() -> None:
    why_not(JobNotStartable, given(queued(), started(1), released(1)), start(1))


def test_a_job_that_waits_again_starts_with_the_next_attempt() -> None:
    assert when(given(queued(), started(1), released(1)), start(2, "gpu-2")) == started(2, "gpu-2")


def test_a_job_that_backs_off_does_not_start_before_its_time() -> None:
    job = given(queued(), started(1), requeued(1, TRANSIENT, not_before=after(1.5)))
    refusal = why_not(JobNotStartable, job, start(2, now=after(1.4)))
    assert refusal.status == "backing off"
    assert when(job, start(2, now=after(1.5))) == started(2)


# Reporting assets, and ending.


def test_a_completed_asset_is_recorded_while_its_siblings_go_on() -> None:
    assert when(given(queued(3), started(1)), report_completed(1)) == completed(1)


def test_a_failed_asset_does_not_fail_its_siblings() -> None:
    job = given(queued(3), started(1))
    assert when(job, report_failed(1)) == failed(1)
    assert pending_indexes(given(queued(3), started(1), failed(1))) == (0, 2)


def test_a_job_ends_in_the_commit_in_which_its_last_asset_ends() -> None:
    job = given(queued(3), started(1), completed(2), completed(0))
    assert when(job, report_completed(1)) == together(completed(1), SUCCEEDED)


def test_a_job_of_one_ends_with_its_only_report() -> None:
    assert when(given(queued(1), started(1)), report_completed(0)) == together(completed(0), SUCCEEDED)


def test_a_job_with_some_completed_and_some_failed_assets_is_partially_succeeded() -> None:
    ending = partially_succeeded(completed=1, failed=2)
    last_completes = given(queued(3), started(1), failed(0, 1))
    assert when(last_completes, report_completed(2)) == together(completed(2), ending)
    last_fails = given(queued(3), started(1), completed(0), failed(1))
    assert when(last_fails, report_failed(2)) == together(failed(2), ending)


def test_a_job_without_a_completed_asset_is_failed_with_the_error_of_an_asset() -> None:
    job = given(queued(3), started(1), failed(0, 1, error=OUT_OF_MEMORY))
    assert when(job, report_failed(2)) == together(failed(2), job_failed(INVALID_INPUT))


def test_assets_of_several_attempts_make_one_job() -> None:
    job = given(queued(2), started(1), completed(0), requeued(1, TRANSIENT), started(2))
    assert pending_indexes(job) == (1,)
    assert when(job, report_completed(1, attempt=2)) == together(completed(1, attempt=2), SUCCEEDED)


@pytest.mark.parametrize("index", [-1, 3, 99])
def test_a_report_on_an_asset_that_the_job_does_not_have_names_those_it_has(index: int) -> None:
    job = given(queued(3), started(1))
    for command in (report_completed(index), report_failed(index)):
        [problem] = why_not(InvalidInput, job, command).problems
        assert (problem.path, problem.detail) == ("index", f"the job has assets 0 to 2, not {index}")


@pytest.mark.parametrize("media_type", EXTENSIONS)
def test_a_file_of_another_kind_than_the_output_is_refused(media_type: str) -> None:
    job = given(queued(1), started(1))
    report = replace(report_completed(0), completed=file_of(0, 1).model_copy(update={"media_type": media_type}))
    if media_type.startswith("image/"):
        assert when(job, report)
    else:
        [problem] = why_not(InvalidInput, job, report).problems
        assert (problem.path, problem.detail) == ("media_type", f"must be a type of image, not {media_type!r}")
        assert when(job, report_completed(0))  # the asset is still owed


# Reporting again, and too late.


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(given(queued(3), started(1), completed(0), failed(1)), id="running"),
        pytest.param(given(queued(3), started(1), completed(0), failed(1), released(1)), id="waiting again"),
        pytest.param(given(queued(3), started(1), completed(0), failed(1), released(1), started(2)), id="superseded"),
        pytest.param(
            given(
                queued(3), started(1), completed(0), failed(1), completed(2), partially_succeeded(completed=2, failed=1)
            ),
            id="ended",
        ),
    ],
)
def test_a_repeated_report_decides_nothing(job: Generation) -> None:
    assert when(job, report_completed(0)) == NOTHING
    assert when(job, report_failed(1)) == NOTHING


def test_a_superseded_attempt_cannot_end_an_asset() -> None:
    job = given(queued(3), started(1), released(1), started(2))
    for report in (report_completed(0, attempt=1), report_failed(0, attempt=1)):
        refusal = why_not(AttemptSuperseded, job, report)
        assert (refusal.current, refusal.reported) == (2, 1)


def test_an_attempt_cannot_end_an_asset_while_the_job_waits_again() -> None:
    why_not(AttemptSuperseded, given(queued(3), started(1), released(1)), report_completed(0, attempt=1))


def test_an_attempt_that_never_started_cannot_end_an_asset() -> None:
    refusal = why_not(AttemptSuperseded, given(queued(3)), report_completed(0, attempt=1))
    assert (refusal.current, refusal.reported) == (0, 1)
    why_not(AttemptSuperseded, given(queued(3), started(1)), report_completed(0, attempt=2))


@pytest.mark.parametrize(
    "contradiction",
    [
        pytest.param(report_failed(0), id="failed after completed"),
        pytest.param(report_completed(0, attempt=2), id="completed by another attempt"),
        pytest.param(replace(report_completed(1), index=0), id="another file"),
        pytest.param(report_failed(1, attempt=2), id="failed by another attempt"),
    ],
)
def test_an_ended_asset_keeps_its_ending(contradiction: ReportAssetCompleted | ReportAssetFailed) -> None:
    why_not(AttemptSuperseded, given(queued(3), started(1), completed(0), failed(1)), contradiction)


def test_a_late_file_does_not_complete_an_asset_that_ended_without_one() -> None:
    refusal = why_not(AssetEnded, given(queued(1), canceled(0), CANCELED), report_completed(0))
    assert refusal.status == "canceled"
    refusal = why_not(AssetEnded, given(queued(2), started(1), failed(1)), report_completed(1))
    assert refusal.status == "failed"


def test_a_file_that_another_attempt_may_want_is_not_called_unwanted() -> None:
    requeued = given(queued(1), started(1), released(1))
    for job in (requeued, given(queued(1), started(1), released(1), started(2))):
        why_not(AttemptSuperseded, job, report_completed(0, attempt=1))
    done = given(queued(1), started(1), released(1), started(2), completed(0, attempt=2), SUCCEEDED)
    why_not(AttemptSuperseded, done, report_completed(0, attempt=1))


# States.


def test_the_fold_tells_who_has_the_job_and_what_was_tried() -> None:
    history = [queued(1), started(1), requeued(1, MODEL_UNAVAILABLE), started(2, "gpu-2"), completed(0, 2), SUCCEEDED]
    seen = [given(*history[:length]).job for length in range(len(history) + 1)]
    assert [jobs.status_of(job) for job in seen] == [
        "unknown", "queued", "processing", "queued", "processing", "processing", "succeeded",
    ]  # fmt: skip
    assert [jobs.attempt_of(job) for job in seen] == [0, 0, 1, 1, 2, 2, 2]
    assert [type(job) for job in seen] == [NotSubmitted, Waiting, Running, Waiting, Running, Running, Finished]
    assert isinstance(seen[4], Running)
    assert seen[4].worker == "gpu-2"
    assert [jobs.owner_of(job) for job in seen[:2]] == [None, OWNER]


def test_history_that_starts_in_the_middle_is_damaged() -> None:
    with pytest.raises(ValueError, match="damaged; run darkroom verify"):
        jobs.evolve(NotSubmitted(), JobStarted(attempt=1, worker="gpu-1"))


def test_nothing_can_be_done_with_a_job_that_was_never_submitted() -> None:
    for command in (start(1), report_completed(0), report_failed(0)):
        refusal = why_not(NotFound, given(), command)
        assert (refusal.kind, str(refusal)) == ("job", "There is no job under this id.")


def test_a_note_is_kept_once() -> None:
    handed = JobHandedOver(attempt=1, index=0, provider="fal", provider_id="764cabcf")
    running = given(queued(1), started(1))
    assert when(running, note(handed)) == noted(handed)
    assert when(given(queued(1), started(1), noted(handed)), note(handed)) == NOTHING


def test_a_prompt_is_made_richer_once_and_later_attempts_go_on_with_it() -> None:
    again = ENHANCED.model_copy(update={"attempt": 2, "enhanced": "another one"})
    job = given(queued(1), started(1), noted(ENHANCED), released(1), started(2))
    why_not(PromptAlreadyEnhanced, job, note(again))
    assert when(job, note(again.model_copy(update={"enhanced": ENHANCED.enhanced}))) == NOTHING
    assert isinstance(job.job, Running)
    assert job.job.tries.enhanced_prompt == ENHANCED.enhanced


def test_a_second_richer_prompt_of_the_same_attempt_is_refused() -> None:
    job = given(queued(1), started(1), noted(ENHANCED))
    assert when(job, note(ENHANCED)) == NOTHING
    why_not(PromptAlreadyEnhanced, job, note(ENHANCED.model_copy(update={"enhanced": "another one"})))


def test_what_was_handed_over_is_known_to_the_next_attempt() -> None:
    first = JobHandedOver(attempt=1, index=1, provider="fal", provider_id="764cabcf")
    second = JobHandedOver(attempt=1, index=1, provider="fal", provider_id="9b2dd0")
    job = given(queued(3), started(1), noted(first), noted(second), released(1)).job
    assert isinstance(job, Waiting)
    assert job.tries.handed_over == {1: second}


def warned(number: int = 1, attempt: int = 1) -> JobWarned:
    """A warning of an attempt."""
    return JobWarned(attempt=attempt, code="prompt_cut_off", detail=f"Word {number} is not read.")


def test_a_warning_is_kept_once_whichever_attempt_says_it() -> None:
    running = given(queued(1), started(1))
    assert when(running, note(warned())) == noted(warned())
    later = given(queued(1), started(1), noted(warned()), released(1), started(2))
    assert when(later, note(warned(attempt=2))) == NOTHING
    assert when(later, note(warned(2, attempt=2))) == noted(warned(2, attempt=2))
    why_not(AttemptSuperseded, later, note(warned(3)))


def test_a_job_has_so_many_warnings_and_more_are_dropped() -> None:
    full = given(queued(1), started(1), *(noted(warned(number)) for number in range(jobs.WARNINGS_MAX)))
    assert when(full, note(warned(jobs.WARNINGS_MAX))) == NOTHING


@pytest.mark.parametrize(
    "wrong", [{"code": "Bad Code"}, {"code": "x" * 65}, {"detail": ""}, {"detail": "x" * (WARNING_CHARACTERS_MAX + 1)}]
)
def test_a_warning_is_bounded(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        JobWarned.model_validate({"attempt": 1, "code": "prompt_cut_off", "detail": "It is not read."} | wrong)
