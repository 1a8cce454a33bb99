"""Decodes pictures with Pillow as a browser shows them: upright, in sRGB, on white.

A picture is decoded once and then converted a band of rows at a time, so that no second copy of it is held.
"""

import hashlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from domain.warning_codes import WarningCode
from services.files.media.apertures import picture_aperture
from services.files.media.claims import boxes, chunks
from services.files.media.colour import HLG, PQ, PRIMARIES, SRGB, Encoding, encoding_of, to_srgb
from services.files.media.formats import IMAGE_TYPES, Format
from services.files.media.kinds import PIXELS_MAX, Loss, UnreadableMedia, reason_of, too_large

PLUGINS: Final = (AvifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
"""Imported for their registration: the only decoders of pictures."""

BAND_PIXELS: Final = 1024 * 1024

PROFILED_MODES: Final = {"RGB ": {"RGB"}, "GRAY": {"L"}, "CMYK": {"CMYK"}}
"""The colour space of a profile, and the modes of pictures that it can apply to."""

SRGB_ENCODING: Final = Encoding()

NEARLY: Final = 2
"""A profile that moves every colour by at most this much, of 255, is sRGB by another name."""

GAMMA_OF_SRGB: Final = 0.45455
GAMMA_TOLERANCE: Final = 0.005
"""Tolerance within which a PNG's gamma means sRGB's curve."""

ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture. `image` is upright and in its own colours; `bands` gives what it shows."""

    image: Image.Image
    media_type: str
    colours: "Colours"
    losses: tuple[Loss, ...] = ()

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.image.height

    def bands(self, rows_of: int = 1) -> Iterator[NDArray[np.uint8]]:
        """What it shows from top to bottom, [rows, width, 3] in sRGB; all but the last have a multiple of `rows_of`."""
        rows = max(1, BAND_PIXELS // self.width // rows_of) * rows_of
        for top in range(0, self.height, rows):
            band = self.image.crop((0, top, self.width, min(top + rows, self.height)))
            yield self.colours.shown(band)

    def text(self) -> dict[str, str]:
        """The text chunks of a PNG."""
        text: dict[str, Any] = getattr(self.image, "text", {})
        return {key: str(value) for key, value in text.items()}


@dataclass(frozen=True, slots=True)
class Colours:
    """How the values of a picture become sRGB. `unread`: it has a profile that cannot be used."""

    profile: bytes | None = None
    encoding: Encoding = SRGB_ENCODING
    unread: bool = False

    def shown(self, band: Image.Image) -> NDArray[np.uint8]:
        """A part of the picture in sRGB; transparent pixels are white: colours hidden in them do not count."""
        if band.mode.startswith("I") or band.mode == "F":  # Pillow would not scale 16 bits of grey but clip at 255
            band = Image.fromarray((np.asarray(band).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        alpha = None
        if band.has_transparency_data:
            band = band.convert("RGBA")
            alpha, band = band.getchannel("A"), band.convert("RGB")
        elif band.mode not in {"RGB", "L", "CMYK"}:
            band = band.convert("RGB")
        made = self._in_srgb(band)
        if alpha is not None:
            made = Image.composite(made, Image.new("RGB", made.size, "white"), alpha)
        return np.asarray(made)

    def _in_srgb(self, band: Image.Image) -> Image.Image:
        if self.profile is not None:
            transform = _transform(self.profile, band.mode)
            grey = _transform(self.profile, "L") if band.mode == "RGB" else None
            if transform is not None:
                band = transform.apply(band)
            elif grey is not None:  # with transparency
                band = grey.apply(band.convert("L"))
        band = band.convert("RGB")
        return band if self.encoding.is_srgb else Image.fromarray(to_srgb(np.asarray(band), self.encoding))


def open_picture(content: bytes, found: Format) -> Picture:
    """Decode a picture. Raises `UnreadableMedia` if it is damaged, animated or too large."""
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=[found.value])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableMedia(too_large("The picture", PIXELS_MAX)) from None
    except MemoryError:
        raise
    except UnidentifiedImageError:  # its text is an address in memory
        raise UnreadableMedia(f"The picture is cut off or damaged: it cannot be read as {found.name}.") from None
    except Exception as error:  # on damaged files Pillow's readers raise anything, IndexError as well as OSError
        raise _damaged(error) from None
    if image.width * image.height > PIXELS_MAX:
        raise UnreadableMedia(too_large(f"A picture of {image.width} x {image.height}", PIXELS_MAX))
    is_multi_picture = image.format == "MPO"  # a JPEG followed by a preview or a second view: the first is the picture
    if getattr(image, "is_animated", False) and not is_multi_picture:
        raise UnreadableMedia("The picture is animated; bring a single picture, or a video.")
    try:
        image.load()
        colours = _colours(image, content, found)
        if found is Format.AVIF and (part := picture_aperture(content, image.size)) is not None:
            exif = image.getexif()
            image = image.crop((part.left, part.top, part.left + part.width, part.top + part.height))
            image.info["exif"] = exif.tobytes()
        ImageOps.exif_transpose(image, in_place=True)
    except (MemoryError, UnreadableMedia):
        raise
    except Exception as error:
        raise _damaged(error) from None
    return Picture(image, IMAGE_TYPES[found], colours, tuple(_losses(colours)))


def shown(picture: Picture) -> Image.Image:
    """What it shows, in RGB, without metadata: no profile, no location, no camera."""
    made = Image.new("RGB", (picture.width, picture.height))
    top = 0
    for band in picture.bands():
        made.paste(Image.fromarray(band), (0, top))
        top += len(band)
    return made


def shown_small(picture: Picture, side_max: int) -> Image.Image:
    """What it shows, with at most this many pixels per side; reduced band by band, never held whole in RGB."""
    by = max(1, max(picture.width, picture.height) // (2 * side_max))
    made = Image.new("RGB", (-(-picture.width // by), -(-picture.height // by)))
    top = 0
    for band in picture.bands(rows_of=by):
        small = Image.fromarray(band).reduce(by)
        made.paste(small, (0, top))
        top += small.height
    size = (picture.width, picture.height)
    scale = min(1.0, side_max / max(size))
    width, height = (max(1, round(each * scale)) for each in size)
    if by == 1 and scale == 1:
        return made
    return made.resize((width, height), Image.Resampling.LANCZOS, (0, 0, picture.width / by, picture.height / by))


def sha256_of(picture: Picture) -> str:
    """The hash of its size and what it shows."""
    digest = hashlib.sha256(f"1x{picture.height}x{picture.width}x3".encode())
    for band in picture.bands():
        digest.update(np.ascontiguousarray(band).data)
    return digest.hexdigest()


def picture_sha256(image: Image.Image) -> str:
    """Return the hash of the size and the pixels of a picture in RGB."""
    return sha256_of(Picture(image, IMAGE_TYPES[Format.PNG], Colours()))


def _damaged(error: Exception) -> UnreadableMedia:
    return UnreadableMedia(f"The picture is cut off or damaged: {reason_of(error)}.")


def _colours(image: Image.Image, content: bytes, found: Format) -> Colours:
    """In the order of the PNG specification: code points, a profile, sRGB, gamma and chromaticities."""
    code_points = _png_code_points(content) if found is Format.PNG else None
    if code_points is not None:
        return Colours(encoding=encoding_of(*code_points))
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and (code_points := _profile_code_points(profile)) is not None:
        return Colours(encoding=encoding_of(*code_points))
    if isinstance(profile, bytes) and profile:
        return Colours(_known_profile(profile), unread=not _fits(profile, image.mode))
    if found is Format.AVIF and (code_points := _avif_code_points(content)) is not None:
        return Colours(encoding=encoding_of(*code_points))
    if found is Format.PNG and "srgb" not in image.info:
        return Colours(encoding=_png_encoding(image.info))
    return Colours()


def _losses(colours: Colours) -> Iterator[Loss]:
    """Losses of colour information."""
    if colours.unread:
        yield Loss(
            WarningCode.COLOUR_PROFILE_IGNORED,
            "has a colour profile that is broken, or not for its kind of pixels. Its colours are read as sRGB.",
        )
    if colours.encoding.transfer in {PQ, HLG}:
        yield Loss(
            WarningCode.HIGH_DYNAMIC_RANGE_REDUCED,
            "is in high dynamic range (HDR). It is read in sRGB: what is brighter than white is toned down.",
        )


def _fits(profile: bytes, mode: str) -> bool:
    """Whether LittleCMS can convert pictures of this mode, or of the converted mode, with this profile."""
    modes = {mode, "RGB", "L"} if mode != "CMYK" else {mode}
    return any(_transform(profile, each) is not None for each in modes)


def _png_code_points(content: bytes) -> tuple[int, int] | None:
    """The primaries and transfer of its cICP chunk; None if there is none before the data."""
    for name, data in chunks(content):
        if name == b"cICP" and len(data) >= 4:
            return data[0], data[1]
        if name == b"IDAT":
            break
    return None


def _profile_code_points(profile: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of a profile of high dynamic range, which its curves cannot describe; ICC.1, `cicp`."""
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        name, start, size = struct.unpack_from(">4sII", profile, at)
        if name == b"cicp" and size >= 12 and start + 12 <= len(profile) and profile[start + 9] in {PQ, HLG}:
            return profile[start + 8], profile[start + 9]
    return None


def _png_encoding(info: dict[Any, Any]) -> Encoding:
    gamma = float(info.get("gamma") or 0)
    primaries = PRIMARIES[SRGB]
    given = info.get("chromaticity")
    if given is not None:
        rounded = tuple(round(each, 4) for each in given)
        is_srgb = all(abs(one - other) < 0.001 for one, other in zip(rounded, primaries, strict=True))
        primaries = primaries if is_srgb or min(rounded[1::2]) <= 0 else rounded
    if not 0.01 <= gamma <= 10:
        return Encoding()  # chromaticities without a curve mean nothing
    exponent = None if abs(gamma - GAMMA_OF_SRGB) < GAMMA_TOLERANCE else 1 / gamma
    made = Encoding(primaries, gamma=exponent)
    try:
        to_srgb(np.zeros((1, 1, 3), dtype=np.uint8), made)
    except ValueError:
        return Encoding(gamma=exponent)
    return made


def _avif_code_points(content: bytes) -> tuple[int, int] | None:
    """The primaries and transfer of its colour box."""
    for name, start, stop in boxes(content):
        if name == b"meta":
            at = content.find(b"colrnclx", start, stop)
            if at >= 0 and at + 12 <= stop:
                primaries, transfer = struct.unpack_from(">HH", content, at + 8)
                return primaries, transfer
    return None


def _known_profile(profile: bytes) -> bytes | None:
    """The profile; None if it cannot be read or is what browsers treat as sRGB."""
    transform = _transform(profile, "RGB")
    if transform is None:
        return profile if _transform(profile, "L") or _transform(profile, "CMYK") else None
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(transform.apply(Image.fromarray(cube))).astype(int)
    return None if np.abs(moved - cube).max() <= NEARLY else profile


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB for pictures of a mode.

    None if the profile is damaged or of another colour space.
    """
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode not in PROFILED_MODES.get(opened.profile.xcolor_space, ()):
            return None
        intent = ImageCms.Intent(ImageCms.getDefaultIntent(opened))
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", intent)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
