"""Ratings and preferences become figures: few opinions say little, and nothing depends on the order they came in."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.policies.scoring import (
    PRIOR_GAMES,
    PRIOR_MEAN,
    PRIOR_RATINGS,
    SCORES,
    bayesian_average,
    mean,
    rated,
    strengths,
)

Distributions = st.lists(st.integers(0, 10_000), min_size=5, max_size=5)
Wins = st.dictionaries(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), st.integers(1, 60), max_size=20
)

# Ratings.


def test_one_five_star_vote_does_not_beat_forty_ratings_of_mean_4_6() -> None:
    forty = (0, 0, 2, 12, 26)
    assert (rated(forty), mean(forty)) == (40, 4.6)
    assert (bayesian_average((0, 0, 0, 0, 1)), bayesian_average(forty)) == (3.3333, 4.4222)


def test_one_bad_vote_does_not_make_the_worst_either() -> None:
    assert bayesian_average((1, 0, 0, 0, 0)) > bayesian_average((30, 10, 0, 0, 0))


def test_without_a_rating_nothing_is_known() -> None:
    assert (mean((0,) * 5), bayesian_average((0,) * 5)) == (None, PRIOR_MEAN)


def test_after_as_many_ratings_as_the_prior_is_worth_half_is_what_people_said() -> None:
    assert bayesian_average((0, 0, 0, 0, PRIOR_RATINGS)) == (5 + PRIOR_MEAN) / 2


@given(Distributions)
def test_an_average_lies_between_the_prior_and_the_mean(distribution: list[int]) -> None:
    plain = mean(distribution)
    average = bayesian_average(distribution)
    assert SCORES[0] <= average <= SCORES[-1]
    if plain is not None:
        assert min(PRIOR_MEAN, plain) - 1e-4 <= average <= max(PRIOR_MEAN, plain) + 1e-4


@given(Distributions.filter(any), st.integers(2, 50))
def test_more_ratings_of_the_same_kind_move_the_average_to_their_mean(distribution: list[int], times: int) -> None:
    plain = sum(score * number for score, number in zip(SCORES, distribution, strict=True)) / sum(distribution)
    few, many = bayesian_average(distribution), bayesian_average([times * number for number in distribution])
    assert abs(many - plain) <= abs(few - plain) + 1e-4
    assert abs(bayesian_average([10**9 * number for number in distribution]) - plain) < 1e-4


@given(Distributions, st.integers(0, 3), st.integers(1, 5))
def test_a_better_rating_never_lowers_the_average(distribution: list[int], place: int, times: int) -> None:
    worse, better = list(distribution), list(distribution)
    worse[place] += times
    better[place + 1] += times
    assert bayesian_average(better) >= bayesian_average(worse)


# Preferences.


def tournament(true: dict[str, float], games: int, seed: int) -> dict[tuple[str, str], int]:
    """Everybody meets everybody so often; a's chance to win is a / (a + b)."""
    chance = random.Random(seed)
    wins: Counter[tuple[str, str]] = Counter()
    for a, b in ((a, b) for a in true for b in true if a < b):
        for _ in range(games):
            a_wins = chance.random() < true[a] / (true[a] + true[b])
            wins[(a, b) if a_wins else (b, a)] += 1
    return dict(wins)


@pytest.mark.parametrize("seed", range(5))
def test_strengths_recover_the_order_of_a_tournament(seed: int) -> None:
    true = {name: 2.0**place for place, name in enumerate("hgfedcba")}
    found = strengths(tournament(true, games=100, seed=seed))
    assert sorted(found, key=found.__getitem__) == sorted(true, key=true.__getitem__)
    for stronger, weaker in zip("abcdefg", "bcdefgh", strict=True):
        assert 1.3 < found[stronger] / found[weaker] < 3.1


@given(Wins, st.randoms(use_true_random=False))
def test_the_order_of_what_was_preferred_changes_nothing(
    wins: dict[tuple[str, str], int], chance: random.Random
) -> None:
    pairs = list(wins.items())
    chance.shuffle(pairs)
    assert strengths(dict(pairs)) == strengths(wins)


@given(Wins)
def test_strengths_are_positive_and_finite_for_any_results(wins: dict[tuple[str, str], int]) -> None:
    found = strengths(wins)
    assert found.keys() == {name for pair in wins for name in pair if pair[0] != pair[1]}
    assert all(0 < strength < math.inf for strength in found.values())


@given(Wins)
def test_strengths_explain_the_preferences_best(wins: dict[tuple[str, str], int]) -> None:
    # Where the likelihood is greatest, each one's expected victories are those it has: Hunter's equation (3).
    found = strengths(wins)
    real = {pair: times for pair, times in wins.items() if pair[0] != pair[1]}
    for name, own in found.items():
        won = sum(times for (winner, _), times in real.items() if winner == name) + PRIOR_GAMES / 2
        games = Counter({other: times for (one, other), times in real.items() if one == name})
        games.update({one: times for (one, other), times in real.items() if other == name})
        expected = sum(times * own / (own + found[other]) for other, times in games.items())
        assert expected + PRIOR_GAMES * own / (own + 1) == pytest.approx(won, rel=1e-3)


@given(Wins)
def test_the_mean_chance_against_a_strength_of_one_is_a_half(wins: dict[tuple[str, str], int]) -> None:
    found = strengths(wins)
    if found:
        assert sum(one / (one + 1) for one in found.values()) / len(found) == pytest.approx(0.5, abs=1e-4)


@given(Wins)
def test_names_decide_nothing(wins: dict[tuple[str, str], int]) -> None:
    mirrored = {name: chr(ord("a") + ord("h") - ord(name)) for name in "abcdefgh"}
    renamed = strengths({(mirrored[winner], mirrored[loser]): times for (winner, loser), times in wins.items()})
    assert {mirrored[name]: strength for name, strength in strengths(wins).items()} == renamed


@pytest.mark.parametrize(
    "wins",
    [
        {("a", "b"): 3, ("b", "a"): 3},
        {("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1},
        {("a", "b"): 70, ("b", "a"): 70, ("c", "d"): 2, ("d", "c"): 2},
    ],
)
def test_who_stands_alike_is_equally_strong(wins: dict[tuple[str, str], int]) -> None:
    assert set(strengths(wins).values()) == {1.0}


def test_equal_opponents_get_the_same_strength_to_the_last_bit() -> None:
    found = strengths({("top", f"{number}"): 7 for number in range(9)})
    assert len({strength for name, strength in found.items() if name != "top"}) == 1


@pytest.mark.parametrize("games", [1, 10, 1_000])
def test_who_never_lost_stays_finite(games: int) -> None:
    # The two unknowns: they are each other's inverse, and the victories of one are those it is expected to have.
    found = strengths({("a", "b"): games})
    assert found["a"] * found["b"] == pytest.approx(1, rel=1e-4)
    won = games * found["a"] / (found["a"] + found["b"]) + found["a"] / (found["a"] + 1)
    assert won == pytest.approx(games + 0.5, rel=1e-6)


def test_those_without_a_connection_are_judged_apart() -> None:
    one, other = {("a", "b"): 5, ("b", "c"): 2}, {("x", "y"): 400, ("y", "x"): 3}
    assert strengths(one | other) == strengths(one) | strengths(other)
    assert strengths({}) == strengths({("a", "a"): 9}) == {}
