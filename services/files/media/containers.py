"""Opens videos and sounds with FFmpeg, which can read only the given bytes.

Its playlist formats would open local files and network addresses, so each file is opened only as the format of its
signature. Only the decoders of a closed list are used.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import av
from av.stream import Disposition

from services.files.media import claims
from services.files.media.formats import ALLOWED, Format
from services.files.media.kinds import FRAME_PIXELS_MAX, SECONDS_MAX, UnreadableMedia, reason_of, too_large

VIDEO_DECODERS: Final = ("h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4")
AUDIO_DECODERS: Final = (
    "aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac",
    "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be",
    "pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav",
)  # fmt: skip
CODECS: Final = "H.264, H.265, AV1, VP8, VP9 and MPEG-4 video; AAC, MP3, Opus, Vorbis, FLAC, ALAC and PCM sound"

OPENING: Final = {
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join((*VIDEO_DECODERS, *AUDIO_DECODERS)),
    "max_streams": str(claims.TRACKS_MAX),
}

THREADS: Final = 2
"""Threads per decoder; each holds a frame."""

CUT_OFF_SHARE: Final = 0.95
CUT_OFF_S: Final = 0.1
"""Seconds by which a complete file may be shorter than announced; containers round, and encoders pad."""

UNANNOUNCED: Final = frozenset({Format.MP3, Format.OGG, Format.WAV})
"""Containers for which FFmpeg computes the length from the file's size: a file that is cut off is a complete, shorter
sound."""


@contextmanager
def opened(content: bytes, found: Format) -> Iterator[Any]:
    """The open container. Errors of FFmpeg within the block become `UnreadableMedia`."""
    if found is Format.MATROSKA and b"webm" not in content[:256]:
        raise UnreadableMedia(f"Matroska is not read but as WebM. Formats that are read: {ALLOWED}.")
    whitelist = {"format_whitelist": found.value, **OPENING}
    try:
        with av.open(
            io.BytesIO(content), "r", format=found.value.split(",")[0], container_options=whitelist,
            metadata_errors="replace",
        ) as container:  # fmt: skip
            yield container
    except av.error.MemoryError as error:
        raise MemoryError from error
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = f"none of the formats that are read here ({ALLOWED}), or is damaged"
        raise UnreadableMedia(f"The file is {reason}: {reason_of(error)}.") from None


def video_of(container: Any) -> Any | None:
    """The video stream; a sound's cover picture does not count."""
    videos = (one for one in container.streams.video if not one.disposition & Disposition.attached_pic)
    return next(videos, None)


def decoder_of(stream: Any) -> Any:
    """The decoder of a stream, with bounds. Raises `UnreadableMedia` if it is not in the closed list."""
    context = stream.codec_context
    name = None if context is None else context.codec.name
    if name not in VIDEO_DECODERS and name not in AUDIO_DECODERS:
        said = f"as {context.name}, which" if context is not None else "in a way that"
        raise UnreadableMedia(f"The file is encoded {said} is not read here; what is read: {CODECS}.")
    context.thread_count = THREADS
    if stream.type == "video":
        if context.width * context.height > FRAME_PIXELS_MAX:
            raise UnreadableMedia(too_large(f"A video of {context.width} x {context.height}", FRAME_PIXELS_MAX))
        context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}  # the size of frames may grow within a stream
    return context


def decoded(container: Any, stream: Any, found: Format) -> Iterator[Any]:
    """The frames of a stream up to the end that its container announces.

    Raises `UnreadableMedia` if it ends earlier.
    """
    announced_s = (container.duration or 0) / av.time_base
    if announced_s > SECONDS_MAX:
        raise UnreadableMedia(f"The file is {announced_s:.0f} s long; {SECONDS_MAX:g} s are the most.")
    decoder_of(stream)
    # WebM counts its length from zero, even if it begins later.
    start_s = 0.0 if found is Format.MATROSKA else (container.start_time or 0) / av.time_base
    reached_s = 0.0
    for packet in container.demux():
        if packet.pts is not None:
            reached_s = max(reached_s, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start_s)
        if packet.stream_index == stream.index:
            yield from packet.decode()
    if found not in UNANNOUNCED and reached_s < announced_s * CUT_OFF_SHARE - CUT_OFF_S:
        raise UnreadableMedia(f"The file is cut off: it ends after {reached_s:.1f} s of {announced_s:.1f} s.")
