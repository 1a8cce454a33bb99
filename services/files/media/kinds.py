"""What decoding a file found, how much is read at most, and the error of unreadable files."""

from dataclasses import dataclass
from typing import Final, Literal

from domain.warning_codes import WarningCode

PIXELS_MAX: Final = 8192 * 8192
"""Maximum pixels of a picture; more is a mistake, or an attempt to fill the memory."""

FRAME_PIXELS_MAX: Final = 4096 * 2304
"""Maximum pixels of a video frame as it is shown: 4K. Many frames are held at a time."""

SECONDS_MAX: Final = 600.0

FRAMES_MAX: Final = 36_000
"""Maximum frames of a video: ten minutes at 60 frames per second, if frames are tiny."""

VIDEO_PIXELS_MAX: Final = 40_000_000_000
"""Maximum pixels of all frames of a video, ten minutes of 1080p at 30 frames per second: a few minutes of decoding."""

VIDEO_BYTES_MAX: Final = 2 * 1024**3
"""Maximum bytes of the frames of a video that are held at a time, in RGB."""

SOUND_BYTES_MAX: Final = 512 * 1024**2
"""Maximum bytes of the samples of a video's sound: ten minutes of six channels take more."""


class UnreadableMedia(Exception):
    """The bytes are no supported picture, video or sound, are cut off or damaged, or are too large."""

    code = "media_unreadable"


@dataclass(frozen=True, slots=True)
class Loss:
    """A part of a file that is ignored, though the file is read. `detail` is a sentence without its subject."""

    code: WarningCode
    detail: str


@dataclass(frozen=True, slots=True)
class Media:
    """What a file shows. In pixels, frames per second and seconds; None if it does not apply.

    `pixels_sha256` is computed from the decoded file alone, so it does not depend on the compression. A picture's
    covers its size and RGB. A video's covers the planes of its decoded frames: H.264 defines them to the bit, but not
    their conversion to RGB; None for rare pixel formats that are not supported.
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
    """The message for more pixels than are read."""
    return f"{what} is too large: {pixels_max} pixels are the most."


def reason_of(error: BaseException) -> str:
    """A library's message, as the end of a sentence."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200].rstrip(".")


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """A WebP; width and height in pixels."""

    content: bytes
    width: int
    height: int
