"""When the frames of a video show: time stamps decide, not the number of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Final

COMMON_RATES: Final = tuple(
    Fraction(*each)
    for each in ((24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (48, 1), (50, 1), (60_000, 1001), (60, 1))
)

NEAR: Final = 0.02
"""Relative distance within which a measured rate counts as a common one."""

OFF_FRAMES_MAX: Final = 0.5
"""Frames by which time stamps may differ from a constant rate: containers round them, WebM to milliseconds."""

FPS_MAX: Final = 120.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The average rate in frames per second, and the total duration in seconds. `steady`: the rate is constant."""

    fps: float
    seconds: float
    steady: bool


def timing_of(times: Sequence[float], last_s: float, declared_fps: float) -> Timing:
    """The timing of frames: their times in seconds, in display order, and the duration of the last one (0: unknown).

    `declared_fps` is the file's declared rate, 0 for none. A constant rate near it counts as exactly that rate: time
    stamps are rounded, and a rate is not.
    """
    count = len(times)
    if count < 2:
        fps = declared_fps or (1 / last_s if last_s > 0 else 1.0)
        return Timing(fps, count / fps, steady=True)
    span = times[-1] - times[0]
    if span <= 0:
        return Timing(declared_fps or 1.0, count / (declared_fps or 1.0), steady=True)
    for fps in (declared_fps, (count - 1) / span):
        if fps > 0 and _keeps_beat(times, fps):
            return Timing(fps, count / fps, steady=True)
    shown_s = last_s if last_s > 0 else median(_gaps(times))
    return Timing(count / (span + shown_s), span + shown_s, steady=False)


def beat_of(times: Sequence[float]) -> float:
    """The rate, in frames per second, at which a video of variable rate is shown: that of most of its frames."""
    fps = min(FPS_MAX, 1 / median(gap for gap in _gaps(times) if gap > 0))
    near = min(COMMON_RATES, key=lambda rate: abs(float(rate) - fps))
    return float(near) if abs(float(near) - fps) <= NEAR * fps else fps


def shown_at_beat(times: Sequence[float], seconds: float, fps: float) -> list[int]:
    """The frame shown at each step: the last one that has begun."""
    places: list[int] = []
    place = 0
    for beat in range(max(1, round(seconds * fps))):
        until = times[0] + (beat + 0.5) / fps
        while place + 1 < len(times) and times[place + 1] < until:
            place += 1
        places.append(place)
    return places


def _gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _keeps_beat(times: Sequence[float], fps: float) -> bool:
    return all(abs((time - times[0]) * fps - place) <= OFF_FRAMES_MAX for place, time in enumerate(times))
