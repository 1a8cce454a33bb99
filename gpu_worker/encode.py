"""What was rendered to files that carry their origin, and back to what they show."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from domain.recipe import Kind
from gpu_worker.engines import Rendered, RenderedFile, RenderedImage
from services.media import UnreadableMedia, read_image

COMPRESS_LEVEL = 1
"""Of zlib, the fastest that compresses: photographs grow by a sixth over level 6, and take a third of its time."""

Origin = Mapping[str, str | int]


class BrokenFile(Exception):
    """The bytes are no picture or video, or are cut off or damaged."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a file shows. Pixels; `frames` and `fps` (frames a second) are a video's.

    `pixels_sha256` is that of the size and of the decoded pixels alone: however they were compressed, equal pixels have
    the same.
    """

    media_type: str
    width: int
    height: int
    pixels_sha256: str
    frames: int | None = None
    fps: float | None = None


def encode(rendered: Rendered, kind: Kind, origin: Origin) -> tuple[bytes, Picture]:
    """Return the file of an output, a PNG or an MP4, and what it shows. Raises `BrokenFile`."""
    if kind is Kind.IMAGE and isinstance(rendered, RenderedImage):
        return encode_png(rendered.image, origin), picture_of(rendered.image)
    if kind is Kind.IMAGE and isinstance(rendered, RenderedFile):
        try:
            image = read_image(rendered.content)
        except UnreadableMedia as error:
            raise BrokenFile(str(error)) from None
        return encode_png(image, origin), picture_of(image)
    raise BrokenFile(f"A {type(rendered).__name__} is no {kind}.")


def read(content: bytes, kind: Kind) -> Picture:
    """Decode a whole PNG or MP4. Raises `BrokenFile`."""
    if kind is Kind.IMAGE:
        return picture_of(read_png(content))
    raise BrokenFile(f"These {len(content)} bytes are no {kind}.")


def picture_of(image: Image.Image) -> Picture:
    """Return what a PNG of this image shows."""
    return Picture("image/png", image.width, image.height, pixels_sha256(np.asarray(image.convert("RGB"))[None]))


def pixels_sha256(frames: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    """Return the hash of pixels, [frames, height, width, 3]."""
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def encode_png(image: Image.Image, origin: Origin) -> bytes:
    """Return the image as a PNG file with one text chunk for each part of its origin, and `Software`.

    Keys are PNG keywords: 1 to 79 Latin-1 characters. Values may hold any text without NUL.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in {"Software": "Darkroom", **origin}.items():
        # Falls back to an international text chunk by itself where the value is not Latin-1.
        chunks.add_text(key, str(value))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def read_png(content: bytes) -> Image.Image:
    """Decode a PNG to its last row. Raises `BrokenFile`."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            return image.copy()
    # Pillow raises OSError for what is cut off or no image, SyntaxError for a broken chunk, ValueError for a bad one.
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenFile(f"These {len(content)} bytes are no whole PNG: {error}.") from None
