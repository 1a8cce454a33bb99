"""Real files to look at: PNGs of one colour or with transparency, and MP4s whose frames tell their place."""

import io
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image

Colour = tuple[int, ...]

RED: Colour = (200, 30, 30)


def png(width: int = 64, height: int = 48, colour: Colour | int = RED, mode: str = "RGB") -> bytes:
    """A picture of one colour."""
    return encoded(Image.new(mode, (width, height), colour))


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def mp4(greys: Sequence[int], width: int = 96, height: int = 64, fps: int = 8) -> bytes:
    """A video of one frame for each grey, 0 … 255; only the first is a key frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for grey in greys:
            pixels = np.full((height, width, 3), grey, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """The picture in a WebP; fails when it is anything else."""
    return Image.open(io.BytesIO(content), formats=["WEBP"])
