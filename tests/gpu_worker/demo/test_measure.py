"""Image analysis is right on drawn pictures, whole and noisy, and says so when there is nothing to see."""

import numpy as np
import pytest

from gpu_worker.demo.images.measure import Seen, look
from gpu_worker.demo.world import draw, paint, random_scene


@pytest.mark.parametrize("noise", [0, 15])
def test_it_reads_what_was_drawn(noise: int) -> None:
    rng = np.random.default_rng(7)
    right = 0
    for number in range(200):
        scene = random_scene(rng, unseen=number % 2 == 0, single=1.0)
        spoilt = draw(scene, 128, rng) + rng.normal(0, noise, (128, 128, 3))
        seen = look(np.clip(spoilt, 0, 255).astype(np.uint8))
        right += seen == Seen(scene.background, scene.thing.colour, scene.thing.shape)
    assert right >= 198


def test_an_empty_ground_shows_nothing() -> None:
    assert look(paint([], "green", 128)) == Seen("green", None, None)
