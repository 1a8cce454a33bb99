"""Files whose containers say how their pictures are shown: made by hand, as no encoder here writes them."""

import struct

from PIL import Image

from services.files.media.claims import boxes
from tests.services.media_files import encoded

WEBM_VIDEO = bytes.fromhex("23e3838407735940e086b08140ba8130")
"""In a WebM of 64 x 48 at 8 frames a second: how long a frame shows, and the element of the video with its size."""


def box(name: bytes, *parts: bytes) -> bytes:
    """A box of an ISO container."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def full_box(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """The same with version and flags."""
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def with_edits(content: bytes, *edits: tuple[int, int, int, int]) -> bytes:
    """An MP4 whose track has these edits: how long in milliseconds, from when on, and the speed in two halves."""
    at = content.index(b"elst") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    made = full_box(b"elst", struct.pack(">I", len(edits)), *(struct.pack(">iiHH", *edit) for edit in edits))
    return _grown(content[:at] + made + content[at + size :], at, len(made) - size, b"edts", b"trak", b"moov")


def clap(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    """A clean aperture, and how far its middle lies from that of the picture."""
    return box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 1, down, 1))


def with_aperture(content: bytes, aperture: bytes) -> bytes:
    """An MP4 of H.264 that shows a part of its picture."""
    entry = content.index(b"avc1", content.index(b"stsd")) - 4
    end = entry + int.from_bytes(content[entry : entry + 4], "big")
    made = content[:end] + aperture + content[end:]
    return _grown(made, end, len(aperture), b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov", at=entry)


def _grown(content: bytes, before: int, by: int, *parents: bytes, at: int | None = None) -> bytes:
    """The sizes of the boxes around a place."""
    made = bytearray(content)
    places = [made.rindex(name, 0, before) - 4 for name in parents] + ([] if at is None else [at])
    for place in places:
        struct.pack_into(">I", made, place, int.from_bytes(made[place : place + 4], "big") + by)
    return bytes(made)


def webm_that_shows(content: bytes, elements: str) -> bytes:
    """A WebM of 64 x 48 whose video has these eight bytes of elements, in hexadecimal, after its size."""
    assert content.count(WEBM_VIDEO) == 1
    return content.replace(WEBM_VIDEO, bytes.fromhex("e08eb08140ba8130" + elements))


def avif_grid(colours: tuple[str, ...], columns: int, size: tuple[int, int], aperture: bytes = b"") -> bytes:
    """An AVIF of tiles of 64 x 64, row by row, cut to a size, as telephones write them."""
    tiles = [encoded(Image.new("RGB", (64, 64), colour), "AVIF", quality=95) for colour in colours]
    count = len(tiles)
    rows = count // columns
    payloads = [*map(_data_of, tiles), struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)]
    shared = [_property(tiles[0], name) for name in (b"pixi", b"av1C", b"colr")]
    properties = [_property(tiles[0], b"ispe"), full_box(b"ispe", struct.pack(">II", *size)), *shared, aperture]
    of_tile, of_grid = bytes([1, 3, 0x84, 5]), bytes([2, 3, 5, *([0x86] if aperture else [])])
    belongs = [(number, of_tile) for number in range(1, count + 1)] + [(count + 1, of_grid)]
    associated = b"".join(struct.pack(">HB", number, len(which)) + which for number, which in belongs)
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miafMA1B")

    def meta(begin: int) -> bytes:
        spans, at = b"", begin
        for number, payload in enumerate(payloads, start=1):
            spans += struct.pack(">HHHII", number, 0, 1, at, len(payload))
            at += len(payload)
        kinds = [b"av01"] * count + [b"grid"]
        entries = (
            full_box(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2, flags=kind == b"av01")
            for number, kind in enumerate(kinds, start=1)
        )
        tiles_of_grid = struct.pack(f">HH{count}H", count + 1, count, *range(1, count + 1))
        return full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s13x", 0, b"pict")),
            full_box(b"pitm", struct.pack(">H", count + 1)),
            full_box(b"iloc", bytes([0x44, 0]), struct.pack(">H", count + 1), spans),
            full_box(b"iinf", struct.pack(">H", count + 1), *entries),
            full_box(b"iref", box(b"dimg", tiles_of_grid)),
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", struct.pack(">I", count + 1), associated)),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *payloads)


def _data_of(content: bytes) -> bytes:
    [(start, stop)] = [(start, stop) for name, start, stop in boxes(content) if name == b"mdat"]
    return content[start:stop]


def _property(content: bytes, name: bytes) -> bytes:
    at = content.index(name) - 4
    return content[at : at + int.from_bytes(content[at : at + 4], "big")]
