"""A frame of a video as a player shows it: upright, with square pixels, in sRGB."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from services.files.media.apertures import Aperture, video_aperture
from services.files.media.colour import HLG, PQ, encoding_of, to_srgb
from services.files.media.formats import Format
from services.files.media.kinds import FRAME_PIXELS_MAX, UnreadableMedia, too_large

EXACTLY: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Flags of swscale: round instead of truncating; otherwise a video would get darker with each continuation."""

SDR_WIDTH, SDR_HEIGHT = 1280, 577
"""Minimum size from which a video without a named matrix is treated as BT.709, below as BT.601, as players do."""

MATRICES: Final = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
"""swscale's name of a matrix, by code point of H.273."""

RGB_MATRIX: Final = 0
UNKNOWN: Final = frozenset({2, 3})
"""Code points of a matrix that the file does not name."""


@dataclass(frozen=True, slots=True)
class Display:
    """A container's settings for all frames: the pixel aspect ratio, width by height, and the part that is shown."""

    aspect: Fraction | None
    aperture: Aperture | None

    @classmethod
    def of(cls, stream: Any, content: bytes, found: Format) -> Self:
        """The settings of a video stream. Raises `UnreadableMedia`."""
        context = stream.codec_context  # None for an unsupported codec, which `decoded` reports
        size = (0, 0) if context is None else (context.width, context.height)
        return cls(stream.sample_aspect_ratio, video_aperture(content, found, size))


@dataclass(frozen=True, slots=True)
class Geometry:
    """How decoded pixels become shown ones: stretched to width and height, cut to the part that is shown, then turned.

    Turned: rows and columns are exchanged if `is_lying`, then mirrored left to right and top to bottom.
    """

    width: int
    height: int
    part: Aperture
    is_lying: bool
    mirrored_x: bool
    mirrored_y: bool

    @classmethod
    def of(cls, frame: Any, display: Display) -> Self:
        """The geometry of a frame. Raises `UnreadableMedia` if it is too large."""
        width, height, aspect = frame.width, frame.height, display.aspect
        if aspect and aspect > 1:
            width = round(width * aspect)
        elif aspect and aspect > 0:
            height = round(height / aspect)
        if width * height > FRAME_PIXELS_MAX:
            raise UnreadableMedia(too_large(f"A frame of {width} x {height}", FRAME_PIXELS_MAX))
        part = (display.aperture or Aperture(0, 0, frame.width, frame.height)).scaled(
            Fraction(width, frame.width), Fraction(height, frame.height)
        )
        across, down, aslant, along = _matrix_of(frame)  # x' = across x + aslant y; y' = down x + along y
        if abs(across) + abs(along) >= abs(down) + abs(aslant):
            return cls(width, height, part, is_lying=False, mirrored_x=across < 0, mirrored_y=along < 0)
        return cls(width, height, part, is_lying=True, mirrored_x=aslant < 0, mirrored_y=down < 0)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as they are shown."""
        width, height = self.part.width, self.part.height
        return (height, width) if self.is_lying else (width, height)

    def turned(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part that is shown, upright."""
        part = self.part
        pixels = pixels[part.top : part.top + part.height, part.left : part.left + part.width]
        if self.is_lying:
            pixels = pixels.swapaxes(0, 1)
        if self.mirrored_x:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels[::-1] if self.mirrored_y else pixels)


def shown_frame(frame: Any, display: Display) -> NDArray[np.uint8]:
    """The pixels of a frame, [height, width, 3] in sRGB. Raises `UnreadableMedia`."""
    geometry = Geometry.of(frame, display)
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    is_bright = transfer in {PQ, HLG}
    pixels = np.asarray(
        frame.to_ndarray(
            format="rgb48le" if is_bright else "rgb24",
            width=geometry.width,
            height=geometry.height,
            interpolation=EXACTLY,
            src_colorspace=_matrix_name(frame),
            src_color_range=frame.color_range or _usual_range(frame),
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
    )
    encoding = encoding_of(primaries, transfer)
    return geometry.turned(pixels if encoding.is_srgb else to_srgb(pixels, encoding))


def _matrix_of(frame: Any) -> tuple[int, int, int, int]:
    found = frame.side_data.get(Type.DISPLAYMATRIX)
    if found is None or len(bytes(found)) < 36:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(found), dtype=np.int32, count=9)
    across, down, aslant, along = (int(numbers[at]) for at in (0, 1, 3, 4))
    return across, down, aslant, along


def _matrix_name(frame: Any) -> int:
    matrix = int(frame.colorspace)
    if matrix in UNKNOWN:
        is_large = frame.width >= SDR_WIDTH or frame.height >= SDR_HEIGHT
        return Colorspace.ITU709 if is_large else Colorspace.ITU601
    if matrix == RGB_MATRIX:
        return RGB_MATRIX
    if matrix not in MATRICES:
        raise UnreadableMedia(
            f"The video's colours are kept in a way that is not read here (matrix {matrix} of H.273)."
        )
    return MATRICES[matrix]


def _usual_range(frame: Any) -> int:
    name = frame.format.name
    return ColorRange.JPEG if name.startswith(("yuvj", "gbr", "rgb", "bgr", "gray")) else ColorRange.MPEG
