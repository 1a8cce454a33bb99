"""When a waiting job will be finished: what each worker still has to do, what stands ahead, how sure that is. Pure.

Workers take the jobs ahead one after the other, each when it is free. A job's time is taken to be lognormal, as times
of work mostly are: its middle and its ninetieth percentile say how wide it is. What single jobs take longer or shorter
evens out over many, so the deviations of the wait add by their squares; what is wrong with all alike does not.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Z90: Final = 1.2816
"""Standard deviations from the middle to the ninetieth percentile of a normal distribution."""

ALIKE: Final = 0.15
"""By so much of itself a wait may be longer for reasons that its jobs share: a model that is loaded first, a slower
machine, owners who come in between, attempts that fail. tests/domain/test_waiting.py measures what holds with it."""

SPREAD_MAX: Final = 1.5
"""Of the logarithm. Times that are spread wider come from too few jobs to tell."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds that something takes: half of all times no longer than `p50`, nine of ten no longer than `p90`."""

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
        """Of all times; more than half of them are shorter."""
        return self.p50 * math.exp(self.spread**2 / 2)

    @property
    def variance(self) -> float:
        """Seconds squared."""
        return self.mean**2 * math.expm1(self.spread**2)

    def times(self, factor: float) -> "Span":
        """The same of something so many times as long."""
        return Span(self.p50 * factor, self.p90 * factor)


NOTHING: Final = Span(0.0, 0.0)


def rest_of(whole: Span, elapsed_s: float, done: float | None = None) -> Span:
    """What is left of a job that has run for `elapsed_s`. `done`: the share of its steps that are made, 0 … 1.

    A job that takes longer than expected is as far from its end as it was wrong so far, within bounds.
    """
    if done is not None and 0.05 < done <= 1:
        left_s = elapsed_s * (1 - done) / done
        return Span(left_s, max(left_s, whole.p90 - elapsed_s, 1.2 * left_s))
    least_s = 0.1 * max(whole.p50, elapsed_s)
    return Span(max(least_s, whole.p50 - elapsed_s), max(2 * least_s, whole.p90 - elapsed_s))


def finished_in(rests: Sequence[Span], ahead: Sequence[Span], own: Span) -> Span | None:
    """When a job is finished. `rests`: one for each worker of its pool; `ahead`: the jobs that go first, in order.

    None without a worker: nobody can tell.
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
    if workers > 1:  # who is free first is chance as well
        variance += max(each.mean for each in before) ** 2 / 12
    middle_s = wait_s + own.p50
    own_s = max(0.0, own.p90 - own.p50)
    return Span(middle_s, middle_s + ALIKE * wait_s + math.sqrt(Z90**2 * variance + own_s**2))
