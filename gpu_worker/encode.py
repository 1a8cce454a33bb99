"""Images to PNG files that carry their origin."""

import io
from collections.abc import Mapping

from PIL import Image, PngImagePlugin

COMPRESS_LEVEL = 1
"""Of zlib, the fastest that compresses: photographs grow by a sixth over level 6, and take a third of its time."""


class BrokenPng(Exception):
    """The bytes are no PNG, or are cut off or damaged."""


def encode_png(image: Image.Image, origin: Mapping[str, str | int]) -> bytes:
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


def read_png(content: bytes) -> tuple[int, int]:
    """Decode a PNG to its last row and return its width and height in pixels. Raises BrokenPng."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            return image.size
    # Pillow raises OSError for what is cut off or no image, SyntaxError for a broken chunk, ValueError for a bad one.
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenPng(f"These {len(content)} bytes are no whole PNG: {error}.") from None
