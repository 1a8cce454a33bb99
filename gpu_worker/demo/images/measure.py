"""What a picture shows, by plain image analysis: the background, and the colour and shape of the thing on it."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpu_worker.demo.world import COLOURS, SHAPES, Figure, Pixels, paint

Mask = NDArray[np.bool_]

BORDER = 3
"""Pixels along each edge of the picture that no thing reaches."""
FIGURE_SHARE_MIN = 0.005
"""Of the picture: with fewer pixels unlike the background there is nothing on it."""
NOISE_SHARE = 0.15
"""Of the fullest row or column: rows and columns with fewer pixels of the thing are stray pixels outside it."""
TEMPLATE_PIXELS = 48


@dataclass(frozen=True)
class Seen:
    """What was found; colour and shape are None on an empty ground."""

    background: str
    colour: str | None
    shape: str | None


def look(picture: Pixels) -> Seen:
    """Analyse a picture of one thing on a ground."""
    nearest = nearest_colours(picture)
    names = list(COLOURS)
    background = _most(border(nearest))
    on_it = nearest[nearest != background]
    if on_it.size < FIGURE_SHARE_MIN * nearest.size:
        return Seen(names[background], None, None)
    colour = _most(on_it)
    mask = closer_to(picture, names[colour], names[background])
    return Seen(names[background], names[colour], nearest_shape(mask))


def nearest_colours(picture: Pixels) -> NDArray[np.int64]:
    """Return the number of the nearest colour for each pixel, in the order of `COLOURS`."""
    palette = np.array(list(COLOURS.values()), dtype=np.int64)
    distances = np.square(picture[:, :, None, :].astype(np.int64) - palette).sum(axis=-1)
    nearest: NDArray[np.int64] = distances.argmin(axis=-1)
    return nearest


def border(values: NDArray[np.int64]) -> NDArray[np.int64]:
    inner = np.zeros(values.shape, dtype=np.bool_)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return values[~inner]


def closer_to(picture: Pixels, colour: str, background: str) -> Mask:
    """Tell for each pixel whether it is more of the thing's colour than of the background's."""
    values = picture.astype(np.int64)
    to_thing, to_ground = (np.square(values - np.array(COLOURS[name])).sum(axis=-1) for name in (colour, background))
    closer: Mask = to_thing < to_ground
    return closer


def nearest_shape(mask: Mask) -> str | None:
    """Return the shape whose template overlaps most with the mask, both stretched to the same square."""
    if not mask.any():
        return None
    stretched = stretch(mask)
    overlaps = [(stretched & template).sum() / (stretched | template).sum() for template in templates()]
    return SHAPES[int(np.argmax(overlaps))]


@cache
def templates() -> list[Mask]:
    """Return each shape as `stretch` gives it."""
    drawn = [paint([Figure(shape, "black", 0.5, 0.5, 0.3)], "white", 128) for shape in SHAPES]
    return [stretch(closer_to(picture, "black", "white")) for picture in drawn]


def stretch(mask: Mask) -> Mask:
    """Cut out the box around what is in the mask, less stray pixels, and bring it to the size of the templates."""
    rows, columns = (_span(mask.sum(axis=axis)) for axis in (1, 0))
    box = Image.fromarray(mask[rows, columns].astype(np.uint8) * 255)
    size = (TEMPLATE_PIXELS, TEMPLATE_PIXELS)
    return np.asarray(box.resize(size, Image.Resampling.BILINEAR)) > 127


def _span(counts: NDArray[np.int64]) -> slice:
    full = np.flatnonzero(counts > NOISE_SHARE * counts.max())
    return slice(int(full[0]), int(full[-1]) + 1)


def _most(numbers: NDArray[np.int64]) -> int:
    return int(np.bincount(numbers.ravel()).argmax())
