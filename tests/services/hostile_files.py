"""Files that are small and cost much: each claims what it does not hold, or holds what nobody needs."""

import re
import struct

from PIL import Image

from tests.services.media_files import encoded, video


def mp4_that_claims(samples: int, tracks: int = 1) -> bytes:
    """A video of one frame, whose sample tables say that it has so many samples of one byte each."""
    content = bytearray(video(frames=1, size=(16, 16)))
    for name, at, value in (
        (b"stsz", 4, struct.pack(">II", 1, samples)),
        (b"stts", 8, struct.pack(">II", samples, 1)),
        (b"stsc", 12, struct.pack(">I", samples)),
    ):
        start = content.index(name) + 4 + at
        content[start : start + len(value)] = value
    return _with_tracks(bytes(content), tracks)


def _with_tracks(content: bytes, tracks: int) -> bytes:
    """The track again, so that there are so many."""
    start = content.index(b"trak") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    more = content[start : start + size] * (tracks - 1)
    moov = content.index(b"moov") - 4
    moov_size = int.from_bytes(content[moov : moov + 4], "big") + len(more)
    return (
        content[:moov]
        + struct.pack(">I", moov_size)
        + content[moov + 4 : start + size]
        + more
        + content[start + size :]
    )


def webp_of_one_colour(side: int) -> bytes:
    """A few dozen bytes that are a picture of so many pixels a side."""
    return encoded(Image.new("RGB", (side, side), "red"), "WEBP", lossless=True)


def jpeg_with_scans(scans: int, side: int = 4096) -> bytes:
    """A progressive JPEG of one colour whose last scan comes again and again."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    starts = [match.start() for match in re.finditer(rb"\xff\xda", whole)]
    last, end = starts[-1], whole.rindex(b"\xff\xd9")
    return whole[:last] + whole[last:end] * (scans - len(starts) + 1) + whole[end:]


def png_of_one_colour(side: int) -> bytes:
    """285 kB at 8192 pixels a side, and half transparent."""
    return encoded(Image.new("RGBA", (side, side), (200, 10, 10, 128)), "PNG")
