"""When to try again: a pure function of what failed and how often. Bounded, with full jitter."""

from dataclasses import dataclass
from datetime import timedelta

from domain.events import ErrorClass

FAILURES_MAX = 3
"""Maximum number of failed attempts of a job."""

WORKERS_LOST_MAX = 2
"""Maximum number of lost workers of a job: it probably kills them, so it is quarantined as failed."""

BACKOFF_FIRST_S = 2.0
BACKOFF_MAX_S = 60.0
"""Seconds. The delay grows exponentially, doubling, with full jitter (Marc Brooker, "Exponential Backoff And Jitter",
AWS Architecture Blog, 2015)."""

NEVER_RETRIED = frozenset({ErrorClass.INVALID_INPUT, ErrorClass.MODEL_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Try again after `delay`."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is final."""


def after_failure(error_class: ErrorClass, *, failures: int, workers_lost: int, jitter: float) -> TryAgain | GiveUp:
    """The decision after a failed attempt. `failures` and `workers_lost` include it; `jitter` is in [0, 1)."""
    if error_class in NEVER_RETRIED or failures >= FAILURES_MAX or workers_lost >= WORKERS_LOST_MAX:
        return GiveUp()
    if error_class in {ErrorClass.OUT_OF_MEMORY, ErrorClass.WORKER_LOST}:
        return TryAgain(timedelta(0))  # the worker continues with less memory; a lost worker already cost a lease
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
    return TryAgain(timedelta(seconds=jitter * ceiling_s))
