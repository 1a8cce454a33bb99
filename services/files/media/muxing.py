"""Writes MP4 files in memory, with the index first, so that they play before they are completely loaded.

The muxer moves the index to the front by reading its own output. In memory it needs no file for that, so a process that
cannot open files can do it.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import av
from av.container import OutputContainer

from services.files.media.containers import decoder_of, opened, video_of
from services.files.media.formats import Format
from services.files.media.kinds import UnreadableMedia, reason_of

MUXING: Final = {"movflags": "faststart+use_metadata_tags"}
"""The index before the pictures, and metadata under any name, not only those of QuickTime."""


class _Again(io.RawIOBase):
    """Reads the data that is being written to another file, with its own position."""

    def __init__(self, written: io.BytesIO) -> None:
        super().__init__()
        self._written = written
        self._at = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read from the current position and advance it."""
        with self._written.getbuffer() as held:
            found = bytes(held[self._at :] if size < 0 else held[self._at : self._at + size])
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position."""
        begins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._written.getbuffer().nbytes}
        self._at = begins[whence] + offset
        return self._at

    def tell(self) -> int:
        """The current position."""
        return self._at


def muxed_mp4(origin: Mapping[str, str | int], write: Callable[[OutputContainer], None]) -> bytes:
    """Return the MP4 that `write` fills, with its origin in the metadata."""
    file = io.BytesIO()

    def again(_url: str, _flags: int, _options: Mapping[str, Any]) -> _Again:
        return _Again(file)

    with av.open(file, "w", format="mp4", options=MUXING, io_open=again) as container:
        container.metadata.update({"Software": "Darkroom", **{key: str(value) for key, value in origin.items()}})
        write(container)
    return file.getvalue()


def remuxed(content: bytes, found: Format, origin: Mapping[str, str | int]) -> bytes:
    """Return the same video and its first sound track, not re-encoded, in a new MP4. Raises `UnreadableMedia`."""
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
                if packet.dts is not None:  # the last packet of a stream is empty
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)

        try:
            return muxed_mp4(origin, write)
        except av.error.MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableMedia(f"The video cannot be put into an MP4: {reason_of(error)}.") from None
