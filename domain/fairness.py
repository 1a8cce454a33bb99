"""Who is next: strict priority, then deficit round robin between owners, then first come. Pure.

Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) gives each owner a quantum in each round; a job is served in
the first round that has brought enough, and what is left over counts in the next. Nobody walks the rounds here: the
number of the round follows from the seconds that an owner was given so far, so jobs are simply ordered by it. Those
seconds are folded from the ledger (projections/queue.py): every dispatcher finds the same order, also after a restart.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

QUANTUM_S: Final = 60.0
"""Expected seconds of work that a round gives to each owner.

Seconds, because it is the workers' time that is shared: six pictures count as six, a video as what it takes. A round
has room for the longest image job of the shipped catalog (48 s), so everybody who waits there gets a job in each; a
video takes several rounds, for everybody alike. Were rounds longer, one owner would have more jobs in a row.
"""

UNEXPECTED_S: Final = 10.0
"""Seconds for each asset of a job of which nobody said how long it takes."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job to hand out. `cost_s` is what its owner is charged: seconds that it is expected to take.

    `came` is its place in the ledger.
    """

    job_id: UUID
    attempt: int
    cost_s: float
    came: int


@dataclass(frozen=True, slots=True)
class Line:
    """The jobs of one owner that wait at one priority, first come first.

    `used_s`: what the owner was given so far at this priority. `jobs` are those at the front, of `waiting` in all with
    `waiting_s` seconds of work. `more`: others follow that were not read.
    """

    owner: str
    priority: int
    used_s: float
    jobs: Sequence[WaitingJob] = ()
    more: bool = False
    waiting: int = 0
    waiting_s: float = 0.0


def charged(used_s: float, round_s: float, cost_s: float) -> float:
    """What the owner has used after a job of `cost_s`. `round_s` is where the present round of the priority begins.

    Who was away does not come back with the rounds that he missed: one quantum is kept, or one job if that is longer.
    """
    return max(used_s, round_s - max(QUANTUM_S, cost_s)) + cost_s


def round_of(used_after_s: float) -> int:
    """The round, from 1, that pays for a job after which so much is used."""
    return max(1, math.ceil(round(used_after_s / QUANTUM_S, 9)))


def round_begun(used_after_s: float, round_s: float) -> float:
    """Where the present round begins once such a job was started: rounds never go back."""
    return max(round_s, (round_of(used_after_s) - 1) * QUANTUM_S)


def in_order(
    lines: Sequence[Line],
    rounds: Mapping[int, float],
    at_work: Mapping[str, int],
    per_owner_max: int | None = None,
) -> Iterator[WaitingJob]:
    """The jobs as they are to be handed out. It ends where it would have to know more than was read.

    `rounds`: where the present round of each priority begins. `at_work`: how many jobs of each owner run or are handed
    out; nobody gets more than `per_owner_max`.
    """
    given = dict(at_work)
    for priority in sorted({line.priority for line in lines}, reverse=True):
        round_s = rounds.get(priority, 0.0)
        heads = [
            _Head.of(charged(line.used_s, round_s, line.jobs[0].cost_s), line, 0)
            for line in lines
            if line.priority == priority and line.jobs
        ]
        heapq.heapify(heads)
        while heads:
            head = heapq.heappop(heads)
            line = head.line
            if per_owner_max is not None and given.get(line.owner, 0) >= per_owner_max:
                continue  # the others go on without him
            given[line.owner] = given.get(line.owner, 0) + 1
            yield line.jobs[head.index]
            following = head.index + 1
            if following < len(line.jobs):
                used_s = charged(head.used_s, round_s, line.jobs[following].cost_s)
                heapq.heappush(heads, _Head.of(used_s, line, following))
            elif line.more:
                return


@dataclass(frozen=True, slots=True, order=True)
class _Head:
    """The next job of a line: by the round that pays for it, then first come. `used_s` is what is used after it."""

    round: int
    came: int
    used_s: float = field(compare=False)
    line: Line = field(compare=False)
    index: int = field(compare=False)

    @classmethod
    def of(cls, used_s: float, line: Line, index: int) -> "_Head":
        return cls(round_of(used_s), line.jobs[index].came, used_s, line, index)


def about_place(lines: Sequence[Line], rounds: Mapping[int, float], mine: Line, ahead: int) -> int:
    """Roughly the place, from 1, of the job that has `ahead` others of its own line before it.

    For jobs deep in a long queue: others are taken to wait for jobs of one size, and rounds to be short.
    """
    others = [line for line in lines if line.priority == mine.priority and line.owner != mine.owner]
    round_s = rounds.get(mine.priority, 0.0)
    reached_s = _floor_of(mine, round_s) + (ahead + 1) * _mean_s(mine)
    sooner = sum(line.waiting for line in lines if line.priority > mine.priority)
    for other in others:
        fitting = int((reached_s - _floor_of(other, round_s)) / _mean_s(other))
        sooner += min(other.waiting, max(0, fitting))
    return sooner + ahead + 1


def _mean_s(line: Line) -> float:
    return line.waiting_s / line.waiting if line.waiting and line.waiting_s > 0 else UNEXPECTED_S


def _floor_of(line: Line, round_s: float) -> float:
    mean_s = _mean_s(line)
    return charged(line.used_s, round_s, mean_s) - mean_s
