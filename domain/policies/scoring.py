"""The formulas behind the view `scores`, for ratings and preferences. Pure, and versioned as a whole.

Increase `FORMULA` with every change of a formula or constant: each row records its formula, and a view made by another
formula is rebuilt from the ledger first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FORMULA = 1
"""Version of all formulas in this module."""

SCORES: Final = (1, 2, 3, 4, 5)
"""Possible ratings."""

PRIOR_MEAN = 3.0
"""Assumed mean of an output without ratings: the middle of the scale."""

PRIOR_RATINGS = 5
"""Weight of the assumed mean, in ratings: after as many real ratings, both count half. With a smaller weight a single
enthusiast could win; with a much larger one, a small installation could never tell its models apart."""

PRIOR_GAMES = 1.0
"""Assumed games of each competitor against one of strength 1, half of them won. No competitor is then without a win or
a loss, and the effect is small compared to ten preferences."""

ROUNDS_MAX = 500
"""Maximum iterations of the algorithm below; some tens are usual. More would change less than the displayed digits."""

TOLERANCE = 1e-12
"""Largest change of the logarithms of the strengths within an iteration at which the algorithm has converged."""

LOGARITHM_MAX = 40.0
"""Bound on the logarithms when extrapolating: strengths from fewer than 10^15 preferences are within it."""

SCORE_DECIMALS: Final = 4
STRENGTH_DIGITS: Final = 5
"""Significant digits; rounding makes the result the same on every machine."""


def rated(distribution: Sequence[int]) -> int:
    """The number of ratings. A distribution holds the number of ratings of each score, from 1 to 5."""
    return sum(distribution)


def mean(distribution: Sequence[int]) -> float | None:
    """The plain mean of the ratings; None without any."""
    count = rated(distribution)
    return round(_sum(distribution) / count, SCORE_DECIMALS) if count else None


def bayesian_average(distribution: Sequence[int]) -> float:
    """The mean of the ratings and of `PRIOR_RATINGS` additional ratings of `PRIOR_MEAN`; 1 … 5.

    So one five-star vote (3.3) does not beat forty ratings of mean 4.6 (4.4), and with many ratings the result
    approaches their mean. The method is the weighted rating that IMDb published for its Top 250; it is the expected
    next rating under a Dirichlet prior over the five scores (see Evan Miller, "Ranking Items With Star Ratings", 2014).
    """
    total = PRIOR_RATINGS * PRIOR_MEAN + _sum(distribution)
    return round(total / (PRIOR_RATINGS + rated(distribution)), SCORE_DECIMALS)


def strengths(wins: Mapping[tuple[str, str], int]) -> dict[str, float]:
    """Bradley-Terry strengths, positive and finite: `a` is preferred to `b` with probability `a / (a + b)`.

    `wins` counts how often the first of a pair was preferred to the second; pairs with itself are ignored. The MM
    algorithm (D. R. Hunter, "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32, 2004) has a
    finite answer only if every competitor is connected to every other by wins and by losses. So each competitor also
    plays `PRIOR_GAMES` against one of fixed strength 1, and draws (a symmetric prior, as in Caron and Doucet,
    "Efficient Bayesian inference for generalized Bradley-Terry models", 2012). This also fixes the scale: within each
    connected group the mean probability of a win against strength 1 is a half. Groups without a connecting preference
    do not influence each other.

    If a competitor nearly always wins, MM takes thousands of iterations. So two iterations are extrapolated (the scheme
    SqS3 of Varadhan and Roland, "Simple and globally convergent methods for accelerating the convergence of any EM
    algorithm", 2008), and the extrapolation is kept only if its likelihood is higher. The order of `wins` does not
    matter.
    """
    found: dict[str, float] = {}
    for connected in _connected(wins):
        found |= _strengths_of(_Table.of(connected))
    return found


def _connected(wins: Mapping[tuple[str, str], int]) -> list[dict[tuple[str, str], int]]:
    """The counts, split into groups of competitors that are connected by preferences."""
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
    """Results of all pairs. Strengths are in the order of `names`, as logarithms. Sums are exact in any order."""

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
        """One iteration of MM, for all at once, so that symmetric competitors stay equal."""
        now = [math.exp(log) for log in logs]
        return [
            math.log(won / math.fsum([PRIOR_GAMES / (own + 1), *(times / (own + now[other]) for other, times in met)]))
            for won, own, met in zip(self.won, now, self.met, strict=True)
        ]

    def likelihood(self, logs: Sequence[float]) -> float:
        """The log-likelihood of the preferences, including the prior, under these strengths."""
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
