"""What a thumbnail shows: the whole picture, small; of a video, a frame of its first half."""

import io

import pytest
from PIL import ExifTags, Image

from domain.recipes.recipe import Kind
from services.files.media.kinds import UnreadableMedia
from services.files.media.reading import read_frame, read_image
from services.files.thumbnails import RETRY_S_MAX, SIDE_PX_MAX, TRIES_MAX, pause_after, thumbnail_of
from tests.services.pictures import RED, encoded, mp4, opened, png

CLEAR_RED = (200, 30, 30, 0)
WHITE = (255, 255, 255)


def near(pixel: object, colour: tuple[int, ...]) -> bool:
    """Equal but for what compression loses."""
    assert isinstance(pixel, tuple)
    return len(pixel) == len(colour) and all(abs(one - other) <= 6 for one, other in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1536, 1024), (512, 341)),
        ((1024, 1536), (341, 512)),
        ((1024, 1024), (512, 512)),
        ((513, 512), (512, 511)),
        ((512, 512), (512, 512)),
        ((333, 77), (333, 77)),
        ((1, 1), (1, 1)),
        ((4096, 3), (512, 1)),
    ],
)
def test_the_longest_side_is_bounded_and_nothing_is_enlarged(size: tuple[int, int], small: tuple[int, int]) -> None:
    made = thumbnail_of(png(*size), Kind.IMAGE)
    image = opened(made.content)
    assert (made.width, made.height) == image.size
    assert image.size == small
    assert max(image.size) <= SIDE_PX_MAX
    assert near(image.convert("RGB").getpixel((0, 0)), RED)


def test_a_thumbnail_is_smaller_than_its_file() -> None:
    noise = Image.effect_noise((1024, 1024), 40).convert("RGB")
    assert len(thumbnail_of(encoded(noise), Kind.IMAGE).content) < len(encoded(noise)) / 10


def test_it_stands_upright_and_carries_nothing_but_pixels() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    exif[ExifTags.Base.Orientation] = 6  # turned by a quarter
    Image.new("RGB", (40, 20)).save(file, "PNG", icc_profile=b"a profile of colours", exif=exif)
    content = thumbnail_of(file.getvalue(), Kind.IMAGE).content
    assert opened(content).size == (20, 40)
    assert not [name for name in (b"ICCP", b"EXIF", b"XMP ", b"camera") if name in content]


# Transparency.


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P with one clear colour", "P with shades of clear"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 20), CLEAR_RED)
    image.paste((*RED, 255), (0, 0, 20, 20))
    file = io.BytesIO()
    if mode == "P with one clear colour":
        painted = Image.new("P", (40, 20), 1)
        painted.putpalette([*RED, 0, 0, 0])
        painted.paste(0, (0, 0, 20, 20))
        painted.save(file, "PNG", transparency=1)
    elif mode == "P with shades of clear":
        image.quantize(4).save(file, "PNG")
    else:
        image.convert(mode).save(file, "PNG")
    shown = opened(thumbnail_of(file.getvalue(), Kind.IMAGE).content).convert("RGB")
    grey = round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2])
    assert near(shown.getpixel((5, 10)), (grey, grey, grey) if mode == "LA" else RED)
    assert near(shown.getpixel((35, 10)), WHITE)


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("1", 1), ("P", 0), ("RGB", RED)])
def test_pictures_of_any_mode_become_colours(mode: str, colour: int | tuple[int, ...]) -> None:
    assert opened(thumbnail_of(png(30, 20, colour, mode), Kind.IMAGE).content).size == (30, 20)


# Posters.


def test_a_poster_is_the_frame_after_a_quarter() -> None:
    greys = list(range(0, 250, 10))  # 25 frames
    poster = opened(thumbnail_of(mp4(greys, 640, 360), Kind.VIDEO).content)
    assert poster.size == (512, 288)
    assert near(poster.convert("RGB").getpixel((9, 9)), (60, 60, 60))  # the seventh


@pytest.mark.parametrize("frames", range(1, 10))
def test_a_poster_is_of_the_first_half_however_short_the_video(frames: int) -> None:
    greys = [20 + 25 * place for place in range(frames)]
    pixel = read_frame(mp4(greys)).getpixel((9, 9))
    place = min(range(frames), key=lambda each: abs(greys[each] - pixel[0]))
    assert place <= (frames - 1) / 2


def test_only_as_much_as_needed_is_decoded() -> None:
    content = mp4([80] * 40)
    cut = content.rindex(b"moov")  # the index stands at the end: damage lies among the last frames
    damaged = bytearray(content)
    damaged[cut - 200 : cut - 20] = bytes(180)
    assert near(read_frame(bytes(damaged)).getpixel((9, 9)), (80, 80, 80))


@pytest.mark.parametrize("content", [b"", b"no video at all", png(), mp4([80] * 12)[:700]], ids=len)
def test_what_is_no_video_has_no_frame(content: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        read_frame(content)


@pytest.mark.parametrize("content", [b"", b"no picture at all", png()[:60], mp4([80])], ids=len)
def test_what_is_no_picture_has_no_thumbnail(content: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        thumbnail_of(content, Kind.IMAGE)


def test_an_opaque_picture_is_read_as_it_is() -> None:
    assert read_image(png(4, 4)).getpixel((0, 0)) == RED
    assert read_image(png(4, 4, (*RED, 255), "RGBA")).getpixel((0, 0)) == RED


# Patience.


def test_pauses_double_up_to_a_bound() -> None:
    pauses = [pause_after(tries) for tries in range(1, TRIES_MAX + 1)]
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses == sorted(pauses)
    assert max(pauses) == RETRY_S_MAX
