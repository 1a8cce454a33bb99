"""The part of each picture that a container asks to show: a clean aperture, or pixels to crop.

FFmpeg and Pillow return whole pictures. The number of boxes that are read is bounded as in `claims`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

from services.files.media.claims import BOXES_MAX
from services.files.media.formats import Format
from services.files.media.kinds import UnreadableMedia

SAMPLE_ENTRY_BYTES: Final = 78
"""Bytes of a video's sample entry before the boxes in it."""

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
CUTS: Final = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
"""Matroska's element ids: the path to a video's settings, and the crop of each side."""

UNKNOWN_SIZE: Final = (1 << 56) - 1


@dataclass(frozen=True, slots=True)
class Aperture:
    """The part of a picture that is shown: its left upper corner and its size, in pixels as they are decoded."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def cut(cls, left: int, top: int, right: int, bottom: int, size: tuple[int, int]) -> Self | None:
        """The part of a picture of this size after the crops; None for the whole.

        Raises `UnreadableMedia` if the part is empty or lies outside.
        """
        if left == top == right == bottom == 0:
            return None
        width, height = size[0] - left - right, size[1] - top - bottom
        if min(left, top, right, bottom) < 0 or width < 1 or height < 1:
            raise UnreadableMedia("The file says that it shows a part of its picture which is not inside of it.")
        return cls(left, top, width, height)

    def scaled(self, across: Fraction, down: Fraction) -> Self:
        """The same part of the stretched picture."""
        right, bottom = round((self.left + self.width) * across), round((self.top + self.height) * down)
        left, top = round(self.left * across), round(self.top * down)
        return type(self)(left, top, max(1, right - left), max(1, bottom - top))


def video_aperture(content: bytes, found: Format, size: tuple[int, int]) -> Aperture | None:
    """The aperture of a video with this decoded width and height. None if all of it is shown.

    Raises `UnreadableMedia` if it lies outside, or if tracks differ.
    """
    if found is Format.MATROSKA:
        cuts = {Aperture.cut(*sides, size) for sides in _matroska_cuts(content)}
    else:
        cuts = {_clean_aperture(content[start:stop], size) for start, stop in _sample_entries(content)}
    return _only(cuts)


def picture_aperture(content: bytes, size: tuple[int, int]) -> Aperture | None:
    """The aperture of an AVIF picture, like `video_aperture`, before rotation."""
    properties = content.find(b"ipco")
    if properties < 4:
        return None
    stop = properties - 4 + int.from_bytes(content[properties - 4 : properties], "big")
    found = (held for name, held in _children(content, properties + 4, stop) if name == b"clap")
    return _only({_cut_of(content[start:end], size) for start, end in found})


def _only(cuts: set[Aperture | None]) -> Aperture | None:
    if len(cuts) > 1:
        raise UnreadableMedia("The file says of several pictures that different parts of them are shown.")
    return next(iter(cuts), None)


def _clean_aperture(entry: bytes, size: tuple[int, int]) -> Aperture | None:
    for name, (start, stop) in _children(entry, SAMPLE_ENTRY_BYTES, len(entry)):
        if name == b"clap":
            return _cut_of(entry[start:stop], size)
    return None


def _cut_of(clap: bytes, size: tuple[int, int]) -> Aperture | None:
    """Reads width, height, and the offset of its centre from the picture's, as fractions; rounded to whole pixels."""
    if len(clap) < 32:
        raise UnreadableMedia("The file is damaged: the part of its picture that is shown is cut off.")
    numbers = struct.unpack_from(">8i", clap)
    if any(each <= 0 for each in numbers[1::2]):
        raise UnreadableMedia("The file is damaged: the part of its picture that is shown is no size.")
    width, height, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
    left, top = (size[0] - width) / 2 + right, (size[1] - height) / 2 + down
    return Aperture.cut(
        round(left), round(top), size[0] - round(left) - round(width), size[1] - round(top) - round(height), size
    )


def _sample_entries(content: bytes) -> Iterator[tuple[int, int]]:
    """The sample entries of videos: start and end of the contents of each."""
    for track in _inside(content, (0, len(content)), b"moov", b"trak"):
        handlers = [content[start + 8 : start + 12] for start, _ in _inside(content, track, b"mdia", b"hdlr")]
        if handlers == [b"vide"]:
            for start, stop in _inside(content, track, b"mdia", b"minf", b"stbl", b"stsd"):
                yield from (entry for _, entry in _children(content, start + 8, stop))


def _inside(content: bytes, within: tuple[int, int], *path: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the contents of the boxes at a path."""
    for name, held in _children(content, *within):
        if name == path[0]:
            yield from _inside(content, held, *path[1:]) if path[1:] else [held]


def _children(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    end = min(end, len(content))
    for _ in range(BOXES_MAX):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            size, start = struct.unpack_from(">Q", content, start)[0], at + 16
        stop = end if size == 0 else min(at + size, end)
        if stop < start:
            return
        yield name, (start, stop)
        at = stop


def _matroska_cuts(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The crops of each video: left, top, right and bottom."""
    for segment in _elements(content, (0, len(content)), SEGMENT):
        for tracks in _elements(content, segment, TRACKS):
            for track in _elements(content, tracks, TRACK):
                for video in _elements(content, track, VIDEO):
                    sides = dict.fromkeys(CUTS.values(), 0)
                    for identifier, side in CUTS.items():
                        for start, stop in _elements(content, video, identifier):
                            sides[side] = int.from_bytes(content[start : min(stop, start + 8)], "big")
                    yield sides["left"], sides["top"], sides["right"], sides["bottom"]


def _elements(content: bytes, within: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    """Start and end of the elements with an id, in a sequence of elements."""
    at, end = within
    for _ in range(BOXES_MAX):
        if at >= end:
            return
        identifier, at = _number(content, at, keeps_mark=True)
        size, at = _number(content, at, keeps_mark=False)
        stop = end if size == UNKNOWN_SIZE else min(at + size, end)
        if identifier == wanted:
            yield at, stop
        at = stop


def _number(content: bytes, at: int, *, keeps_mark: bool) -> tuple[int, int]:
    """A number of Matroska, and its end: the leading zeros of the first byte give the number of bytes."""
    first = content[at] if at < len(content) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return 0, len(content)
    whole = int.from_bytes(content[at : at + length], "big")
    if keeps_mark:
        return whole, at + length
    value = whole & ((1 << 7 * length) - 1)
    return (UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value), at + length
