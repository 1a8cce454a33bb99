"""Small files of every format that is read, and what damage, chance and ill will make of them: the same for a seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageCms

from tests.services.media_files import encoded, picture, sound, turned, video

EXTREMES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**26, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers at which sizes and counts go wrong."""


def seeds(folder: Path) -> dict[str, bytes]:
    """A whole file of each kind. `folder` is where those are written that need a real file."""
    noise = Image.effect_noise((24, 16), 60)
    colours = noise.convert("RGB")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    small = {"frames": 3, "size": (32, 16)}
    return {
        "png": encoded(colours, exif=turned(6), icc_profile=profile),
        "png palette": encoded(picture(24, 16).convert("P"), transparency=1),
        "png alpha": encoded(colours.convert("RGBA")),
        "png 16 bits": encoded(Image.new("I;16", (24, 16), 999)),
        "jpeg": encoded(colours, "JPEG", exif=turned(3), icc_profile=profile),
        "jpeg progressive": encoded(colours, "JPEG", progressive=True),
        "jpeg cmyk": encoded(colours.convert("CMYK"), "JPEG"),
        "jpeg of two": encoded(colours, "MPO", save_all=True, append_images=[colours]),
        "webp": encoded(colours, "WEBP", exif=turned(8)),
        "webp lossless": encoded(colours, "WEBP", lossless=True),
        "webp alpha": encoded(colours.convert("RGBA"), "WEBP"),
        "avif": encoded(colours, "AVIF", exif=turned(5)),
        "avif alpha": encoded(colours.convert("RGBA"), "AVIF"),
        "mp4": video(**small),  # type: ignore[arg-type]
        "mp4 fast start": video(to=folder / "fast.mp4", movflags="faststart", **small),  # type: ignore[arg-type]
        "mp4 in fragments": video(**small, **fragments),  # type: ignore[arg-type]
        "mp4 turned": video(degrees=-90, **small),  # type: ignore[arg-type]
        "mp4 of mpeg-4": video("mp4", "mpeg4", **small),  # type: ignore[arg-type]
        "mp4 of h.265": video("mp4", "libx265", **small),  # type: ignore[arg-type]
        "mov": video("mov", **small),  # type: ignore[arg-type]
        "webm": video("webm", "libvpx", **small),  # type: ignore[arg-type]
        "webm of vp9": video("webm", "libvpx-vp9", **small),  # type: ignore[arg-type]
        "wav": sound("wav", "pcm_s16le", seconds=0.02),
        "mp3": sound("mp3", "libmp3lame", seconds=0.1),
        "mp3 with a cover": sound("mp3", "libmp3lame", seconds=0.1, cover=encoded(colours, "JPEG")),
        "flac": sound("flac", "flac", seconds=0.05),
        "ogg": sound("ogg", "libopus", seconds=0.05),
        "m4a": sound("mp4", "aac", seconds=0.1),
        "weba": sound("webm", "libopus", seconds=0.05),
    }


def mutants(whole: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Without end; each is a file with one to eight things wrong."""
    chance = random.Random(seed)
    while True:
        made = bytearray(chance.choice(whole))
        for _ in range(chance.choice([1, 1, 2, 4, 8])):
            if made:
                chance.choice(CHANGES)(made, chance, whole)
        yield bytes(made)


def _place(made: bytearray, chance: random.Random) -> int:
    """Heads decide more than data."""
    return chance.randrange(min(len(made), chance.choice([64, 512, len(made)])))


def _flip(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    made[_place(made, chance)] ^= 1 << chance.randrange(8)


def _byte(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    made[_place(made, chance)] = chance.randrange(256)


def _number(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at, size = _place(made, chance), chance.choice([1, 2, 4])
    value = chance.choice(EXTREMES) & ((1 << 8 * size) - 1)
    made[at : at + size] = value.to_bytes(size, chance.choice(["big", "little"]))


def _cut(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del made[_place(made, chance) :]


def _leave_out(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = _place(made, chance)
    del made[at : at + chance.choice([1, 4, 100])]


def _again(made: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = _place(made, chance)
    piece = made[at : at + chance.choice([4, 64, 1000])]
    made[at:at] = piece * chance.choice([1, 1, 50])


def _splice(made: bytearray, chance: random.Random, whole: Sequence[bytes]) -> None:
    other = chance.choice(whole)
    at, start = _place(made, chance), chance.randrange(len(other))
    made[at : at + chance.choice([0, 32])] = other[start : start + chance.choice([8, 64, 4000])]


CHANGES: Final[Sequence[Callable[[bytearray, random.Random, Sequence[bytes]], None]]] = (
    _flip, _flip, _byte, _byte, _number, _number, _cut, _leave_out, _again, _splice,
)  # fmt: skip
