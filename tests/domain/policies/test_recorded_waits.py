"""Waiting times hold on histories that were recorded, each job estimated from what had ended before it was submitted.

`recorded_waits.json` holds what `python -m benchmarks.waits` wrote; its note says on which machine and when.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from domain.policies.waiting import NOTHING, Span, finished_in, rest_of

RECORDED = json.loads((Path(__file__).parent / "recorded_waits.json").read_text("utf-8"))

HELD_MIN = 0.85
"""So many of the jobs are finished within their ninetieth percentile, in each of the histories."""

KNOWN_MIN = 5
"""Jobs of a kind that have ended before something is estimated from them."""

JUDGED_MIN = 60
"""Jobs of a history that can be judged; a share of fewer says little."""


@dataclass(frozen=True)
class Job:
    """A job as it happened: seconds from the first one's submission on."""

    kind: str
    submitted_s: float
    started_s: float
    finished_s: float
    worker: str

    @property
    def took_s(self) -> float:
        return self.finished_s - self.started_s


def span_of(kind: str, ended: Sequence[Job]) -> Span | None:
    """What jobs of a kind took that have ended; None for too few."""
    took = [job.took_s for job in ended if job.kind == kind]
    if len(took) < KNOWN_MIN:
        return None
    return Span(quantiles(took, n=2, method="inclusive")[0], quantiles(took, n=10, method="inclusive")[8])


def estimate_of(job: Job, jobs: Sequence[Job]) -> Span | None:
    """As a person hears it who submits this job, from what is known at that moment; None for too little."""
    now_s = job.submitted_s
    ended = [each for each in jobs if each.finished_s <= now_s]
    spans = {kind: span_of(kind, ended) for kind in {each.kind for each in jobs}}
    rests = dict.fromkeys({each.worker for each in jobs}, NOTHING)
    ahead = []
    for each in jobs[: jobs.index(job)]:
        span = spans[each.kind]
        if each.finished_s <= now_s:
            continue
        if span is None:
            return None
        if each.started_s <= now_s:
            rests[each.worker] = rest_of(span, now_s - each.started_s)
        else:
            ahead.append(span)
    own = spans[job.kind]
    return None if own is None else finished_in(list(rests.values()), ahead, own)


def held_of(rows: Sequence[Sequence[Any]]) -> list[tuple[bool, bool]]:
    """Of each job that can be judged, whether it was finished within its middle and its ninetieth percentile."""
    jobs = [Job(*row) for row in rows]
    assert jobs == sorted(jobs, key=lambda job: job.submitted_s)
    estimates = ((job.finished_s - job.submitted_s, estimate_of(job, jobs)) for job in jobs)
    judged = [(took_s <= eta.p50, took_s <= eta.p90) for took_s, eta in estimates if eta is not None]
    assert len(judged) >= JUDGED_MIN
    return judged


def share(held: Sequence[bool]) -> float:
    """Of those that held."""
    return sum(held) / len(held)


@pytest.mark.parametrize("name", RECORDED["histories"])
def test_nine_estimates_of_ten_held_when_they_were_needed(name: str) -> None:
    held = held_of(RECORDED["histories"][name])
    assert share([within90 for _, within90 in held]) >= HELD_MIN
    assert 0.1 < share([within50 for within50, _ in held]) < 0.95  # the middle is one: not merely always too long


def test_estimates_hold_again_once_a_machine_that_became_slower_is_known() -> None:
    """Other programs took half of the processor on the way: nobody knew before, and the second half is right again."""
    held = [within90 for _, within90 in held_of(RECORDED["slowed"])]
    assert share(held) < HELD_MIN
    assert share(held[len(held) // 2 :]) >= HELD_MIN
