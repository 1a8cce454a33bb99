"""Pictures, videos and sounds as bytes: what they are is decided by decoding them, never by a name or a header.

Whoever brings a file may mean harm. FFmpeg gets the formats below alone, and never follows what a file refers to: its
playlist formats would open files of this machine and addresses of its network. Sizes, lengths and the work of decoding
are bounded before anything is decoded, and again while it is.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image, ImageOps

IMAGE_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""What is read as a picture: Pillow's name of a format, and its media type."""

ISO: Final = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA: Final = "matroska,webm"
VIDEO_TYPES: Final = {ISO: "video/mp4", MATROSKA: "video/webm"}
AUDIO_TYPES: Final = {
    ISO: "audio/mp4",
    MATROSKA: "audio/webm",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
}
"""FFmpeg's name of a container, and its media type."""

QUICKTIME: Final = "video/quicktime"
"""The type of an ISO container that calls itself QuickTime, as telephones make them."""

ALLOWED: Final = "PNG, JPEG, WebP, MP4, MOV, WebM, WAV, MP3, FLAC, Ogg"
DEMUXERS: Final = {"format_whitelist": ",".join(AUDIO_TYPES), "protocol_whitelist": "none"}

PIXELS_MAX: Final = 8192 * 8192
"""Of one picture; more is a mistake, or meant to fill the memory."""

FRAME_PIXELS_MAX: Final = 4096 * 2304
"""Of one frame of a video: 4K. Many frames are held at a time."""

SECONDS_MAX: Final = 600.0

FRAMES_MAX: Final = 36_000
"""Ten minutes at 60 frames a second, the most that a video of tiny frames may have."""

VIDEO_PIXELS_MAX: Final = 40_000_000_000
"""Of all frames of a video together, ten minutes of 1080p at 30 frames a second: a few minutes of decoding."""

CUT_OFF_SHARE: Final = 0.95
CUT_OFF_S: Final = 0.1
"""A file that ends so far before the end that it announces is cut off; containers round, and encoders pad."""

UNANNOUNCED: Final = frozenset({"mp3", "ogg", "wav"})
"""Containers whose length FFmpeg takes from the size of the file: any beginning of one is a whole, shorter sound."""

EXACTLY: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""How colours become others: rounded, not cut off, or a video would darken each time that it goes on."""

PICTURE_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff")


class UnreadableMedia(Exception):
    """The bytes are no picture, video or sound that is read here, are cut off or damaged, or are too large."""

    code = "media_unreadable"


@dataclass(frozen=True, slots=True)
class Media:
    """What a file turned out to be. Pixels, frames a second, seconds; None where it has no such thing.

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


def probe(content: bytes) -> Media:
    """Decode a file to its end and say what it is; width and height are upright. Raises `UnreadableMedia`."""
    picture = _picture(content)
    if picture is not None:
        image, media_type = picture
        return Media("image", media_type, image.width, image.height, pixels_sha256=picture_sha256(_in_rgb(image)))
    with _opened(content) as container:
        name = container.format.name
        video = _video_of(container)
        if video is not None and name in VIDEO_TYPES:
            is_quicktime = name == ISO and container.metadata.get("major_brand", "qt").startswith("qt")
            return _probe_video(container, video, QUICKTIME if is_quicktime else VIDEO_TYPES[name])
        if video is None and container.streams.audio:
            return _probe_audio(container, container.streams.audio[0], AUDIO_TYPES[name])
    raise UnreadableMedia(f"The file holds neither video nor sound in a format that is read here: {ALLOWED}.")


def read_image(content: bytes) -> Image.Image:
    """Return the picture in RGB, upright as its camera held it. Raises `UnreadableMedia`."""
    picture = _picture(content)
    if picture is None:
        raise UnreadableMedia(f"These {len(content)} bytes are no PNG, JPEG or WebP picture.")
    return _in_rgb(picture[0])


def read_video(content: bytes, *, frames_max: int) -> tuple[NDArray[np.uint8], float]:
    """Return frames, [frames, height, width, 3], upright, and frames a second.

    Raises `UnreadableMedia`, also for more than `frames_max` frames.
    """
    frames: list[NDArray[np.uint8]] = []
    with _opened(content) as container:
        video = _video_of(container)
        if video is None:
            raise UnreadableMedia("The file holds no video.")
        fps = _fps_of(video)
        for frame in _decoded(container, video):
            _refuse_frame(frame, len(frames) + 1)
            if len(frames) == frames_max:
                raise UnreadableMedia(f"The video has more than {frames_max} frames.")
            frames.append(_rgb(frame))
    if not frames:
        raise UnreadableMedia("The video has no frames.")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise UnreadableMedia("The size of the video's frames changes on the way.")
    return np.stack(frames), fps


def read_frame(content: bytes) -> Image.Image:
    """Return the frame of a video that shows after a quarter of its length, in RGB, upright. Raises `UnreadableMedia`.

    Decodes from the key frame before it and no further; a file cut off before it gives the last frame that there is.
    """
    shown = None
    with _opened(content) as container:
        video = _video_of(container)
        if video is None or video.codec_context is None:
            raise UnreadableMedia("The file holds no video.")
        wanted = _a_quarter_in(container, video)
        container.seek(wanted, stream=video)
        for number, frame in enumerate(container.decode(video), start=1):
            _refuse_frame(frame, number)
            if shown is not None and (frame.pts is None or frame.pts > wanted):
                break
            shown = frame
        if shown is None:
            raise UnreadableMedia("The video has no frames.")
        return Image.fromarray(_rgb(shown))


def picture_sha256(image: Image.Image) -> str:
    """Return the hash of the size and the pixels of a picture in RGB."""
    digest = hashlib.sha256(f"1x{image.height}x{image.width}x3".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def read_origin(content: bytes) -> dict[str, str]:
    """Return what the file says of where it comes from; empty for one that says nothing. Raises `UnreadableMedia`."""
    picture = _picture(content)
    if picture is not None:
        text: dict[str, Any] = getattr(picture[0], "text", {})
        return {key: str(value) for key, value in text.items()}
    with _opened(content) as container:
        return dict(container.metadata)


def _picture(content: bytes) -> tuple[Image.Image, str] | None:
    """The picture, decoded and upright, and its media type; None when it is no picture at all.

    Raises `UnreadableMedia` for one that is broken, animated or too large.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=list(IMAGE_TYPES))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableMedia(_too_large("The picture", PIXELS_MAX)) from None
    except Exception as error:  # see below
        if content.startswith(PICTURE_SIGNATURES):
            raise UnreadableMedia(f"The picture is cut off or damaged: {_one_line(error)}.") from None
        return None
    if image.width * image.height > PIXELS_MAX:
        raise UnreadableMedia(_too_large(f"A picture of {image.width} x {image.height}", PIXELS_MAX))
    is_multi_picture = image.format == "MPO"  # a JPEG with a preview or a second view behind: the first is the picture
    if getattr(image, "is_animated", False) and not is_multi_picture:
        raise UnreadableMedia("The picture is animated; bring a single picture, or a video.")
    media_type = IMAGE_TYPES["JPEG" if is_multi_picture else str(image.format)]
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # at damage Pillow's readers raise what they meet, IndexError as well as OSError
        raise UnreadableMedia(f"The picture is cut off or damaged: {_one_line(error)}.") from None
    return image, media_type


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    """The container. What FFmpeg refuses within the block becomes `UnreadableMedia`."""
    if not content:
        raise UnreadableMedia("The file is empty.")
    try:
        with av.open(io.BytesIO(content), "r", container_options=DEMUXERS, metadata_errors="replace") as container:
            if container.format.name == MATROSKA and b"webm" not in content[:256]:
                raise UnreadableMedia(f"Matroska is not read but as WebM. Formats that are read: {ALLOWED}.")
            yield container
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = f"none of the formats that are read here ({ALLOWED}), or is damaged"
        raise UnreadableMedia(f"The file is {reason}: {_one_line(error)}.") from None


def _in_rgb(image: Image.Image) -> Image.Image:
    """What is transparent becomes white, as on paper: the colours hidden in it are no part of the picture."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would not scale but cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
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


def _video_of(container: Any) -> Any | None:
    """The video; a cover picture of a sound is none."""
    videos = (one for one in container.streams.video if not one.disposition & Disposition.attached_pic)
    return next(videos, None)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream to the end that its container announces. Raises `UnreadableMedia` when it ends before."""
    announced_s = (container.duration or 0) / av.time_base
    if announced_s > SECONDS_MAX:
        raise UnreadableMedia(f"The file is {announced_s:.0f} s long; {SECONDS_MAX:g} s are the most.")
    context = stream.codec_context
    if context is None:
        raise UnreadableMedia("The file is encoded in a way that is not read here; bring H.264, VP9 or AAC.")
    if stream.type == "video":
        if context.width * context.height > FRAME_PIXELS_MAX:
            raise UnreadableMedia(_too_large(f"A video of {context.width} x {context.height}", FRAME_PIXELS_MAX))
        context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}  # frames may grow on the way
    start_s = (container.start_time or 0) / av.time_base
    reached_s = 0.0
    for packet in container.demux():
        if packet.pts is not None:
            reached_s = max(reached_s, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start_s)
        if packet.stream_index == stream.index:
            yield from packet.decode()
    if container.format.name not in UNANNOUNCED and reached_s < announced_s * CUT_OFF_SHARE - CUT_OFF_S:
        raise UnreadableMedia(f"The file is cut off: it ends after {reached_s:.1f} s of {announced_s:.1f} s.")


def _probe_video(container: Any, stream: Any, media_type: str) -> Media:
    fps = _fps_of(stream)
    frames, width, height = 0, 0, 0
    digest: Any = hashlib.sha256()
    for frame in _decoded(container, stream):
        frames += 1
        digest = _updated(digest, frame)
        _refuse_frame(frame, frames)
        if frames / fps > SECONDS_MAX:
            raise UnreadableMedia(f"The video is longer than {SECONDS_MAX:g} s.")
        is_lying = frame.rotation % 180 != 0
        width, height = (frame.height, frame.width) if is_lying else (frame.width, frame.height)
    if not frames:
        raise UnreadableMedia("The video has no frames.")
    pixels_sha256 = None if digest is None else digest.hexdigest()
    return Media("video", media_type, width, height, frames, fps, _seconds(frames / fps), pixels_sha256)


def _probe_audio(container: Any, stream: Any, media_type: str) -> Media:
    seconds = 0.0
    for frame in _decoded(container, stream):
        seconds += frame.samples / frame.sample_rate
        if seconds > SECONDS_MAX:
            raise UnreadableMedia(f"The sound is longer than {SECONDS_MAX:g} s.")
    if not seconds:
        raise UnreadableMedia("The sound is empty.")
    return Media("audio", media_type, duration_s=_seconds(seconds))


def _rgb(frame: Any) -> NDArray[np.uint8]:
    """The pixels of a frame, upright."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24", interpolation=EXACTLY), dtype=np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))


def _updated(digest: Any, frame: Any) -> Any:
    """The digest with this frame; None from the first frame on whose pixels numpy cannot hold."""
    if digest is None:
        return None
    try:
        planes = frame.to_ndarray()
    except ValueError:
        return None
    digest.update(f"{frame.height}x{frame.width}x{frame.format.name}".encode())
    digest.update(np.ascontiguousarray(planes).data)
    return digest


def _fps_of(stream: Any) -> float:
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    if fps <= 0:
        raise UnreadableMedia("The video does not say how many frames it has a second.")
    return fps


def _seconds(seconds: float) -> float:
    return max(0.001, round(seconds, 3))


def _refuse_frame(frame: Any, number: int) -> None:
    pixels = frame.width * frame.height
    if pixels > FRAME_PIXELS_MAX:
        raise UnreadableMedia(_too_large(f"A frame of {frame.width} x {frame.height}", FRAME_PIXELS_MAX))
    if number > FRAMES_MAX or number * pixels > VIDEO_PIXELS_MAX:
        raise UnreadableMedia(
            f"The video has too many frames of {frame.width} x {frame.height}; "
            f"{min(FRAMES_MAX, VIDEO_PIXELS_MAX // pixels)} are the most."
        )


def _too_large(what: str, pixels_max: int) -> str:
    return f"{what} is too large: {pixels_max} pixels are the most."


def _one_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200].rstrip(".")
