"""Encodes rendered outputs as files that carry their origin, and decodes files."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image, PngImagePlugin

from domain.recipes.recipe import Kind
from gpu_worker.engines import Rendered, RenderedFile, RenderedImage, RenderedVideo
from gpu_worker.outputs.mp4 import encode_mp4
from services.files.decoders.bounded import probe, remuxed_mp4
from services.files.decoders.pixels import read_image
from services.files.media.kinds import UnreadableMedia
from services.files.media.pictures import picture_sha256

COMPRESS_LEVEL = 1
"""zlib's level 1, the fastest that compresses: photographs are a sixth larger than at level 6, in a third of the
time."""

Origin = Mapping[str, str | int]

NAMES: Final = {Kind.IMAGE: "PNG", Kind.VIDEO: "MP4"}
MEDIA_TYPES: Final = {Kind.IMAGE: "image/png", Kind.VIDEO: "video/mp4"}
"""The media type of stored outputs, by kind."""


class BrokenFile(Exception):
    """The bytes are no picture or video, or are cut off or damaged."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file shows. Pixels; `frames` and `fps` (frames per second) are a video's.

    `pixels_sha256` can be computed again from the file alone, however its pixels were compressed: see
    services.files.media. A PNG's covers the rendered pixels. An MP4's covers its decoded frames, because H.264 is
    lossy; the encoder makes equal files of equal frames, and so equal hashes.
    """

    media_type: str
    width: int
    height: int
    pixels_sha256: str
    frames: int | None = None
    fps: float | None = None


def encode(rendered: Rendered, kind: Kind, origin: Origin) -> tuple[bytes, FileFacts]:
    """Return the file of an output, a PNG or an MP4, and what it shows. Raises `BrokenFile`.

    A picture that came as a file is decoded and encoded as a new PNG. A video that came as a file is not re-encoded:
    its packets are copied into a new MP4.
    """
    match rendered, kind:
        case RenderedImage(image=image), Kind.IMAGE:
            return encode_png(image, origin), picture_of(image)
        case RenderedVideo(frames=frames, fps=fps, sound=sound), Kind.VIDEO:
            try:
                content = encode_mp4(frames, fps, origin, sound)
            except ValueError as error:
                raise BrokenFile(str(error)) from None
            return content, read(content, kind)
        case RenderedFile(content=given), Kind.IMAGE:
            try:
                image = read_image(given)
            except UnreadableMedia as error:
                raise BrokenFile(str(error)) from None
            return encode_png(image, origin), picture_of(image)
        case RenderedFile(content=given), Kind.VIDEO:
            shown = read(given, kind)
            try:
                content = remuxed_mp4(given, origin)
            except UnreadableMedia as error:
                raise BrokenFile(str(error)) from None
            moved = read(content, kind)
            if moved != shown:
                raise BrokenFile(
                    "The video is cut by an edit list or shown in part, and would be another one as our MP4."
                )
            return content, moved
        case _:
            raise BrokenFile(f"A {type(rendered).__name__} is no {kind}.")


def read(content: bytes, kind: Kind) -> FileFacts:
    """Decode a whole PNG or MP4. Raises `BrokenFile`."""
    try:
        media = probe(content)
    except UnreadableMedia as error:
        raise BrokenFile(f"These {len(content)} bytes are no whole {NAMES[kind]}: {error}") from None
    if media.media_type != MEDIA_TYPES[kind] or media.width is None or media.height is None:
        raise BrokenFile(f"These {len(content)} bytes are no {NAMES[kind]} but {media.media_type}.")
    if media.pixels_sha256 is None:
        raise BrokenFile("The video's format of pixels cannot be read; it has to be yuv420p.")
    return FileFacts(media.media_type, media.width, media.height, media.pixels_sha256, media.frames, media.fps)


def picture_of(image: Image.Image) -> FileFacts:
    """Return what a PNG of this image shows."""
    return FileFacts("image/png", image.width, image.height, picture_sha256(image.convert("RGB")))


def encode_png(image: Image.Image, origin: Origin) -> bytes:
    """Return the image as a PNG file with one text chunk for each part of its origin, and `Software`.

    Keys are PNG keywords: 1 to 79 Latin-1 characters. Values may hold any text without NUL.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in {"Software": "Darkroom", **origin}.items():
        # Falls back to an international text chunk by itself if the value is not Latin-1.
        chunks.add_text(key, str(value))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=chunks, compress_level=COMPRESS_LEVEL)
    return file.getvalue()
