"""Identifies and decodes a file in this process. For untrusted files see services.files.decoders.bounded."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.files.media.claims import refuse_impossible
from services.files.media.containers import opened, video_of
from services.files.media.formats import ALLOWED, IMAGE_TYPES, VIDEO_TYPES, Format, format_of
from services.files.media.kinds import Media, SmallPicture, UnreadableMedia
from services.files.media.muxing import remuxed
from services.files.media.pictures import Picture, open_picture, sha256_of, shown, shown_small
from services.files.media.sounds import Sound, probe_sound, sound_of
from services.files.media.videos import ShownVideo, frame_of, probe_video, shown_video


def probe(content: bytes) -> Media:
    """Decode a file to its end and describe it. Raises `UnreadableMedia`."""
    found = _believable(content)
    if found in IMAGE_TYPES:
        picture = open_picture(content, found)
        return Media("image", picture.media_type, picture.width, picture.height, pixels_sha256=sha256_of(picture))
    with opened(content, found) as container:
        video = video_of(container)
        if video is not None and found in VIDEO_TYPES:
            return probe_video(container, video, content, found)
        if video is None and container.streams.audio:
            return probe_sound(container, container.streams.audio[0], found)
    raise UnreadableMedia(f"The file holds neither video nor sound in a format that is read here: {ALLOWED}.")


def read_picture(content: bytes) -> Picture:
    """Decode a picture. Raises `UnreadableMedia`."""
    found = _believable(content)
    if found not in IMAGE_TYPES:
        raise UnreadableMedia(f"These {len(content)} bytes are no PNG, JPEG, WebP or AVIF picture.")
    return open_picture(content, found)


def read_image(content: bytes) -> Image.Image:
    """Return the picture as it is shown, in RGB, without metadata. Raises `UnreadableMedia`."""
    return shown(read_picture(content))


def read_shown_video(content: bytes, *, frames_max: int) -> ShownVideo:
    """Decode a video to show it at a constant rate.

    Raises `UnreadableMedia`, also for more than `frames_max` frames.
    """
    return shown_video(content, _video_format(content), frames_max=frames_max)


def read_video(content: bytes, *, frames_max: int) -> tuple[NDArray[np.uint8], float]:
    """Return frames, [frames, height, width, 3], as they are shown at a constant rate, and frames per second.

    Raises `UnreadableMedia`, also for more than `frames_max` frames.
    """
    video = read_shown_video(content, frames_max=frames_max)
    return np.stack(list(video.frames())), video.fps


def read_sound(content: bytes) -> tuple[Sound | None, int]:
    """Return the first sound track of a video, None if there is none, and the number of further ones.

    Raises `UnreadableMedia`.
    """
    with opened(content, _video_format(content)) as container:
        tracks = container.streams.audio
        if not tracks:
            return None, 0
        return sound_of(container, tracks[0], video_of(container)), len(tracks) - 1


def remuxed_mp4(content: bytes, origin: Mapping[str, str | int]) -> bytes:
    """Return the same video and its first sound track, not re-encoded, as an MP4 with this origin.

    Raises `UnreadableMedia`.
    """
    return remuxed(content, _video_format(content), origin)


def read_frame(content: bytes) -> Image.Image:
    """Return the frame of a video at a quarter of its length, in RGB, upright. Raises `UnreadableMedia`.

    Decodes only from the key frame before it; if the file is cut off earlier, returns the last frame that exists.
    """
    return frame_of(content, _video_format(content))


def read_small(content: bytes, *, is_video: bool, side_max: int, quality: int) -> SmallPicture:
    """Return a picture, or a frame of a video, as a WebP without metadata. Raises `UnreadableMedia`."""
    if is_video:
        image = read_frame(content)
        image.thumbnail((side_max, side_max))
    else:
        image = shown_small(read_picture(content), side_max)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality)
    return SmallPicture(file.getvalue(), image.width, image.height)


def read_origin(content: bytes) -> dict[str, str]:
    """Return the origin stored in the file; empty if there is none. Raises `UnreadableMedia`."""
    found = _believable(content)
    if found in IMAGE_TYPES:
        return open_picture(content, found).text()
    with opened(content, found) as container:
        return dict(container.metadata)


def _believable(content: bytes) -> Format:
    found = format_of(content)
    refuse_impossible(content, found)
    return found


def _video_format(content: bytes) -> Format:
    found = _believable(content)
    if found in IMAGE_TYPES:
        raise UnreadableMedia("The file holds no video.")
    return found
