"""Holds by operators: a held pool or worker takes no further job until it is resumed. One decider for both.

Holds are checked when a job is handed out and when it starts, so they survive restarts. Running jobs continue.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID, uuid5

from domain.commands import Drain, FleetCommand, Pause, Resume
from domain.events import (
    PoolDrained,
    PoolEvent,
    PoolPaused,
    PoolResumed,
    WorkerDrained,
    WorkerEvent,
    WorkerPaused,
    WorkerResumed,
)

NAMES: Final = UUID("7c0c1f0e-6f5e-5f0b-9f0a-3a2f1d3a8e61")
"""UUID namespace of the streams of pools and workers."""


OWNER: Final = "admin"
"""The owner of pools and workers: the administrator."""


class Hold(StrEnum):
    """How a pool or worker is held back."""

    PAUSED = "paused"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True)
class Open:
    """The pool or worker is not held."""


@dataclass(frozen=True, slots=True)
class OnHold:
    """The pool or worker takes no further job."""

    hold: Hold
    reason: str | None = None


State = Open | OnHold


def pool_stream(pool: str) -> UUID:
    """The stream of a pool."""
    return uuid5(NAMES, f"pool:{pool}")


def worker_stream(worker: str) -> UUID:
    """The stream of a worker, by its name in the ledger."""
    return uuid5(NAMES, f"worker:{worker}")


def decide_pool(command: FleetCommand, state: State) -> list[PoolEvent]:
    """Hold or release a pool. A repeated command returns nothing."""
    if not _changes(command, state):
        return []
    match command:
        case Pause():
            return [PoolPaused(pool=command.name, reason=command.reason)]
        case Drain():
            return [PoolDrained(pool=command.name, reason=command.reason)]
        case Resume():
            return [PoolResumed(pool=command.name, reason=command.reason)]
        case _:
            assert_never(command)


def decide_worker(command: FleetCommand, state: State) -> list[WorkerEvent]:
    """Hold or release a worker. A repeated command returns nothing."""
    if not _changes(command, state):
        return []
    match command:
        case Pause():
            return [WorkerPaused(worker=command.name, reason=command.reason)]
        case Drain():
            return [WorkerDrained(worker=command.name, reason=command.reason)]
        case Resume():
            return [WorkerResumed(worker=command.name, reason=command.reason)]
        case _:
            assert_never(command)


def evolve_pool(_: State, event: PoolEvent) -> State:
    """Apply one event: the last one counts."""
    match event:
        case PoolPaused(reason=reason):
            return OnHold(Hold.PAUSED, reason)
        case PoolDrained(reason=reason):
            return OnHold(Hold.DRAINED, reason)
        case PoolResumed():
            return Open()
        case _:
            assert_never(event)


def evolve_worker(_: State, event: WorkerEvent) -> State:
    """Apply one event: the last one counts."""
    match event:
        case WorkerPaused(reason=reason):
            return OnHold(Hold.PAUSED, reason)
        case WorkerDrained(reason=reason):
            return OnHold(Hold.DRAINED, reason)
        case WorkerResumed():
            return Open()
        case _:
            assert_never(event)


def _changes(command: FleetCommand, state: State) -> bool:
    match command:
        case Pause(reason=reason):
            return state != OnHold(Hold.PAUSED, reason)
        case Drain(reason=reason):
            return state != OnHold(Hold.DRAINED, reason)
        case Resume():
            return isinstance(state, OnHold)
        case _:
            assert_never(command)
