"""Pools and workers that operators hold back."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import pytest

from domain.aggregates.fleet import (
    Hold,
    OnHold,
    Open,
    State,
    decide_pool,
    decide_worker,
    evolve_pool,
    evolve_worker,
    pool_stream,
    worker_stream,
)
from domain.commands import Drain, FleetCommand, Pause, Resume
from domain.events import PoolDrained, PoolPaused, PoolResumed, WorkerDrained, WorkerPaused, WorkerResumed
from tests.spec import NOW

WHY = "a new driver"
PAUSE, DRAIN, RESUME = Pause("x", NOW, WHY), Drain("x", NOW, WHY), Resume("x", NOW)
KINDS: dict[str, tuple[Callable[..., Any], Callable[..., State], Sequence[Any]]] = {
    "pool": (
        decide_pool,
        evolve_pool,
        (PoolPaused(pool="x", reason=WHY), PoolDrained(pool="x", reason=WHY), PoolResumed(pool="x")),
    ),
    "worker": (
        decide_worker,
        evolve_worker,
        (WorkerPaused(worker="x", reason=WHY), WorkerDrained(worker="x", reason=WHY), WorkerResumed(worker="x")),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("before", "command", "fact"),
    [
        ((), PAUSE, 0),
        ((), DRAIN, 1),
        ((), RESUME, None),
        ((0,), PAUSE, None),
        ((0,), DRAIN, 1),
        ((0,), RESUME, 2),
        ((1,), PAUSE, 0),
        ((1,), DRAIN, None),
        ((1,), RESUME, 2),
        ((0, 2), RESUME, None),
        ((0, 2), PAUSE, 0),
    ],
)
def test_what_is_said_again_leads_to_nothing_and_the_last_word_counts(
    kind: str, before: Sequence[int], command: FleetCommand, fact: int | None
) -> None:
    decide, evolve, facts = KINDS[kind]
    opened: State = Open()
    state = reduce(evolve, [facts[number] for number in before], opened)
    assert decide(command, state) == ([] if fact is None else [facts[fact]])


@pytest.mark.parametrize("kind", KINDS)
def test_another_reason_is_another_fact(kind: str) -> None:
    decide, evolve, facts = KINDS[kind]
    paused = evolve(Open(), facts[0])
    assert paused == OnHold(Hold.PAUSED, WHY)
    (again,) = decide(Pause("x", NOW, "a new card"), paused)
    assert again.reason == "a new card"


def test_a_pool_and_a_worker_of_one_name_have_streams_of_their_own() -> None:
    assert len({pool_stream("x"), worker_stream("x"), pool_stream("y"), worker_stream("y")}) == 4
