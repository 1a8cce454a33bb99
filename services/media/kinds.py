"""What a file turned out to be, how much of anything is read, and the one error of files that are not."""

from dataclasses import dataclass
from typing import Final, Literal

from domain.warning_codes import WarningCode

PIXELS_MAX: Final = 8192 * 8192
"""Pixels of one picture; more is a mistake, or meant to fill the memory."""

FRAME_PIXELS_MAX: Final = 4096 * 2304
"""Pixels of one frame of a video as it is shown: 4K. Many frames are held at a time."""

SECONDS_MAX: Final = 600.0

FRAMES_MAX: Final = 36_000
"""Ten minutes at 60 frames a second, the most that a video of tiny frames may have."""

VIDEO_PIXELS_MAX: Final = 40_000_000_000
"""Pixels of all frames of a video, ten minutes of 1080p at 30 frames a second: a few minutes of decoding."""

VIDEO_BYTES_MAX: Final = 2 * 1024**3
"""Bytes of the frames of a video that are held at a time, in RGB."""

SOUND_BYTES_MAX: Final = 512 * 1024**2
"""Bytes of the samples of a video's sound: ten minutes of six channels take more."""


class UnreadableMedia(Exception):
    """The bytes are no picture, video or sound that is read here, are cut off or damaged, or are too large."""

    code = "media_unreadable"


@dataclass(frozen=True, slots=True)
class Loss:
    """What of a file is not read as it says, though the file is read. `detail` is a sentence without its subject."""

    code: WarningCode
    detail: str


@dataclass(frozen=True, slots=True)
class Media:
    """What a file turned out to be, as it is shown. Pixels, frames a second, seconds; None where it has no such thing.

    `pixels_sha256` is of what it shows, computed from the file alone, however it was compressed. A picture's is that of
    its size and RGB. A video's is that of the planes of its decoded frames, which H.264 defines to the bit, as it does
    not their conversion to RGB; None for the rare formats of pixels that are not read here.
    """

    kind: Literal["image", "video", "audio"]
    media_type: str
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    pixels_sha256: str | None = None


def too_large(what: str, pixels_max: int) -> str:
    """The sentence for more pixels than are read."""
    return f"{what} is too large: {pixels_max} pixels are the most."


def one_line(error: BaseException) -> str:
    """What a library says, as the end of a sentence."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200].rstrip(".")
