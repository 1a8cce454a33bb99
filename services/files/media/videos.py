"""Videos as they are shown: which frames, when, and what each shows."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.files.media.containers import decoded, decoder_of, opened, video_of
from services.files.media.formats import VIDEO_TYPES, Format
from services.files.media.frames import Display, Geometry, shown_frame
from services.files.media.kinds import (
    FRAMES_MAX,
    SECONDS_MAX,
    VIDEO_BYTES_MAX,
    VIDEO_PIXELS_MAX,
    Media,
    UnreadableMedia,
)
from services.files.media.timing import Timing, beat_of, shown_at_beat, timing_of

QUICKTIME = "video/quicktime"
"""The type of an ISO container with QuickTime's brand, as telephones write them."""


class Times:
    """Collects when the frames of a stream show."""

    def __init__(self, stream: Any) -> None:
        self._declared_fps = float(stream.average_rate or stream.guessed_rate or 0)
        self._times: list[float] = []
        self._last_s = 0.0
        self._are_known = True

    def add(self, frame: Any) -> None:
        """Add the next frame."""
        base = frame.time_base
        if frame.pts is None or base is None:
            self._are_known = False
            return
        self._times.append(float(frame.pts * base))
        self._last_s = float((frame.duration or 0) * base)

    def timing(self, count: int) -> Timing:
        """The timing of this many frames. Raises `UnreadableMedia` if the file has neither times nor a rate."""
        if self._are_known and len(self._times) == count:
            times = sorted(self._times)
            made = timing_of(times, self._last_s, self._declared_fps)
        elif self._declared_fps > 0:
            made = Timing(self._declared_fps, count / self._declared_fps, steady=True)
        else:
            raise UnreadableMedia("The video does not say how many frames it has a second.")
        if made.seconds > SECONDS_MAX:
            raise UnreadableMedia(f"The video is longer than {SECONDS_MAX:g} s.")
        return made

    def places(self, timing: Timing) -> tuple[list[int] | range, float]:
        """The frames to show in order at a constant rate, and the rate."""
        if timing.steady:
            return range(len(self._times)), timing.fps
        times = sorted(self._times)
        fps = beat_of(times)
        return shown_at_beat(times, timing.seconds, fps), fps


@dataclass(frozen=True, slots=True)
class ShownVideo:
    """A video at a constant rate: its pictures, [height, width, 3], the picture of each step, and frames per second."""

    pictures: list[NDArray[np.uint8]]
    places: list[int]
    fps: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all frames as one array."""
        height, width, channels = self.pictures[0].shape
        return len(self.places), height, width, channels

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The frames in order."""
        return (self.pictures[place] for place in self.places)


def probe_video(container: Any, stream: Any, content: bytes, found: Format) -> Media:
    """Decode a video to its end and describe it. Raises `UnreadableMedia`."""
    is_quicktime = found is Format.ISO and container.metadata.get("major_brand", "qt").startswith("qt")
    times = Times(stream)
    display = Display.of(stream, content, found)
    count, geometry = 0, None
    digest: Any = hashlib.sha256()
    for frame in decoded(container, stream, found):
        count += 1
        refuse_frame(frame, count)
        times.add(frame)
        digest = _updated(digest, frame)
        geometry = Geometry.of(frame, display)
    if geometry is None:
        raise UnreadableMedia("The video has no frames.")
    timing = times.timing(count)
    width, height = geometry.shown_size
    pixels_sha256 = None if digest is None else digest.hexdigest()
    seconds = max(0.001, round(timing.seconds, 3))
    media_type = QUICKTIME if is_quicktime else VIDEO_TYPES[found]
    return Media("video", media_type, width, height, count, timing.fps, seconds, pixels_sha256)


def shown_video(content: bytes, found: Format, *, frames_max: int) -> ShownVideo:
    """Decode a video to show it at a constant rate.

    Raises `UnreadableMedia`, also for more than `frames_max` frames.
    """
    pictures: list[NDArray[np.uint8]] = []
    held = 0
    with opened(content, found) as container:
        stream = _video(container)
        times = Times(stream)
        display = Display.of(stream, content, found)
        for frame in decoded(container, stream, found):
            refuse_frame(frame, len(pictures) + 1)
            if len(pictures) == frames_max:
                raise UnreadableMedia(f"The video has more than {frames_max} frames.")
            times.add(frame)
            pictures.append(shown_frame(frame, display))
            held += pictures[-1].nbytes
            if held > VIDEO_BYTES_MAX:
                raise UnreadableMedia(f"The frames of the video fill more than {VIDEO_BYTES_MAX} bytes; cut it.")
        if not pictures:
            raise UnreadableMedia("The video has no frames.")
        timing = times.timing(len(pictures))
    if any(one.shape != pictures[0].shape for one in pictures):
        raise UnreadableMedia("The size of the video's frames changes on the way.")
    places, fps = (range(len(pictures)), timing.fps) if timing.steady else times.places(timing)
    if len(places) > frames_max:
        raise UnreadableMedia(f"The video shows more than {frames_max} frames at {fps:g} a second.")
    if len(places) * pictures[0].nbytes > VIDEO_BYTES_MAX:
        raise UnreadableMedia(f"The frames of the video fill more than {VIDEO_BYTES_MAX} bytes; cut it.")
    return ShownVideo(pictures, list(places), fps)


def frame_of(content: bytes, found: Format) -> Image.Image:
    """Return the frame at a quarter of a video's length, in sRGB, upright. Raises `UnreadableMedia`.

    Decodes only from the key frame before it; if the file is cut off earlier, returns the last frame that exists.
    """
    chosen = None
    with opened(content, found) as container:
        stream = _video(container)
        decoder_of(stream)
        wanted = _a_quarter_in(container, stream)
        container.seek(wanted, stream=stream)
        for number, frame in enumerate(container.decode(stream), start=1):
            refuse_frame(frame, number)
            if chosen is not None and (frame.pts is None or frame.pts > wanted):
                break
            chosen = frame
        if chosen is None:
            raise UnreadableMedia("The video has no frames.")
        return Image.fromarray(shown_frame(chosen, Display.of(stream, content, found)))


def refuse_frame(frame: Any, number: int) -> None:
    """Raise `UnreadableMedia` if there are more frames than their size allows."""
    pixels = frame.width * frame.height
    if number > FRAMES_MAX or number * pixels > VIDEO_PIXELS_MAX:
        raise UnreadableMedia(
            f"The video has too many frames of {frame.width} x {frame.height}; "
            f"{min(FRAMES_MAX, VIDEO_PIXELS_MAX // pixels)} are the most."
        )


def _video(container: Any) -> Any:
    stream = video_of(container)
    if stream is None:
        raise UnreadableMedia("The file holds no video.")
    return stream


def _a_quarter_in(container: Any, stream: Any) -> int:
    """The time in the stream's time base; its beginning if the file does not give its length."""
    start = int(stream.start_time or 0)
    if stream.duration:
        return start + int(stream.duration) // 4
    if container.duration:
        return start + int(container.duration / av.time_base / stream.time_base) // 4
    return start


def _updated(digest: Any, frame: Any) -> Any:
    """The digest with this frame; None from the first frame on with a pixel format that numpy cannot hold."""
    if digest is None:
        return None
    try:
        planes = frame.to_ndarray()
    except (ValueError, AssertionError):  # an unsupported pixel format, or an odd size
        return None
    digest.update(f"{frame.height}x{frame.width}x{frame.format.name}".encode())
    digest.update(np.ascontiguousarray(planes).data)
    return digest
