"""See in the pixels of a clip alone which colour moves which way on which background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker.demo.videos.motion import DIRECTIONS, Clip
from gpu_worker.demo.world import COLOURS

DISTANCE_MIN = 70.0
"""From the background's colour, in red, green and blue from 0 to 255: less is an unclean background or an edge."""
SHARE_MIN = 0.004
"""Of a frame's pixels; less is not taken for a shape."""
TRAVEL_MIN = 0.06
"""Of the frame's width; what moved less in all stands still."""

PALETTE = np.array(list(COLOURS.values()), dtype=np.float64)


@dataclass(frozen=True)
class SeenMotion:
    """What a clip shows, as far as it can be seen; None where there is no shape, or where it stands still."""

    colour: str | None
    background: str
    direction: str | None


def measure(clip: Clip) -> SeenMotion:
    """Measure a clip of [frames, height, width, 3].

    The background is what most pixels look like, the shape all that is far from it. The direction is that of a straight
    line fitted to the shape's centre over time.
    """
    pixels = clip.astype(np.float64)
    background = nearest(np.median(pixels.reshape(-1, 3), axis=0))
    shape = np.linalg.norm(pixels - np.array(COLOURS[background]), axis=-1) > DISTANCE_MIN
    if shape.mean() < SHARE_MIN:
        return SeenMotion(None, background, None)
    colour = nearest(np.median(pixels[_core(shape)], axis=0), other_than=background)
    return SeenMotion(colour, background, _direction(shape))


def nearest(rgb: NDArray[np.float64], *, other_than: str | None = None) -> str:
    """Return the palette's nearest colour."""
    distances = np.linalg.norm(PALETTE - rgb, axis=-1)
    names = list(COLOURS)
    if other_than is not None:
        distances[names.index(other_than)] = np.inf
    return names[int(distances.argmin())]


def _core(shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels whose neighbours above, below, left and right are the shape's too; all of a very thin shape."""
    core = shape.copy()
    for axis in (1, 2):
        core &= np.roll(shape, 1, axis) & np.roll(shape, -1, axis)
    return core if core.any() else shape


def _direction(shape: NDArray[np.bool_]) -> str | None:
    """Return where the centre of these pixels goes, [frames, height, width]."""
    frames, height, width = shape.shape
    areas = shape.sum((1, 2))
    seen = np.flatnonzero(areas >= SHARE_MIN * height * width)
    if len(seen) < frames / 2:
        return None
    rows = (shape.sum(2) @ np.arange(height))[seen] / areas[seen] / height
    columns = (shape.sum(1) @ np.arange(width))[seen] / areas[seen] / width
    travel = np.array([np.polyfit(seen, places, 1)[0] for places in (columns, rows)]) * (frames - 1)
    if np.abs(travel).max() < TRAVEL_MIN:
        return None
    return max(DIRECTIONS, key=lambda name: float(np.dot(travel, DIRECTIONS[name])))
