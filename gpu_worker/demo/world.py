"""The world that the demo models draw: flat shapes on a flat background, and their captions.

Pure: the same scene and the same state of the generator give the same caption and the same pixels.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Choice = TypeVar("Choice")
Rgb = tuple[int, int, int]
Pixels = NDArray[np.uint8]
"""[height, width, 3], red, green, blue."""
Relation = Literal["left of", "right of", "above", "below"]

COLOURS: dict[str, Rgb] = {
    "red": (220, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 230, 50),
    "green": (25, 150, 60),
    "blue": (35, 80, 220),
    "purple": (140, 40, 170),
    "white": (250, 250, 250),
    "black": (12, 12, 12),
}
"""Colours of shapes and backgrounds; far enough apart to be recognised by the nearest."""
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
SIZES = ("small", "medium", "large")
"""Sizes; captions do not mention medium."""
PLACES: dict[str, tuple[float, float]] = {
    "left": (0.24, 0.5),
    "right": (0.76, 0.5),
    "top": (0.5, 0.24),
    "bottom": (0.5, 0.76),
    "centre": (0.5, 0.5),
}
"""Centres as fractions of width and height, y downwards."""
COUNTS = {1: "one", 2: "two", 3: "three"}
RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")

RADIUS_ALONE = {"small": 0.15, "medium": 0.22, "large": 0.32}
"""Radius of the circle around the shape, as a fraction of the picture's width."""
RADIUS_AMONG_OTHERS = {"small": 0.11, "medium": 0.16, "large": 0.21}
RADIUS_JITTER = 0.08
PLACE_JITTER = 0.025
PLACE_JITTER_UNSAID = 0.1
MARGIN = 0.03
SUPERSAMPLING = 4
"""Each pixel is the mean of this many by this many samples, for smooth edges."""

UNSAID_BACKGROUND = "white"

Wordings = dict[str, tuple[str, ...]]
SIZE_WORDS: Wordings = {"small": ("small", "small", "tiny"), "medium": ("",), "large": ("large", "large", "big")}
PLACE_WORDS: Wordings = {
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "centre": ("in the centre", "in the center", "in the middle"),
}
SINGLE_WORDINGS = (
    "{thing} {place} on {background} background",
    "{thing} on {background} background {place}",
    "{thing} {place} on {bare}",
    "{thing} {place}, {bare} background",
    "a picture of {thing} {place} on {background} background",
    "{background} background with {thing} {place}",
)
"""Wordings of a caption; the first is the plain one."""


@dataclass(frozen=True)
class Thing:
    """The description of one shape."""

    shape: str
    colour: str
    size: str = "medium"


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a thing `count` times, or a thing and its relation to another one."""

    thing: Thing
    background: str
    place: str | None = None
    """None: not mentioned, near the centre."""
    count: int = 1
    relation: Relation | None = None
    other: Thing | None = None

    def triples(self) -> tuple[tuple[str, str, str], ...]:
        """Return the combinations of colour, shape and background in this scene."""
        things = (self.thing, self.other) if self.other else (self.thing,)
        return tuple((thing.colour, thing.shape, self.background) for thing in things)


@dataclass(frozen=True)
class Figure:
    """One shape on the canvas; centre and radius as fractions of the width, y downwards."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


def held_out(colour: str, shape: str, background: str) -> bool:
    """Return whether training never sees this combination.

    A Latin-square rule holds one in seven out, so that training sees each pair of two of the three with other thirds.
    """
    colours = list(COLOURS)
    return (colours.index(colour) + 2 * SHAPES.index(shape) + 3 * colours.index(background)) % 7 == 0


def combinations(*, unseen: bool) -> list[tuple[str, str, str]]:
    """Return every (colour, shape, background) that is held out, or every one that is not."""
    return [
        (colour, shape, background)
        for colour, shape, background in product(COLOURS, SHAPES, COLOURS)
        if colour != background and held_out(colour, shape, background) == unseen
    ]


def random_scene(rng: np.random.Generator, *, unseen: bool = False, single: float = 0.7) -> Scene:
    """Return a scene with only held-out combinations (`unseen`) or none of them; a share `single` shows one shape."""
    while True:
        scene = _any_scene(rng, single)
        colours = {colour for colour, _, _ in scene.triples()}
        if scene.background not in colours and all(held_out(*triple) == unseen for triple in scene.triples()):
            return scene


def _any_scene(rng: np.random.Generator, single: float) -> Scene:
    background = _pick(rng, tuple(COLOURS))
    thing = _any_thing(rng)
    if rng.random() < single:
        place = _pick(rng, tuple(PLACES)) if rng.random() < 0.5 else None
        return Scene(thing, background, place)
    if rng.random() < 0.5:
        return Scene(thing, background, count=int(rng.integers(2, 4)))
    return Scene(thing, background, relation=_pick(rng, RELATIONS), other=_any_thing(rng))


def _any_thing(rng: np.random.Generator) -> Thing:
    return Thing(_pick(rng, SHAPES), _pick(rng, tuple(COLOURS)), _pick(rng, SIZES))


def _pick(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Describe the scene: in one of several ways by `rng`, in the plain way without."""
    thing = _naming(scene.thing, scene.count, rng)
    background = {"background": _with_article(scene.background), "bare": scene.background}
    if scene.other is not None:
        other = _naming(scene.other, 1, rng)
        # A bare "and" also describes two shapes next to each other.
        joint = "and" if scene.relation == "left of" and rng is not None and rng.random() < 0.3 else scene.relation
        thing = f"{thing} {joint} {other}"
    place = _word(PLACE_WORDS[scene.place], rng) if scene.place else ""
    if scene.background == UNSAID_BACKGROUND and rng is not None and rng.random() < 0.4:
        return f"{thing} {place}".strip()
    text = _word(SINGLE_WORDINGS, rng).format(thing=thing, place=place, **background)
    return " ".join(text.split()).replace(" ,", ",")


def _naming(thing: Thing, count: int, rng: np.random.Generator | None) -> str:
    words = f"{_word(SIZE_WORDS[thing.size], rng)} {thing.colour} {thing.shape}".strip()
    return _with_article(words) if count == 1 else f"{COUNTS[count]} {words}s"


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _word(choices: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return choices[0] if rng is None else _pick(rng, choices)


def words() -> list[str]:
    """Return every word of the captions, each once, sorted."""
    said = [*COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *COUNTS.values(), *RELATIONS, "a", "an", "and", ","]
    for wordings in (*SIZE_WORDS.values(), *PLACE_WORDS.values()):
        said += wordings
    said += [wording.format(thing="", place="", background="", bare="").replace(",", "") for wording in SINGLE_WORDINGS]
    return sorted({word for phrase in said for word in phrase.split()})


def draw(scene: Scene, pixels: int, rng: np.random.Generator) -> Pixels:
    """Draw the scene as a square of `pixels`; `rng` varies exact places and sizes a little."""
    return paint(arrange(scene, rng), scene.background, pixels)


def arrange(scene: Scene, rng: np.random.Generator) -> list[Figure]:
    """Return where each shape lies; none overlap and none leave the picture."""
    if scene.other is not None:
        near, far = (0.26, 0.5), (0.74, 0.5)
        if scene.relation in {"above", "below"}:
            near, far = (0.5, 0.26), (0.5, 0.74)
        first, second = (near, far) if scene.relation in {"left of", "above"} else (far, near)
        return [_figure(scene.thing, first, True, rng), _figure(scene.other, second, True, rng)]
    if scene.count == 2:
        return [_figure(scene.thing, spot, True, rng) for spot in ((0.26, 0.5), (0.74, 0.5))]
    if scene.count == 3:
        return [_figure(scene.thing, spot, True, rng) for spot in ((0.5, 0.27), (0.26, 0.72), (0.74, 0.72))]
    if scene.place is None:
        return [_figure(scene.thing, (0.5, 0.5), False, rng, PLACE_JITTER_UNSAID)]
    return [_figure(scene.thing, PLACES[scene.place], False, rng)]


def _figure(
    thing: Thing, spot: tuple[float, float], among: bool, rng: np.random.Generator, jitter: float = PLACE_JITTER
) -> Figure:
    radius = (RADIUS_AMONG_OTHERS if among else RADIUS_ALONE)[thing.size]
    radius *= 1 + RADIUS_JITTER * float(rng.uniform(-1, 1))
    x, y = (min(max(at + jitter * float(rng.uniform(-1, 1)), radius + MARGIN), 1 - radius - MARGIN) for at in spot)
    return Figure(thing.shape, thing.colour, x, y, radius)


def paint(figures: list[Figure], background: str, pixels: int) -> Pixels:
    """Draw figures, later ones on top, on a square of `pixels` with smooth edges."""
    side = pixels * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side), COLOURS[background])
    brush = ImageDraw.Draw(canvas)
    for figure in figures:
        x, y, radius = figure.x * side, figure.y * side, figure.radius * side
        fill = COLOURS[figure.colour]
        if figure.shape in {"circle", "ring"}:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        if figure.shape == "ring":
            hole = radius * 0.55
            brush.ellipse((x - hole, y - hole, x + hole, y + hole), fill=COLOURS[background])
        if figure.shape not in {"circle", "ring"}:
            brush.polygon([(x + radius * dx, y + radius * dy) for dx, dy in outline(figure.shape)], fill=fill)
    small = canvas.resize((pixels, pixels), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a shape, within about a unit circle, y downwards. Curves become many corners."""
    match shape:
        case "square":
            return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
        case "triangle":
            return [(0, -0.9), (0.95, 0.8), (-0.95, 0.8)]
        case "star":
            turns = [(math.pi * corner / 5, 1.0 if corner % 2 == 0 else 0.42) for corner in range(10)]
            return [(length * math.sin(turn), -length * math.cos(turn) + 0.05) for turn, length in turns]
        case "heart":
            # The well-known heart curve, 16 units wide to each side; its middle lies 2.5 units above its centre.
            turns_around = [2 * math.pi * step / 72 for step in range(72)]
            return [(math.sin(t) ** 3 * 0.95, -(_heart_height(t) + 2.5) / 17) for t in turns_around]
        case _:
            raise ValueError(f"There is no outline of a {shape}; shapes are {', '.join(SHAPES)}.")


def _heart_height(turn: float) -> float:
    return 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)
