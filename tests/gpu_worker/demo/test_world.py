"""The world that the demo models draw: words and pictures agree, and what is held out stays out."""

import numpy as np
import pytest

from gpu_worker.demo.images.data import scene_and_picture
from gpu_worker.demo.world import (
    COLOURS,
    COUNTS,
    SHAPES,
    Scene,
    Thing,
    arrange,
    caption,
    combinations,
    draw,
    held_out,
    random_scene,
    words,
)


def test_the_plain_wording_says_everything() -> None:
    assert caption(Scene(Thing("circle", "red"), "blue")) == "a red circle on a blue background"
    three = Scene(Thing("triangle", "green", "small"), "white", count=3)
    assert caption(three) == "three small green triangles on a white background"
    pair = Scene(Thing("circle", "red", "large"), "orange", relation="left of", other=Thing("square", "blue"))
    assert caption(pair) == "a large red circle left of a blue square on an orange background"
    placed = Scene(Thing("star", "white"), "black", place="top")
    assert caption(placed) == "a white star at the top on a black background"


def test_captions_are_made_of_the_known_words() -> None:
    rng = np.random.default_rng(0)
    known = set(words())
    for _ in range(500):
        assert set(caption(random_scene(rng), rng).replace(",", " ,").split()) <= known


def test_one_combination_in_seven_is_held_out_and_each_of_its_pairs_is_not() -> None:
    unseen, seen = combinations(unseen=True), combinations(unseen=False)
    assert len(unseen) + len(seen) == len(COLOURS) * (len(COLOURS) - 1) * len(SHAPES)
    assert 0.12 < len(unseen) / (len(unseen) + len(seen)) < 0.18
    for colour, shape, background in unseen:
        assert any(other[:2] == (colour, shape) for other in seen)
        assert any(other[1:] == (shape, background) for other in seen)
        assert any((other[0], other[2]) == (colour, background) for other in seen)


def test_training_never_draws_what_is_held_out() -> None:
    for number in range(300):
        scene, _ = scene_and_picture(1, number)
        assert not any(held_out(*triple) for triple in scene.triples())


def test_a_picture_has_its_colours() -> None:
    for colour, shape, background in combinations(unseen=True):
        picture = draw(Scene(Thing(shape, colour), background), 64, np.random.default_rng(0))
        assert picture.shape == (64, 64, 3)
        assert tuple(picture[0, 0]) == COLOURS[background]
        assert (picture == COLOURS[colour]).all(axis=-1).mean() > 0.02


def test_nothing_leaves_the_picture_or_overlaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        figures = arrange(random_scene(rng, single=0.3), rng)
        for number, one in enumerate(figures):
            assert one.radius < one.x < 1 - one.radius
            assert one.radius < one.y < 1 - one.radius
            for other in figures[:number]:
                assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius - 0.02


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_are_drawn_as_are_said(count: int) -> None:
    assert len(arrange(Scene(Thing("star", "red"), "white", count=count), np.random.default_rng(0))) == count


def test_the_same_number_is_the_same_picture() -> None:
    first, second = scene_and_picture(1, 5), scene_and_picture(1, 5)
    assert first[0] == second[0]
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], scene_and_picture(1, 6)[1])
