"""A row of the table: two things measured in turn, several times, and the ratio of their medians."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.stage import Stage

Measure = Callable[[], float]
"""Measures once and returns a figure in the row's unit."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Both sides, ready and warm. A peer that is None cannot do this at all."""

    ours: Measure
    peer: Measure | None


@dataclass(frozen=True, slots=True)
class Target:
    """What counts as met: `figure` of ours itself, or of ours divided by the peer's."""

    of: Literal["ratio", "ours"]
    bound: Literal["≥", "≤"]
    figure: float

    def met(self, ours: float, ratio: float | None) -> bool:
        """Whether this result is good enough; without a ratio a target of a ratio is met by being able to do it."""
        value = ours if self.of == "ours" else ratio
        if value is None:
            return ours > 0
        return value >= self.figure if self.bound == "≥" else value <= self.figure

    def __str__(self) -> str:
        return f"{self.bound} {self.figure:,g}{' times' if self.of == 'ratio' else ''}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `prepare` builds both sides on the stage and takes them down again."""

    name: str
    unit: str
    peer: str
    target: Target
    prepare: Callable[[Stage], AbstractContextManager[Contest]]


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of all rounds; `spread` is (slowest, fastest) of ours."""

    row: Row
    ours: float
    spread: tuple[float, float]
    peer: float | None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.row.target.met(self.ours, self.ratio)


def run(row: Row, stage: Stage, rounds: int) -> Result:
    """One warm-up round that does not count, then `rounds` in which the two sides take turns in going first."""
    with row.prepare(stage) as contest:
        measured = list(_rounds(contest, rounds))[1:]
    ours = [figure for figure, _ in measured]
    peers = [figure for _, figure in measured if figure is not None]
    return Result(row, median(ours), (min(ours), max(ours)), median(peers) if peers else None)


def _rounds(contest: Contest, rounds: int) -> Iterator[tuple[float, float | None]]:
    for number in range(rounds + 1):
        if contest.peer is None:
            yield contest.ours(), None
        elif number % 2:
            peer = contest.peer()
            yield contest.ours(), peer
        else:
            ours = contest.ours()
            yield ours, contest.peer()
