"""Identifies the format of a file by its signature: a closed list, with one decoder for each.

No format falls back to a laxer decoder: a file that begins as a PNG is a PNG or is refused. Reads only the first bytes,
and decodes nothing.
"""

import re
import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Literal

from services.files.media.kinds import FRAME_PIXELS_MAX, PIXELS_MAX, UnreadableMedia

ALLOWED: Final = "PNG, JPEG, WebP, AVIF, MP4, MOV, WebM, WAV, MP3, FLAC, Ogg, M4A"

HEAD_BYTES: Final = 64 * 1024
"""Bytes that are searched for signatures and sizes; the size of a JPEG may follow its colour profile and preview."""


class Format(StrEnum):
    """Accepted formats. The value is the decoder's name of it: Pillow's for a picture, FFmpeg's for a container."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    AVIF = "AVIF"
    ISO = "mov,mp4,m4a,3gp,3g2,mj2"
    MATROSKA = "matroska,webm"
    WAV = "wav"
    MP3 = "mp3"
    FLAC = "flac"
    OGG = "ogg"


IMAGE_TYPES: Final = {
    Format.PNG: "image/png",
    Format.JPEG: "image/jpeg",
    Format.WEBP: "image/webp",
    Format.AVIF: "image/avif",
}
VIDEO_TYPES: Final = {Format.ISO: "video/mp4", Format.MATROSKA: "video/webm"}
AUDIO_TYPES: Final = {
    Format.ISO: "audio/mp4",
    Format.MATROSKA: "audio/webm",
    Format.WAV: "audio/wav",
    Format.MP3: "audio/mpeg",
    Format.FLAC: "audio/flac",
    Format.OGG: "audio/ogg",
}

Weight = Literal["picture", "sound", "video"]
"""The cost class of decoding: see services.files.decoders.bounded."""

ISO_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
"""The first boxes that an MP4 or MOV can have."""

AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf",
     b"jpeg", b"vvic", b"evbi"}
)  # fmt: skip
"""Brands of pictures in an ISO container; FFmpeg would read their tiles as a video of one tile."""

MP3_SYNC: Final = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]")
"""The beginning of a frame of layer I, II or III; layer bits of zero mean AAC."""

SOF: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""JPEG's start-of-frame markers, which hold its size."""


def format_of(content: bytes) -> Format:
    """The format that a file begins as. Raises `UnreadableMedia` for any other, with its name if known."""
    if not content:
        raise UnreadableMedia("The file is empty.")
    head = content[:HEAD_BYTES]
    if head[4:8] in ISO_BOXES:
        return _iso(head)
    for found, fits in (
        (Format.PNG, head.startswith(b"\x89PNG")),
        (Format.JPEG, head.startswith(b"\xff\xd8\xff")),
        (Format.WEBP, head.startswith(b"RIFF") and head[8:12] == b"WEBP"),
        (Format.MATROSKA, head.startswith(b"\x1aE\xdf\xa3")),
        (Format.WAV, head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE"),
        (Format.FLAC, head.startswith(b"fLaC")),
        (Format.OGG, head.startswith(b"OggS")),
        (Format.MP3, head.startswith(b"ID3") or MP3_SYNC.match(head.lstrip(b"\0"))),
    ):
        if fits:
            return found
    raise UnreadableMedia(f"The file is none of the formats that are read here: {ALLOWED}.")


def weight_of(found: Format) -> Weight:
    """The cost class of decoding this format."""
    if found in IMAGE_TYPES:
        return "picture"
    return "video" if found in VIDEO_TYPES else "sound"


def pixels_claimed(content: bytes) -> int:
    """The number of pixels that a file claims to show at a time, 0 for a sound. Raises `UnreadableMedia`.

    For budgets before decoding. A size that is not in the first bytes counts as the largest.
    """
    found = format_of(content)
    head = content[:HEAD_BYTES]
    match found:
        case Format.PNG if head[12:16] == b"IHDR" and len(head) >= 24:
            width, height = struct.unpack_from(">II", head, 16)
            return int(width * height)
        case Format.JPEG:
            return _jpeg_pixels(head)
        case Format.WEBP:
            return _webp_pixels(head)
        case Format.PNG | Format.AVIF:
            return PIXELS_MAX
        case Format.ISO | Format.MATROSKA:
            return FRAME_PIXELS_MAX
        case _:
            return 0


def brands_of(head: bytes) -> list[bytes]:
    """The brands of an ISO container, its major brand first."""
    if head[4:8] != b"ftyp":
        return []
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker segments of a JPEG up to the end of its first picture: marker, start and end of the contents.

    The data of a scan belongs to no segment and is skipped.
    """
    at = 2
    while (found := JPEG_MARKER.search(content, at)) is not None:
        marker, at = content[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        size = int.from_bytes(content[at : at + 2], "big")
        yield marker, at + 2, min(at + size, len(content))
        at += max(size, 2)


JPEG_MARKER: Final = re.compile(rb"\xff+[\x01-\xcf\xd9-\xfe]")
"""A marker; 00 and D0 … D7 belong to the data of a scan."""


def _iso(head: bytes) -> Format:
    brands = brands_of(head)
    if AVIF_BRANDS.intersection(brands):
        return Format.AVIF
    if (brands and brands[0] in HEIF_BRANDS) or {b"heic", b"heix"}.intersection(brands):
        raise UnreadableMedia(
            "The file is an HEIC or HEIF picture, which is not read here; save it as JPEG, PNG or AVIF. "
            f"Formats that are read: {ALLOWED}."
        )
    return Format.ISO


def _jpeg_pixels(head: bytes) -> int:
    for marker, start, _ in segments(head):
        if marker in SOF and start + 5 <= len(head):
            height, width = struct.unpack_from(">HH", head, start + 1)
            return int(width * height) or PIXELS_MAX
    return PIXELS_MAX


def _webp_pixels(head: bytes) -> int:
    match head[12:16]:
        case b"VP8X":
            return (1 + int.from_bytes(head[24:27], "little")) * (1 + int.from_bytes(head[27:30], "little"))
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
        case b"VP8 ":
            width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
            return width * height
        case _:
            return PIXELS_MAX
