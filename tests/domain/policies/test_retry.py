"""The retry policy: a function of what failed and how often."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import ErrorClass
from domain.policies.retry import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    FAILURES_MAX,
    NEVER_RETRIED,
    WORKERS_LOST_MAX,
    GiveUp,
    TryAgain,
    after_failure,
)

JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)


@pytest.mark.parametrize("error_class", sorted(NEVER_RETRIED))
def test_what_cannot_get_better_is_given_up_at_once(error_class: ErrorClass) -> None:
    assert after_failure(error_class, failures=1, workers_lost=0, jitter=0.5) == GiveUp()


def test_only_bad_input_and_a_missing_model_cannot_get_better() -> None:
    assert {ErrorClass.INVALID_INPUT, ErrorClass.MODEL_UNAVAILABLE} == NEVER_RETRIED


@pytest.mark.parametrize("error_class", ErrorClass)
def test_attempts_are_bounded_for_every_error(error_class: ErrorClass) -> None:
    assert after_failure(error_class, failures=FAILURES_MAX, workers_lost=0, jitter=0) == GiveUp()
    assert after_failure(error_class, failures=FAILURES_MAX + 1, workers_lost=0, jitter=0) == GiveUp()


@pytest.mark.parametrize("error_class", [ErrorClass.OUT_OF_MEMORY, ErrorClass.WORKER_LOST])
def test_waiting_would_not_help_against_these(error_class: ErrorClass) -> None:
    assert after_failure(error_class, failures=1, workers_lost=1, jitter=0.9) == TryAgain(timedelta(0))


@pytest.mark.parametrize("error_class", [ErrorClass.TRANSIENT, ErrorClass.INTERNAL])
@pytest.mark.parametrize(("failures", "delay_s"), [(1, 1.0), (2, 2.0)])
def test_the_backoff_doubles(error_class: ErrorClass, failures: int, delay_s: float) -> None:
    verdict = after_failure(error_class, failures=failures, workers_lost=0, jitter=0.5)
    assert verdict == TryAgain(timedelta(seconds=delay_s))


def test_losing_a_second_worker_gives_up() -> None:
    assert after_failure(ErrorClass.WORKER_LOST, failures=2, workers_lost=WORKERS_LOST_MAX, jitter=0) == GiveUp()
    assert after_failure(ErrorClass.TRANSIENT, failures=2, workers_lost=WORKERS_LOST_MAX, jitter=0) == GiveUp()


@given(error_class=st.sampled_from(ErrorClass), failures=st.integers(1, 2), jitter=JITTER)
def test_a_delay_has_full_jitter_and_a_ceiling(error_class: ErrorClass, failures: int, jitter: float) -> None:
    verdict = after_failure(error_class, failures=failures, workers_lost=0, jitter=jitter)
    if isinstance(verdict, TryAgain):
        ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
        assert timedelta(0) <= verdict.delay <= timedelta(seconds=ceiling_s)
    else:
        assert error_class in NEVER_RETRIED


@given(error_class=st.sampled_from([ErrorClass.TRANSIENT, ErrorClass.INTERNAL]), failures=st.integers(1, 2))
def test_jitter_spreads_delays_over_the_whole_time_and_not_a_part_of_it(error_class: ErrorClass, failures: int) -> None:
    delays = [
        verdict.delay.total_seconds()
        for jitter in range(100)
        if isinstance(
            verdict := after_failure(error_class, failures=failures, workers_lost=0, jitter=jitter / 100), TryAgain
        )
    ]
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
    assert delays == pytest.approx([jitter / 100 * ceiling_s for jitter in range(100)])


@given(failed=st.lists(st.sampled_from(ErrorClass), min_size=FAILURES_MAX, max_size=20), jitter=JITTER)
def test_whatever_fails_and_in_whatever_order_a_job_is_given_up_in_time(
    failed: list[ErrorClass], jitter: float
) -> None:
    lost = 0
    for failures, error_class in enumerate(failed, start=1):
        lost += error_class is ErrorClass.WORKER_LOST
        verdict = after_failure(error_class, failures=failures, workers_lost=lost, jitter=jitter)
        if isinstance(verdict, GiveUp):
            break
        assert verdict.delay <= timedelta(seconds=BACKOFF_MAX_S)
    assert isinstance(verdict, GiveUp)
    assert failures <= FAILURES_MAX
    assert lost <= WORKERS_LOST_MAX


@given(
    error_class=st.sampled_from(ErrorClass), failures=st.integers(1, 9), workers_lost=st.integers(0, 9), jitter=JITTER
)
def test_more_failures_never_earn_another_try(
    error_class: ErrorClass, failures: int, workers_lost: int, jitter: float
) -> None:
    def verdict(more: int) -> TryAgain | GiveUp:
        return after_failure(error_class, failures=failures + more, workers_lost=workers_lost, jitter=jitter)

    assert verdict(0) == verdict(0)
    if verdict(0) == GiveUp():
        assert verdict(1) == GiveUp()
