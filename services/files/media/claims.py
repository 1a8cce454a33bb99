"""Refuses files that claim more than they can hold, before a decoder believes them.

Every number here is read without trusting another one, and every loop is bounded by the size of the file.
"""

import struct
from collections.abc import Iterator
from typing import Final

from services.files.media.formats import SOF, Format, segments
from services.files.media.kinds import PIXELS_MAX, UnreadableMedia, too_large

SCANS_MAX: Final = 100
"""Maximum scans of a JPEG. Encoders write about ten; each one covers the whole picture again."""

SCANNED_PIXELS_MAX: Final = 20 * PIXELS_MAX
"""Pixels of a JPEG times its scans."""

DEFLATE_RATIO_MAX: Final = 1032
"""Maximum ratio of inflated to deflated bytes."""

TRACKS_MAX: Final = 16
"""Maximum number of tracks. Telephones and action cameras write up to seven, including those of their sensors."""

EDITS_MAX: Final = 64
"""Maximum entries of a track's edit list. Editors write one or two; each one can repeat all samples of the track."""

CHUNKS_MAX: Final = 100_000
"""Maximum chunks of a PNG that are read."""

BOXES_MAX: Final = 100_000
"""Maximum boxes of an ISO container that are read. Ten minutes in fragments of a tenth of a second have half as
many."""

BOX_DEPTH_MAX: Final = 12

PARENTS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex"})
"""Boxes that contain boxes, on the path to a table."""

TABLES: Final = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8, b"stss": 4, b"stps": 4, b"elst": 12}
"""Bytes of a table's entry; one of `elst` may have 20."""

ONE: Final = b"\0\1\0\0"
"""1 as a fixed-point number: the speed of an edit that is played unchanged."""

NEVER: Final = "says that it holds more than fits into its"


def refuse_impossible(content: bytes, found: Format) -> None:
    """Raise `UnreadableMedia` for a file that cannot hold what it claims, or claims more work than any file needs."""
    match found:
        case Format.PNG:
            _refuse_png(content)
        case Format.JPEG:
            _refuse_jpeg(content)
        case Format.ISO | Format.AVIF:
            _refuse_iso(content)
        case _:
            pass


def boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an ISO container and of those in `PARENTS`: name, start and end of the contents.

    Raises `UnreadableMedia` for more than `BOXES_MAX`.
    """
    waiting = [(0, len(content), 0)]
    seen = 0
    while waiting:
        at, end, depth = waiting.pop()
        while at + 8 <= end:
            seen += 1
            if seen > BOXES_MAX:
                raise UnreadableMedia(f"The file has more than {BOXES_MAX} boxes.")
            size, name = struct.unpack_from(">I4s", content, at)
            start = at + 8
            if size == 1 and at + 16 <= end:
                size, start = struct.unpack_from(">Q", content, at + 8)[0], at + 16
            stop = end if size == 0 else min(at + size, end)
            if stop < start:
                break
            yield name, start, stop
            if name in PARENTS and depth < BOX_DEPTH_MAX:
                waiting.append((start, stop, depth + 1))
            at = stop


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes | memoryview]]:
    """The chunks of a PNG. Raises `UnreadableMedia` for more than `CHUNKS_MAX`."""
    view, at = memoryview(content), 8
    for _ in range(CHUNKS_MAX):
        if at + 8 > len(content):
            return
        size, name = struct.unpack_from(">I4s", content, at)
        yield name, view[at + 8 : at + 8 + size]
        at += 12 + size
    raise UnreadableMedia(f"The picture has more than {CHUNKS_MAX} chunks.")


def _refuse_png(content: bytes) -> None:
    """Refuse more rows than the data can hold; Pillow would allocate memory for all of them first."""
    header, data_bytes = b"", 0
    for name, data in chunks(content):
        if name == b"IHDR":
            header = bytes(data)
        elif name == b"IDAT":
            data_bytes += len(data)
    if len(header) < 13:
        return  # the decoder reports the error
    width, height, bits, colour = struct.unpack_from(">IIBB", header)
    if width * height > PIXELS_MAX:
        raise UnreadableMedia(too_large(f"A picture of {width} x {height}", PIXELS_MAX))
    channels = {2: 3, 4: 2, 6: 4}.get(colour, 1)
    rows_bytes = height * (width * bits * channels // 8)
    if rows_bytes > DEFLATE_RATIO_MAX * (data_bytes + 1):
        raise UnreadableMedia(
            f"The picture is cut off or damaged: it {NEVER} {data_bytes} bytes ({width} x {height} pixels)."
        )


def _refuse_jpeg(content: bytes) -> None:
    scans, pixels = 0, 0
    for marker, start, stop in segments(content):
        if marker in SOF and stop - start >= 5:
            height, width = struct.unpack_from(">HH", content, start + 1)
            pixels = max(pixels, width * height)
        scans += marker == 0xDA
        if scans > SCANS_MAX or (scans > 1 and scans * pixels > SCANNED_PIXELS_MAX):
            raise UnreadableMedia(
                f"The picture is compressed in too many scans; {min(SCANS_MAX, SCANNED_PIXELS_MAX // max(1, pixels))} "
                "are the most for its size. Save it again with another program."
            )


def _refuse_iso(content: bytes) -> None:
    tracks = 0
    for name, start, stop in boxes(content):
        size = stop - start
        tracks += name == b"trak"
        if tracks > TRACKS_MAX:
            raise UnreadableMedia(f"The file has more than {TRACKS_MAX} tracks.")
        if name in TABLES and size >= 8:
            (entries,) = struct.unpack_from(">I", content, start + 4)
            if entries * TABLES[name] > size - 8:
                raise _impossible(name)
            if name == b"elst" and entries > EDITS_MAX:
                raise UnreadableMedia(f"A track of the file has more than {EDITS_MAX} edits.")
            if name == b"elst":
                _refuse_speeds(content, start, stop, entries)
            if name in {b"stts", b"ctts"}:
                _refuse_times(content, start + 8, entries)
        elif name == b"stsz" and size >= 12:
            each, samples = struct.unpack_from(">II", content, start + 4)
            if each * samples > len(content) or (not each and samples * 4 > size):
                raise _impossible(name)
        elif name == b"stz2" and size >= 12:
            bits, samples = struct.unpack_from(">BI", content, start + 7)
            if bits * samples > 8 * size:
                raise _impossible(name)
        elif name == b"trun" and size >= 8:
            (samples,) = struct.unpack_from(">I", content, start + 4)
            if samples > len(content):
                raise _impossible(name)


def _refuse_speeds(content: bytes, start: int, stop: int, entries: int) -> None:
    """The speed is the last field of an edit; FFmpeg ignores it and plays every edit at speed 1."""
    entry_bytes = 20 if content[start] == 1 else 12
    for at in range(start + 8, min(start + 8 + entries * entry_bytes, stop - entry_bytes + 1), entry_bytes):
        if content[at + entry_bytes - 4 : at + entry_bytes] != ONE:
            raise UnreadableMedia("A track of the file is played at another speed, which is not read here; export it.")


def _refuse_times(content: bytes, at: int, entries: int) -> None:
    """Each entry covers a number of samples, and a sample has at least one byte."""
    samples = sum(count for count, _ in struct.iter_unpack(">II", content[at : at + 8 * entries]))
    if samples > len(content):
        raise UnreadableMedia(f"The file is cut off or damaged: it {NEVER} {len(content)} bytes ({samples} samples).")


def _impossible(name: bytes) -> UnreadableMedia:
    table = name.decode("latin-1")
    return UnreadableMedia(f"The file is cut off or damaged: it {NEVER} bytes (its table {table!r}).")
