"""Estimate when a waiting job will finish, from running jobs, the jobs ahead and their uncertainty. Pure.

Each worker that becomes free takes the next job. A job's duration is assumed to be lognormal, as work times usually
are; its median and 90th percentile give the spread. Deviations of single jobs average out, so the variances of the wait
add up; errors common to all jobs do not.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Z90: Final = 1.2816
"""Standard deviations from the median to the 90th percentile of a normal distribution."""

ALIKE: Final = 0.15
"""Share by which a wait may grow for reasons common to all jobs: loading a model, a slower machine, jobs of other
owners in between, failed attempts. tests/domain/policies/test_waiting.py measures the resulting coverage."""

SPREAD_MAX: Final = 1.5
"""Maximum standard deviation of the logarithm. A wider spread comes from too few jobs."""


@dataclass(frozen=True, slots=True)
class Span:
    """A duration in seconds: half of all are at most `p50`, nine of ten at most `p90`."""

    p50: float
    p90: float

    @property
    def spread(self) -> float:
        """The standard deviation of the logarithm."""
        if self.p50 <= 0 or self.p90 <= self.p50:
            return 0.0
        return min(SPREAD_MAX, math.log(self.p90 / self.p50) / Z90)

    @property
    def mean(self) -> float:
        """The mean in seconds; more than half of all durations are shorter."""
        return self.p50 * math.exp(self.spread**2 / 2)

    @property
    def variance(self) -> float:
        """The variance in seconds squared."""
        return self.mean**2 * math.expm1(self.spread**2)

    def times(self, factor: float) -> "Span":
        """The duration multiplied by a factor."""
        return Span(self.p50 * factor, self.p90 * factor)


NOTHING: Final = Span(0.0, 0.0)


def rest_of(whole: Span, elapsed_s: float, done: float | None = None) -> Span:
    """The remaining time of a job that has run for `elapsed_s`. `done`: the finished share of its steps, 0 … 1.

    Without it, the remaining time of a late job grows with the time elapsed, within bounds.
    """
    if done is not None and 0.05 < done <= 1:
        left_s = elapsed_s * (1 - done) / done
        return Span(left_s, max(left_s, whole.p90 - elapsed_s, 1.2 * left_s))
    least_s = 0.1 * max(whole.p50, elapsed_s)
    return Span(max(least_s, whole.p50 - elapsed_s), max(2 * least_s, whole.p90 - elapsed_s))


def finished_in(rests: Sequence[Span], ahead: Sequence[Span], own: Span) -> Span | None:
    """When a job finishes.

    `rests`: the remaining time of each worker of its pool; `ahead`: the jobs before it, in order.

    None without a worker.
    """
    if not rests:
        return None
    free_at = [rest.mean for rest in rests]
    heapq.heapify(free_at)
    for job in ahead:
        heapq.heapreplace(free_at, free_at[0] + job.mean)
    wait_s = free_at[0]
    before = [*rests, *ahead] if ahead else [min(rests, key=lambda rest: rest.mean)]
    workers = len(rests) if ahead else 1
    variance = sum(each.variance for each in before) / workers**2
    if workers > 1:  # which worker is free first is random too
        variance += max(each.mean for each in before) ** 2 / 12
    middle_s = wait_s + own.p50
    own_s = max(0.0, own.p90 - own.p50)
    return Span(middle_s, middle_s + ALIKE * wait_s + math.sqrt(Z90**2 * variance + own_s**2))
