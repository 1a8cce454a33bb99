"""What ratings and preferences are worth: the formulas behind the view `scores`. Pure, and versioned as a whole.

Change a formula or a constant, and `FORMULA` goes up with it: each row says which formula made it, and a view that
another formula made is rebuilt from the ledger before it goes on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FORMULA = 1
"""Of every figure that this module computes."""

SCORES: Final = (1, 2, 3, 4, 5)
"""What a rating can be."""

PRIOR_MEAN = 3.0
"""The middle of the scale: of what nobody has rated nothing is known, neither good nor bad."""

PRIOR_RATINGS = 5
"""How many ratings what is known beforehand is worth: after as many, half of an average is what people said. Fewer let
one enthusiast win; with many more, a small installation would never tell its models apart."""

PRIOR_GAMES = 1.0
"""Preferences that each competitor has beforehand against one of strength 1, half of them won: enough that nobody is
without a victory or a defeat, and little beside ten preferences that somebody gave."""

ROUNDS_MAX = 500
"""Of the algorithm below; some tens are usual. What more would change is less than is shown."""

TOLERANCE = 1e-12
"""Change of the logarithms of the strengths within a round; below it the algorithm has arrived."""

LOGARITHM_MAX = 40.0
"""How far an extrapolation may go: no strength that follows from less than 10^15 preferences is beyond."""

SCORE_DECIMALS: Final = 4
STRENGTH_DIGITS: Final = 5
"""Significant ones. What is shown is equal wherever it was computed."""


def rated(distribution: Sequence[int]) -> int:
    """How many ratings there are. A distribution says how many there are of each score, from 1 to 5."""
    return sum(distribution)


def mean(distribution: Sequence[int]) -> float | None:
    """The mean of the ratings as they are; None without any."""
    count = rated(distribution)
    return round(_sum(distribution) / count, SCORE_DECIMALS) if count else None


def bayesian_average(distribution: Sequence[int]) -> float:
    """The mean of the ratings and of `PRIOR_RATINGS` more that all say `PRIOR_MEAN`; 1 … 5.

    So one five-star vote (3.3) does not beat forty ratings of mean 4.6 (4.4), and many ratings are worth their mean.
    The method is the weighted rating that IMDb published for its Top 250; it is what to expect of the next rating under
    a Dirichlet prior over the five scores (see Evan Miller, "Ranking Items With Star Ratings", 2014).
    """
    total = PRIOR_RATINGS * PRIOR_MEAN + _sum(distribution)
    return round(total / (PRIOR_RATINGS + rated(distribution)), SCORE_DECIMALS)


def strengths(wins: Mapping[tuple[str, str], int]) -> dict[str, float]:
    """Bradley-Terry strengths: of `a` and `b`, `a` is preferred with probability `a / (a + b)`. Positive and finite.

    `wins` says how often the first of a pair was preferred to the second; a pair with itself tells nothing. By the MM
    algorithm (D. R. Hunter, "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32, 2004), which
    has a finite answer only where everybody has won and lost along some chain. So each competitor also plays
    `PRIOR_GAMES` against one of fixed strength 1, and draws (a symmetric prior, as in Caron and Doucet, "Efficient
    Bayesian inference for generalized Bradley-Terry models", 2012). That one fixes the scale as well: over all who are
    connected by preferences, the mean chance against a strength of 1 is a half. Nobody's strength depends on those to
    whom no chain of preferences leads.

    Where somebody nearly always wins, MM takes thousands of rounds; so two of them are extrapolated (the scheme SqS3 of
    Varadhan and Roland, "Simple and globally convergent methods for accelerating the convergence of any EM algorithm",
    2008), which counts only where it explains the preferences better. The order of `wins` changes nothing.
    """
    found: dict[str, float] = {}
    for connected in _connected(wins):
        found |= _strengths_of(_Table.of(connected))
    return found


def _connected(wins: Mapping[tuple[str, str], int]) -> list[dict[tuple[str, str], int]]:
    """What was counted, apart for each set of competitors whom preferences connect."""
    counted = {pair: times for pair, times in sorted(wins.items()) if pair[0] != pair[1] and times}
    group: dict[str, set[str]] = {}
    for one, other in counted:
        joined = group.get(one, {one}) | group.get(other, {other})
        group |= dict.fromkeys(joined, joined)
    parts: dict[str, dict[tuple[str, str], int]] = {}
    for pair, times in counted.items():
        parts.setdefault(min(group[pair[0]]), {})[pair] = times
    return list(parts.values())


def _strengths_of(table: "_Table") -> dict[str, float]:
    logs = [0.0] * len(table.names)
    for _ in range(ROUNDS_MAX):
        once = table.improved(logs)
        twice = table.improved(once)
        step = [b - a for a, b in zip(logs, once, strict=True)]
        bend = [c - b - r for b, c, r in zip(once, twice, step, strict=True)]
        if max(map(abs, step)) < TOLERANCE:
            break
        bent = math.fsum(v * v for v in bend)
        length = math.sqrt(math.fsum(r * r for r in step) / bent) if bent else 1.0
        far = [_bounded(a + 2 * length * r + length**2 * v) for a, r, v in zip(logs, step, bend, strict=True)]
        logs = max(twice, table.improved(far), key=table.likelihood)
    return {name: float(f"{math.exp(log):.{STRENGTH_DIGITS}g}") for name, log in zip(table.names, logs, strict=True)}


@dataclass(frozen=True, slots=True)
class _Table:
    """Who met whom. Strengths are in the order of `names`, as logarithms. Sums are exact: no order changes them."""

    names: tuple[str, ...]
    won: tuple[float, ...]
    met: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, wins: Mapping[tuple[str, str], int]) -> "_Table":
        names = tuple(sorted({name for pair in wins for name in pair}))
        place = {name: number for number, name in enumerate(names)}
        won = [PRIOR_GAMES / 2] * len(names)
        met: list[dict[int, int]] = [{} for _ in names]
        for (winner, loser), times in wins.items():
            one, other = place[winner], place[loser]
            won[one] += times
            met[one][other] = met[other][one] = met[one].get(other, 0) + times
        return cls(names, tuple(won), tuple(tuple(each.items()) for each in met))

    def improved(self, logs: Sequence[float]) -> list[float]:
        """One round of MM: all at once, so those in the same position stay equal."""
        now = [math.exp(log) for log in logs]
        return [
            math.log(won / math.fsum([PRIOR_GAMES / (own + 1), *(times / (own + now[other]) for other, times in met)]))
            for won, own, met in zip(self.won, now, self.met, strict=True)
        ]

    def likelihood(self, logs: Sequence[float]) -> float:
        """The logarithm of how likely these strengths make the preferences, the prior's among them."""
        now = [math.exp(log) for log in logs]
        parts = []
        for place, (won, log, own) in enumerate(zip(self.won, logs, now, strict=True)):
            parts += [won * log, -PRIOR_GAMES * math.log(own + 1)]
            parts += [-times * math.log(own + now[other]) for other, times in self.met[place] if other > place]
        return math.fsum(parts)


def _bounded(log: float) -> float:
    return min(LOGARITHM_MAX, max(-LOGARITHM_MAX, log))


def _sum(distribution: Sequence[int]) -> int:
    return sum(score * times for score, times in zip(SCORES, distribution, strict=True))
