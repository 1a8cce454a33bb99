"""Waiting times hold: on queues that are played through with chance, of which the estimate knows only the past."""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.policies.waiting import NOTHING, Span, finished_in, rest_of

HELD_MIN = 0.85
"""So many of the jobs are finished within their ninetieth percentile, in each of the scenes."""


@dataclass(frozen=True)
class Scene:
    """A pool: kinds of jobs with the middle of their seconds and their spread, and what goes wrong."""

    kinds: Sequence[tuple[float, float]]
    workers: int
    ahead: tuple[int, int]
    known: int = 200
    fails: float = 0.0
    overtaken: float = 0.0
    slower: float = 1.0


SCENES = {
    "one worker, alike": Scene([(12, 0.1)], 1, (0, 5)),
    "one worker, a long line": Scene([(12, 0.3)], 1, (10, 60)),
    "nobody ahead": Scene([(12, 0.5)], 1, (0, 0)),
    "idle workers": Scene([(12, 0.5)], 8, (0, 0)),
    "several workers": Scene([(12, 0.4)], 4, (0, 20)),
    "many workers, few jobs": Scene([(12, 0.6)], 8, (0, 6)),
    "pictures and videos": Scene([(8, 0.3), (240, 0.4)], 3, (0, 20)),
    "wide": Scene([(30, 0.9)], 2, (0, 15)),
    "little is known": Scene([(12, 0.4)], 2, (0, 15), known=12),
    "some fail and come again": Scene([(12, 0.4)], 2, (0, 20), fails=0.05),
    "others come in between": Scene([(12, 0.4)], 2, (2, 20), overtaken=0.05),
    "slower than it was": Scene([(12, 0.3)], 2, (2, 20), slower=1.1),
}


def measured(past: Sequence[float]) -> Span:
    """As the API has it from jobs that ended."""
    cuts = quantiles(past, n=10, method="inclusive")
    return Span(quantiles(past, n=2, method="inclusive")[0], cuts[8])


def held(scene: Scene, trials: int = 400) -> tuple[float, float]:
    """The shares of jobs that were finished within the estimated middle and the ninetieth percentile."""
    chance = random.Random(7)
    draw = [lambda m=middle, s=spread: m * chance.lognormvariate(0, s) for middle, spread in scene.kinds]  # type: ignore[misc]
    within50 = within90 = 0
    for _ in range(trials):
        known = [measured([one() for _ in range(scene.known)]) for one in draw]
        kinds = [chance.randrange(len(draw)) for _ in range(chance.randint(*scene.ahead))]
        busy = bool(kinds) or (scene.ahead == (0, 0) and scene.workers == 1)
        rests, free_at = [], []
        for _ in range(scene.workers):
            kind = chance.randrange(len(draw))
            whole_s = draw[kind]() * scene.slower
            elapsed_s = whole_s * chance.random()
            rests.append(rest_of(known[kind], elapsed_s) if busy else NOTHING)
            free_at.append(whole_s - elapsed_s if busy else 0.0)
        own = chance.randrange(len(draw))
        estimate = finished_in(rests, [known[kind] for kind in kinds], known[own])
        assert estimate is not None
        jobs = [*kinds, *(0 for _ in kinds if chance.random() < scene.overtaken)]
        jobs += [kind for kind in jobs if chance.random() < scene.fails]
        heapq.heapify(free_at)
        for kind in jobs:
            heapq.heapreplace(free_at, free_at[0] + draw[kind]() * scene.slower)
        took_s = free_at[0] + draw[own]() * scene.slower
        within50 += took_s <= estimate.p50
        within90 += took_s <= estimate.p90
    return within50 / trials, within90 / trials


@pytest.mark.parametrize("name", SCENES)
def test_nine_estimates_of_ten_hold(name: str) -> None:
    within50, within90 = held(SCENES[name])
    assert within90 >= HELD_MIN
    assert 0.1 < within50 < 0.85  # and the middle is one: an estimate that is always too long holds as well


SPANS = st.builds(lambda p50, more: Span(p50, p50 * more), st.floats(0.1, 1e4), st.floats(1, 20))


@given(st.lists(SPANS, min_size=1, max_size=6), st.lists(SPANS, max_size=12), SPANS)
def test_who_stands_behind_another_is_not_finished_before(rests: list[Span], ahead: list[Span], own: Span) -> None:
    estimates = [finished_in(rests, ahead[:number], own) for number in range(len(ahead) + 1)]
    middles = [one.p50 for one in estimates if one is not None]
    assert middles == sorted(middles)
    assert all(one is not None and own.p50 <= one.p50 <= one.p90 for one in estimates)


@given(st.lists(SPANS, max_size=12), SPANS)
def test_without_a_worker_nobody_can_tell(ahead: list[Span], own: Span) -> None:
    assert finished_in([], ahead, own) is None


@given(SPANS, st.floats(0, 1e6), st.one_of(st.none(), st.floats(0, 1)))
def test_what_is_left_is_never_negative(whole: Span, elapsed_s: float, done: float | None) -> None:
    left = rest_of(whole, elapsed_s, done)
    assert 0 <= left.p50 <= left.p90


def test_a_worker_that_is_half_done_is_free_sooner() -> None:
    whole = Span(60.0, 90.0)
    assert rest_of(whole, 30.0).p50 == 30.0
    assert rest_of(whole, 30.0, done=0.75).p50 == 10.0
    assert rest_of(whole, 600.0).p50 == 60.0
