"""The world in motion: one shape that crosses a flat background in one of four directions, and the words for it.

Pure, as the world itself: the same scene and the same state of the generator give the same caption and pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker.demo.reading import Facts
from gpu_worker.demo.world import COLOURS, SHAPES, Figure, combinations, paint, words

Clip = NDArray[np.uint8]
"""[frames, height, width, 3], red, green, blue."""

FRAMES = 17
"""4 k + 1, as Wan's autoencoder takes them: 5 latent frames."""
PIXELS = 96
"""Width and height of a clip."""

DIRECTIONS: dict[str, tuple[int, int]] = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
"""Where a shape goes, and that as a step in x and y, y downwards."""
WAYS: dict[str, tuple[str, ...]] = {
    "right": ("left to right", "from left to right", "to the right"),
    "left": ("right to left", "from right to left", "to the left"),
    "up": ("upwards", "up", "from bottom to top"),
    "down": ("downwards", "down", "from top to bottom"),
}
"""How captions put a direction; the first is the plain way."""
WORDINGS = (
    "{thing} moving {way} on {background} background",
    "{thing} moving {way} on {bare}",
    "{thing} moving {way}, {bare} background",
    "{thing} moves {way} on {background} background",
    "{background} background with {thing} moving {way}",
    "a video of {thing} moving {way} on {background} background",
)

RADIUS = (0.18, 0.22)
"""Of the circle around the shape, from and to, as a fraction of the width."""
TRAVEL = (0.42, 0.48)
"""How far the shape goes in all, from and to, as a fraction of the width."""
TRACK_JITTER = 0.03
"""How far the middle of the track lies from the middle of the frame, at the most: on a track of its own in each clip,
no direction was learned in the time there is."""


@dataclass(frozen=True)
class MovingScene:
    """What a clip shows."""

    colour: str
    shape: str
    background: str
    direction: str


def random_moving_scene(rng: np.random.Generator, *, unseen: bool = False) -> MovingScene:
    """Return a scene whose colour, shape and background training never sees (`unseen`), or one that it may see."""
    triples = combinations(unseen=unseen)
    colour, shape, background = triples[int(rng.integers(len(triples)))]
    return MovingScene(colour, shape, background, list(DIRECTIONS)[int(rng.integers(len(DIRECTIONS)))])


def moving_scenes(count: int, rng: np.random.Generator) -> list[MovingScene]:
    """Return `count` scenes that training may see, each of them about equally often, in random order."""
    every = [MovingScene(*triple, direction) for triple in combinations(unseen=False) for direction in DIRECTIONS]
    order = [rng.permutation(len(every)) for _ in range(-(-count // len(every)))]
    return [every[int(number)] for number in np.concatenate(order)[:count]]


CHOICES: tuple[tuple[str, ...], ...] = (tuple(COLOURS), SHAPES, tuple(COLOURS), tuple(DIRECTIONS))
"""What a scene leaves open: colour, shape, background, direction."""
ANSWERS = [1 + len(choices) for choices in CHOICES]
"""To each question of `CHOICES`: one more, for nothing."""


def facts_of(scene: MovingScene) -> Facts:
    """Return the answer to each question of `CHOICES`."""
    said = (scene.colour, scene.shape, scene.background, scene.direction)
    return tuple(1 + choices.index(word) for word, choices in zip(said, CHOICES, strict=True))


def caption(scene: MovingScene, rng: np.random.Generator | None = None) -> str:
    """Say the scene: in one of several ways by `rng`, in the plain way without."""
    wording, way = (
        choices[0 if rng is None else int(rng.integers(len(choices)))] for choices in (WORDINGS, WAYS[scene.direction])
    )
    return wording.format(
        thing=_with_article(f"{scene.colour} {scene.shape}"),
        way=way,
        background=_with_article(scene.background),
        bare=scene.background,
    )


def _with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def moving_words() -> list[str]:
    """Return every word that the captions of clips and of pictures are made of, each once, sorted."""
    phrases = [*COLOURS, *SHAPES, "a", "an", *(way for ways in WAYS.values() for way in ways)]
    phrases += [wording.format(thing="", way="", background="", bare="").replace(",", "") for wording in WORDINGS]
    return sorted({*words(), *(word for phrase in phrases for word in phrase.split())})


def film(scene: MovingScene, rng: np.random.Generator, *, frames: int = FRAMES, pixels: int = PIXELS) -> Clip:
    """Draw the clip; the size of the shape, its track and its speed vary by `rng`."""
    figures = track(scene, rng, frames)
    return np.stack([paint([figure], scene.background, pixels) for figure in figures])


def track(scene: MovingScene, rng: np.random.Generator, frames: int) -> list[Figure]:
    """Return where the shape is in each frame: on a straight line, at an even speed, always inside the frame."""
    radius, travel = float(rng.uniform(*RADIUS)), float(rng.uniform(*TRAVEL))
    middle, across = (0.5 + float(rng.uniform(-TRACK_JITTER, TRACK_JITTER)) for _ in range(2))
    along = np.linspace(middle - travel / 2, middle + travel / 2, frames)
    step_x, step_y = DIRECTIONS[scene.direction]
    if step_x + step_y < 0:
        along = 1 - along
    return [
        Figure(scene.shape, scene.colour, *((float(at), across) if step_x else (across, float(at))), radius)
        for at in along
    ]
