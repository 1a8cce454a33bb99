"""MP4 files put together in memory, with their index in front, ready to play before all of them is there.

The muxer moves the index to the front by reading back what it wrote. In memory it needs no file for that, so that a
process that can open none can do it.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import av
from av.container import OutputContainer

from services.media.containers import decoder_of, opened, video_of
from services.media.formats import Format
from services.media.kinds import UnreadableMedia, one_line

MUXING: Final = {"movflags": "faststart+use_metadata_tags"}
"""The index before the pictures, and metadata under any name, not those alone that QuickTime knew."""


class _Again(io.RawIOBase):
    """Reads what is written into another file so far, from a place of its own."""

    def __init__(self, written: io.BytesIO) -> None:
        super().__init__()
        self._written = written
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """What stands at its place, which moves on."""
        with self._written.getbuffer() as held:
            found = bytes(held[self._at :] if size < 0 else held[self._at : self._at + size])
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        begins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._written.getbuffer().nbytes}
        self._at = begins[whence] + offset
        return self._at

    def tell(self) -> int:
        """Its place."""
        return self._at


def muxed_mp4(origin: Mapping[str, str | int], write: Callable[[OutputContainer], None]) -> bytes:
    """Return the MP4 that `write` fills, with its origin inside."""
    file = io.BytesIO()

    def again(_url: str, _flags: int, _options: Mapping[str, Any]) -> _Again:
        return _Again(file)

    with av.open(file, "w", format="mp4", options=MUXING, io_open=again) as container:
        container.metadata.update({"Software": "Darkroom", **{key: str(value) for key, value in origin.items()}})
        write(container)
    return file.getvalue()


def remuxed(content: bytes, found: Format, origin: Mapping[str, str | int]) -> bytes:
    """Return the same video and its first sound, untouched, in an MP4 of ours. Raises `UnreadableMedia`."""
    with opened(content, found) as source:
        video = video_of(source)
        if video is None:
            raise UnreadableMedia("The file holds no video.")
        taken = [video, *source.streams.audio[:1]]
        for stream in taken:
            decoder_of(stream)

        def write(target: OutputContainer) -> None:
            streams = {stream.index: target.add_stream_from_template(stream) for stream in taken}
            for packet in source.demux(*taken):
                if packet.dts is not None:  # the last one of a stream is empty
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)

        try:
            return muxed_mp4(origin, write)
        except av.error.MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableMedia(f"The video cannot be put into an MP4: {one_line(error)}.") from None
