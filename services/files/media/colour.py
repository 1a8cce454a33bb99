"""Converts the colours that files describe to sRGB, which models and screens expect.

Profiles of pictures go through LittleCMS. The code points of videos, AVIF and PNG (ITU-T H.273), and the gamma and
chromaticities of a PNG, are computed here: to linear light, to the primaries of sRGB, and back to its curve. Light
brighter than paper white is rolled off as in ITU-R BT.2390, with 203 nits for white as in ITU-R BT.2408.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""

D65: Final = (0.3127, 0.3290)

SRGB: Final = 1
"""The code point of BT.709's primaries, which are those of sRGB."""

PRIMARIES: Final[dict[int, Chromaticities]] = {
    SRGB: (*D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (0.310, 0.316, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080),  # BT.470 M
    5: (*D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),  # BT.601, 625 lines
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),  # BT.601, 525 lines
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),  # SMPTE 240M
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),  # EBU 3213
}
"""Primaries by code point; any other is treated as sRGB's, as browsers do."""

GAMMAS: Final = {4: 2.2, 5: 2.8, 8: 1.0}
"""Power curves by code point; those of BT.709, BT.601 and sRGB are shown with sRGB's curve."""

PQ: Final = 16
HLG: Final = 18

WHITE_NITS: Final = 203.0
"""Paper white of high dynamic range, in nits; ITU-R BT.2408."""

HLG_PEAK_NITS: Final = 1000.0
HLG_SYSTEM_GAMMA: Final = 1.2
"""Exponent from scene light to light of a display with this peak, per component, as in zimg."""

KNEE: Final = 0.75
"""Linear light up to this value is unchanged; above it is rolled off towards white."""

BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""Chromatic adaptation between white points; the matrix of ICC profiles."""

ROWS_PIXELS: Final = 1024 * 1024
"""Pixels converted at a time: a dozen bytes each, temporarily."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture encodes colours: chromaticities, and a curve, by code point or as the exponent of a power."""

    primaries: Chromaticities = PRIMARIES[SRGB]
    transfer: int = SRGB
    gamma: float | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether no conversion is needed."""
        return self == Encoding()


def encoding_of(primaries: int, transfer: int) -> Encoding:
    """The encoding of two code points; unknown ones mean sRGB."""
    known = transfer if transfer in {PQ, HLG} else SRGB
    return Encoding(PRIMARIES.get(primaries, PRIMARIES[SRGB]), known, GAMMAS.get(transfer))


def to_srgb(pixels: NDArray[Any], encoding: Encoding) -> NDArray[np.uint8]:
    """Convert pixels of 8 or 16 bits, [height, width, 3], to 8-bit sRGB, a few rows at a time to save memory."""
    made = np.empty(pixels.shape, dtype=np.uint8)
    linear_of = _curve(encoding.transfer, encoding.gamma, np.iinfo(pixels.dtype).max + 1)
    matrix = _matrix(encoding.primaries)
    step = max(1, ROWS_PIXELS // max(1, pixels.shape[1]))
    for row in range(0, len(pixels), step):
        light = linear_of[pixels[row : row + step]]
        if encoding.primaries != PRIMARIES[SRGB]:
            light = light @ matrix
        if encoding.transfer in {PQ, HLG}:
            light = _rolled_off(light)
        steps = np.clip(light, 0, 1) * np.float32(ENCODED.size - 1)
        made[row : row + step] = ENCODED[(steps + np.float32(0.5)).astype(np.uint16)]
    return made


def _srgb_curve(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055))


ENCODED: Final = np.rint(255 * _srgb_curve(np.linspace(0, 1, 65_536))).astype(np.uint8)
"""8-bit sRGB for linear light in steps of 1/65535."""


@lru_cache(maxsize=8)
def _curve(transfer: int, gamma: float | None, size: int) -> NDArray[np.float32]:
    """Linear light for each value; 1 is white."""
    value = np.linspace(0, 1, size)
    if gamma is not None:
        light = value**gamma
    elif transfer == PQ:  # SMPTE ST 2084
        power = value ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        light = light ** (1 / 0.1593017578125) * (10_000 / WHITE_NITS)
    elif transfer == HLG:  # ARIB STD-B67
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        light = scene**HLG_SYSTEM_GAMMA * (HLG_PEAK_NITS / WHITE_NITS)
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def _rolled_off(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours keep their hue: all three components are scaled like the brightest one."""
    peak = np.maximum(light.max(axis=-1, keepdims=True), np.float32(1e-6))
    over = np.maximum(peak - KNEE, 0) / (1 - KNEE)
    shown = np.where(over > 0, KNEE + (1 - KNEE) * (1 - np.exp(-over)), peak)
    return np.asarray(light * (shown / peak), dtype=np.float32)


@lru_cache(maxsize=8)
def _matrix(primaries: Chromaticities) -> NDArray[np.float32]:
    """The matrix from linear light of these primaries to that of sRGB; for row vectors."""
    to_xyz, white = _to_xyz(primaries)
    srgb_to_xyz, srgb_white = _to_xyz(PRIMARIES[SRGB])
    cones = (BRADFORD @ srgb_white) / (BRADFORD @ white)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD
    return np.asarray((np.linalg.inv(srgb_to_xyz) @ adapted @ to_xyz).T, dtype=np.float32)


def _to_xyz(primaries: Chromaticities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix from linear light to XYZ, and the white point.

    Raises `ValueError` if the primaries form no triangle.
    """
    points = np.array(primaries, dtype=np.float64).reshape(4, 2)
    if np.any(points[:, 1] <= 0):
        raise ValueError("chromaticities need a y above zero")
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]])
    white, columns = xyz[:, 0], xyz[:, 1:]
    try:
        return columns * np.linalg.solve(columns, white), white
    except np.linalg.LinAlgError:
        raise ValueError("chromaticities that lie on a line") from None
