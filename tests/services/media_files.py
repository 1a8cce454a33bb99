"""Files for the tests, made as people's programs make them: by Pillow and PyAV."""

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def picture(width: int = 64, height: int = 48, colour: str = "red") -> Image.Image:
    """A picture of one colour with a dark upper left corner, by which one sees how it is turned."""
    image = Image.new("RGB", (width, height), colour)
    image.paste((0, 0, 0), (0, 0, width // 4, height // 4))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    """What a camera writes that was held this way."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def video(
    kind: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 20,
    fps: int = 16,
    size: tuple[int, int] = (64, 48),
    degrees: int = 0,
    to: Path | None = None,
    **options: str,
) -> bytes:
    """A video of noise, the upper left corner of it dark. With `to` it is written there first, as faststart needs."""
    file: Any = io.BytesIO() if to is None else str(to)
    with av.open(file, "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if degrees:
            stream.set_display_rotation(degrees)
        for index in range(frames):
            pixels = np.random.default_rng(index).integers(100, 256, (size[1], size[0], 3), dtype=np.uint8)
            pixels[: size[1] // 2, : size[0] // 2] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue() if to is None else to.read_bytes()


def sound(kind: str, codec: str, *, seconds: float = 1.0, rate: int = 48_000, cover: bytes | None = None) -> bytes:
    """A tone; with `cover`, a JPEG, it has a picture as music has."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        picture_stream: Any = None
        if cover is not None:
            picture_stream = container.add_stream("mjpeg")
            picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuvj420p"
            picture_stream.disposition = av.stream.Disposition.attached_pic
        tone = (np.sin(np.arange(int(rate * seconds)) / rate * 2_765) * 8_000).astype(np.int16)[None, :]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        context = stream.codec_context
        resampler = av.AudioResampler(context.format or "s16", "mono", rate, context.frame_size or 0)
        if picture_stream is not None and cover is not None:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts = picture_stream, 0, 0
            container.mux(packet)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
