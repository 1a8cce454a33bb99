"""Pictures, videos and sounds as bytes: what they are is decided by decoding them, never by a name or a header."""

import io
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

IMAGE_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""What is read as a picture: Pillow's name of a format, and its media type."""

VIDEO_TYPES: Final = {"mov,mp4,m4a,3gp,3g2,mj2": "video/mp4", "matroska,webm": "video/webm"}
AUDIO_TYPES: Final = {
    "mov,mp4,m4a,3gp,3g2,mj2": "audio/mp4",
    "matroska,webm": "audio/webm",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
}
"""FFmpeg's name of a container, and its media type."""

PIXELS_MAX: Final = 8192 * 8192
"""Of one picture or frame; more is a mistake, or meant to fill the memory."""

SECONDS_MAX: Final = 600.0


class UnreadableMedia(Exception):
    """The bytes are no picture, video or sound that is read here, are cut off or damaged, or are too large."""

    code = "media_unreadable"


@dataclass(frozen=True, slots=True)
class Media:
    """What a file turned out to be. Pixels, frames a second, seconds; None where it has no such thing."""

    kind: Literal["image", "video", "audio"]
    media_type: str
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None


def probe(content: bytes) -> Media:
    """Decode a file to its end and say what it is. Raises `UnreadableMedia`."""
    opened = _open_image(content)
    if opened is not None:
        image, media_type = opened
        return Media("image", media_type, image.width, image.height)
    return _probe_stream(content)


def read_image(content: bytes) -> Image.Image:
    """Return the picture in RGB, upright as its camera held it. Raises `UnreadableMedia`."""
    opened = _open_image(content)
    if opened is None:
        raise UnreadableMedia(f"These {len(content)} bytes are no PNG, JPEG or WebP picture.")
    return opened[0]


def read_video(content: bytes, *, frames_max: int) -> tuple[NDArray[np.uint8], float]:
    """Return frames, [frames, height, width, 3], and frames a second. Raises `UnreadableMedia`, also for too many."""
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(io.BytesIO(content), "r") as container:
            if not container.streams.video:
                raise UnreadableMedia("The file holds no video.")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or 0)
            for frame in container.decode(stream):
                _refuse_pixels(frame.width, frame.height)
                if len(frames) == frames_max:
                    raise UnreadableMedia(f"The video has more than {frames_max} frames.")
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableMedia(f"The video cannot be decoded: {_one_line(error)}") from None
    if not frames or not fps:
        raise UnreadableMedia("The video has no frames.")
    return np.stack(frames), fps


def read_frame(content: bytes) -> Image.Image:
    """Return the frame of a video that shows after a quarter of its length, in RGB. Raises `UnreadableMedia`.

    Decodes from the key frame before it and no further; a file cut off before it gives the last frame that there is.
    """
    shown = None
    try:
        with av.open(io.BytesIO(content), "r") as container:
            if container.format.name not in VIDEO_TYPES or not container.streams.video:
                raise UnreadableMedia("The file is no MP4 or WebM video.")
            stream = container.streams.video[0]
            _refuse_pixels(stream.width, stream.height)
            wanted = _a_quarter_in(container, stream)
            container.seek(wanted, stream=stream)
            for frame in container.decode(stream):
                _refuse_pixels(frame.width, frame.height)
                if shown is not None and (frame.pts is None or frame.pts > wanted):
                    break
                shown = frame
            if shown is None:
                raise UnreadableMedia("The video has no frames.")
            return Image.fromarray(np.asarray(shown.to_ndarray(format="rgb24"), dtype=np.uint8))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableMedia(f"The video cannot be decoded: {_one_line(error)}") from None


def read_origin(content: bytes) -> dict[str, str]:
    """Return what the file says of where it comes from; empty for one that says nothing. Raises `UnreadableMedia`."""
    if content.startswith(b"\x89PNG"):
        try:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                image.load()
                text: dict[str, Any] = getattr(image, "text", {})
                return {key: str(value) for key, value in text.items()}
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableMedia(f"The picture cannot be read: {_one_line(error)}") from None
    try:
        with av.open(io.BytesIO(content), "r") as container:
            return dict(container.metadata)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableMedia(f"The file cannot be read: {_one_line(error)}") from None


def _open_image(content: bytes) -> tuple[Image.Image, str] | None:
    """The picture and its media type; None when it is no picture at all. Raises `UnreadableMedia` for a broken one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours, below
            image = Image.open(io.BytesIO(content), formats=list(IMAGE_TYPES))
    except Image.DecompressionBombError:
        raise UnreadableMedia(_too_large("a picture")) from None
    except (OSError, SyntaxError, ValueError):
        return None
    try:
        with image:
            _refuse_pixels(image.width, image.height)
            media_type = IMAGE_TYPES[str(image.format)]
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _in_rgb(upright), media_type
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableMedia(f"The picture is cut off or damaged: {_one_line(error)}") from None


def _in_rgb(image: Image.Image) -> Image.Image:
    """What is transparent becomes white, as on paper: the colours hidden in it are no part of the picture."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")


def _a_quarter_in(container: Any, stream: Any) -> int:
    """In the stream's time base; its beginning where the file does not say how long it is."""
    start = int(stream.start_time or 0)
    if stream.duration:
        return start + int(stream.duration) // 4
    if container.duration:
        return start + int(container.duration / av.time_base / stream.time_base) // 4
    return start


def _probe_stream(content: bytes) -> Media:
    try:
        with av.open(io.BytesIO(content), "r") as container:
            name = container.format.name
            if container.streams.video and name in VIDEO_TYPES:
                return _probe_video(container, VIDEO_TYPES[name])
            if container.streams.audio and name in AUDIO_TYPES:
                return _probe_audio(container, AUDIO_TYPES[name])
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UnreadableMedia(f"The file is no picture, video or sound, or is damaged: {_one_line(error)}") from None
    allowed = "PNG, JPEG, WebP, MP4, WebM, WAV, MP3, FLAC, Ogg"
    raise UnreadableMedia(f"The file is none of the formats that are read here: {allowed}.")


def _probe_video(container: Any, media_type: str) -> Media:
    stream = container.streams.video[0]
    fps = float(stream.average_rate or 0)
    frames = 0
    for frame in container.decode(stream):
        _refuse_pixels(frame.width, frame.height)
        frames += 1
        if fps and frames / fps > SECONDS_MAX:
            raise UnreadableMedia(f"The video is longer than {SECONDS_MAX:g} s.")
    if not frames or not fps:
        raise UnreadableMedia("The video has no frames.")
    return Media("video", media_type, stream.width, stream.height, frames, fps, round(frames / fps, 3))


def _probe_audio(container: Any, media_type: str) -> Media:
    stream = container.streams.audio[0]
    samples = 0
    for frame in container.decode(stream):
        samples += frame.samples
        if samples / frame.sample_rate > SECONDS_MAX:
            raise UnreadableMedia(f"The sound is longer than {SECONDS_MAX:g} s.")
    if not samples:
        raise UnreadableMedia("The sound is empty.")
    return Media("audio", media_type, duration_s=round(samples / stream.rate, 3))


def _refuse_pixels(width: int, height: int) -> None:
    if width * height > PIXELS_MAX:
        raise UnreadableMedia(_too_large(f"{width} x {height}"))


def _too_large(what: str) -> str:
    return f"{what[0].upper()}{what[1:]} is too large: {PIXELS_MAX} pixels are the most."


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
