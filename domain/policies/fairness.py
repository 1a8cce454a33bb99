"""The order of jobs: strict priority, then deficit round robin between owners, then first come. Pure.

Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) gives each owner a quantum per round. A job is served in the
first round in which its owner has accumulated enough; the remainder carries over. The rounds are not simulated: the
round number follows from the seconds that an owner has used, so jobs are sorted by it. Those seconds are folded from
the ledger (projections/queue.py), so every dispatcher computes the same order, also after a restart.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

QUANTUM_S: Final = 60.0
"""Expected seconds of work that each owner gets per round.

The unit is seconds because owners share the workers' time: six images count as six, a video as its duration. A round
has room for the longest image job of the shipped catalog (48 s), so every owner with image jobs gets one per round; a
video takes several rounds, for every owner alike. With longer rounds, one owner would get more jobs in a row.
"""

UNEXPECTED_S: Final = 10.0
"""Seconds charged for each asset of a job without an expected duration."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job to hand out. `cost_s` is the expected seconds charged to its owner.

    `came` is its position in the ledger.
    """

    job_id: UUID
    attempt: int
    cost_s: float
    came: int


@dataclass(frozen=True, slots=True)
class Line:
    """The waiting jobs of one owner at one priority, first come first.

    `used_s`: seconds the owner has used at this priority. `jobs` are the first of `waiting` jobs, which have
    `waiting_s` seconds of work together. `more`: there are jobs that were not read.
    """

    owner: str
    priority: int
    used_s: float
    jobs: Sequence[WaitingJob] = ()
    more: bool = False
    waiting: int = 0
    waiting_s: float = 0.0


def charged(used_s: float, round_s: float, cost_s: float) -> float:
    """The owner's used seconds after a job of `cost_s`. `round_s` is the start of the current round of the priority.

    An owner who was idle does not collect the missed rounds: at most one quantum is kept, or one job if that is longer.
    """
    return max(used_s, round_s - max(QUANTUM_S, cost_s)) + cost_s


def round_of(used_after_s: float) -> int:
    """The round, from 1, that pays for a job after which `used_after_s` seconds are used."""
    return max(1, math.ceil(round(used_after_s / QUANTUM_S, 9)))


def round_begun(used_after_s: float, round_s: float) -> float:
    """The start of the current round after such a job started: rounds never go back."""
    return max(round_s, (round_of(used_after_s) - 1) * QUANTUM_S)


def in_order(
    lines: Sequence[Line],
    rounds: Mapping[int, float],
    at_work: Mapping[str, int],
    per_owner_max: int | None = None,
) -> Iterator[WaitingJob]:
    """The jobs in the order in which to hand them out; stops where jobs that were not read would matter.

    `rounds`: the start of the current round of each priority. `at_work`: the number of running or dispatched jobs of
    each owner; no owner gets more than `per_owner_max`.
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
                continue  # other owners continue
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
    """The next job of a line: by the round that pays for it, then first come. `used_s` includes this job."""

    round: int
    came: int
    used_s: float = field(compare=False)
    line: Line = field(compare=False)
    index: int = field(compare=False)

    @classmethod
    def of(cls, used_s: float, line: Line, index: int) -> "_Head":
        return cls(round_of(used_s), line.jobs[index].came, used_s, line, index)


def about_place(lines: Sequence[Line], rounds: Mapping[int, float], mine: Line, ahead: int) -> int:
    """The approximate place, from 1, of a job with `ahead` jobs of its own line before it.

    For jobs deep in a long queue: it assumes jobs of equal size and short rounds.
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
