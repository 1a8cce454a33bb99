"""Files say how they are to be shown: colours, geometry, time. What is read of them is what a browser shows."""

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from domain.recipes.recipe import Kind
from services.files.decoders import pixels
from services.files.media.colour import PRIMARIES, Encoding, encoding_of, to_srgb
from services.files.media.kinds import UnreadableMedia
from services.files.media.reading import probe, read_frame, read_image, read_video
from services.files.media.timing import beat_of, shown_at_beat, timing_of
from services.files.thumbnails import thumbnail_of
from tests.services.boxed_files import avif_grid, clap, webm_that_shows, with_aperture, with_edits
from tests.services.media_files import chunk, encoded, picture, turned

RED = (220, 20, 20)
GREEN = (20, 220, 20)


def near(pixel: Any, colour: tuple[int, int, int], by: int = 12) -> bool:
    """Equal but for what compression and rounding lose."""
    return all(abs(int(one) - other) <= by for one, other in zip(pixel, colour, strict=True))


# Profiles.


def swapped_profile() -> bytes:
    """Says of red that it is green, and the other way round."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", profile[128:132])
    at = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 136 + 12 * n for n in range(count)}
    red, green = at[b"rXYZ"], at[b"gXYZ"]
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    return bytes(profile)


def profile_of(primaries: int, gamma: float | None = None) -> bytes:
    """An ICC profile of these primaries, with sRGB's curve or a power: a copy of sRGB's with other tags."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", base[128:132])
    tags = {
        bytes(base[132 + 12 * n : 136 + 12 * n]): struct.unpack(">II", base[136 + 12 * n : 144 + 12 * n])
        for n in range(count)
    }
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _d50_columns(primaries), strict=True):
        start = tags[name][0] + 8
        base[start : start + 12] = struct.pack(">iii", *(round(value * 65_536) for value in column))
    if gamma is not None:
        for name in (b"rTRC", b"gTRC", b"bTRC"):
            start, size = tags[name]
            curve = b"para\0\0\0\0\0\0\0\0" + struct.pack(">i", round(gamma * 65_536))
            assert size >= len(curve)
            base[start : start + len(curve)] = curve
    return bytes(base)


def _d50_columns(primaries: int) -> NDArray[np.float64]:
    points = np.array(PRIMARIES[primaries]).reshape(4, 2)
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]])
    matrix = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapted = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ xyz[:, 0])) @ bradford
    return np.asarray((adapted @ matrix).T)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_profile_decides_what_is_red(kind: str) -> None:
    options: dict[str, Any] = {"quality": 95} if kind != "PNG" else {}
    content = encoded(Image.new("RGB", (128, 96), RED), kind, icc_profile=swapped_profile(), **options)
    assert near(read_image(content).getpixel((5, 5)), GREEN)
    small = Image.open(io.BytesIO(thumbnail_of(content, Kind.IMAGE).content)).convert("RGB")
    assert near(small.getpixel((5, 5)), GREEN)
    assert probe(content).pixels_sha256 == probe(encoded(read_image(content))).pixels_sha256


@pytest.mark.parametrize("mode", ["P", "RGBA", "PA"])
def test_a_profile_counts_in_every_mode_of_a_picture(mode: str) -> None:
    image = Image.new("RGB", (32, 32), RED)
    image = image.convert("RGBA") if mode == "RGBA" else image.quantize(2)
    options = {"transparency": 255} if mode == "PA" else {}
    assert near(read_image(encoded(image, icc_profile=swapped_profile(), **options)).getpixel((5, 5)), GREEN)


@pytest.mark.parametrize(("primaries", "gamma"), [(12, None), (9, None), (1, 2.2), (12, 1.8)])
def test_a_profile_and_code_points_of_the_same_colours_agree(primaries: int, gamma: float | None) -> None:
    """LittleCMS and our own arithmetic, on colours that sRGB can show."""
    shades = np.random.default_rng(3).integers(90, 170, (24, 24, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(shades), icc_profile=profile_of(primaries, gamma))
    ours = to_srgb(shades, Encoding(PRIMARIES[primaries], gamma=gamma))
    assert np.abs(np.asarray(read_image(content)).astype(int) - ours).max() <= 2


def test_a_grey_profile_and_one_that_does_not_fit_are_distinguished() -> None:
    grey = Image.linear_gradient("L")
    assert np.array_equal(
        np.asarray(read_image(encoded(grey, icc_profile=swapped_profile())))[..., 0], np.asarray(grey)
    )
    broken = encoded(picture(), icc_profile=b"no profile at all")
    assert read_image(broken).tobytes() == read_image(encoded(picture())).tobytes()


def test_a_picture_in_cmyk_is_read_in_its_colours() -> None:
    content = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95)
    red = read_image(content).getpixel((5, 5))
    assert isinstance(red, tuple)
    assert red[0] > 200
    assert max(red[1:]) < 60


def test_srgb_by_any_name_changes_no_pixel() -> None:
    shades = np.random.default_rng(4).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for content in (
        encoded(Image.fromarray(shades), icc_profile=profile),
        with_chunks(shades, (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))),
        with_chunks(shades, (b"gAMA", struct.pack(">I", 45_455))),
        with_chunks(shades, (b"cICP", bytes([1, 13, 0, 1]))),
    ):
        assert np.array_equal(np.asarray(read_image(content)), shades)


def test_what_is_read_carries_nothing_of_its_file() -> None:
    exif = turned(6)
    exif.get_ifd(0x8825)[1] = "N"
    content = encoded(picture(), "JPEG", exif=exif, icc_profile=swapped_profile(), comment=b"by somebody")
    image = read_image(content)
    assert (image.info, dict(image.getexif())) == ({}, {})
    again = encoded(image)
    assert not [each for each in (b"iCCP", b"eXIf", b"tEXt", b"iTXt") if each in again]


# What is said when colours cannot be read as a file says.


def told(content: bytes) -> list[str]:
    """The codes of what a picture loses."""
    return [loss.code for loss in pixels.read_picture(content)[1]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_profile_that_cannot_be_read_is_reported(kind: str) -> None:
    whole = profile_of(12)
    damaged = (b"no profile at all", whole[:100], whole[:128] + bytes(len(whole) - 128))
    for profile in damaged:
        assert told(encoded(picture(), kind, icc_profile=profile)) == ["colour_profile_ignored"]
    assert told(encoded(picture(), kind, icc_profile=whole)) == []
    assert told(encoded(picture(), kind)) == []
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert told(encoded(picture(), kind, icc_profile=srgb)) == []


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_a_profile_that_is_of_use_is_not_reported_in_any_mode(mode: str) -> None:
    assert told(encoded(picture().convert(mode), icc_profile=profile_of(12))) == []


def test_a_profile_of_another_kind_of_pixels_is_reported() -> None:
    cmyk = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", icc_profile=profile_of(12))
    assert told(cmyk) == ["colour_profile_ignored"]


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_profile_of_high_dynamic_range_is_toned_down_and_reported(kind: str, transfer: int) -> None:
    """Its curves say nothing of use; the code points in it do."""
    white = {16: 148, 18: 191}[transfer]  # 203 nits
    options: dict[str, Any] = {"quality": 100} if kind != "PNG" else {}
    content = encoded(Image.new("RGB", (64, 64), (white,) * 3), kind, icc_profile=bright_profile(transfer), **options)
    image, losses = pixels.read_picture(content)
    shown = image.getpixel((30, 30))
    assert isinstance(shown, tuple)
    assert 225 <= min(shown) <= max(shown) <= 255
    assert [loss.code for loss in losses] == ["high_dynamic_range_reduced"]


def bright_profile(transfer: int) -> bytes:
    """BT.2020 with PQ or HLG, as its tag `cicp` says; ICC.1:2022."""
    base = profile_of(9)
    (count,) = struct.unpack(">I", base[128:132])
    table = base[132 : 132 + 12 * count]
    moved = b"".join(
        struct.pack(">4sII", name, start + 12, size) for name, start, size in struct.iter_unpack(">4sII", table)
    )
    tag = b"cicp\0\0\0\0" + bytes([9, transfer, 0, 1])
    end = len(base) + 12
    made = base[:128] + struct.pack(">I", count + 1) + moved + struct.pack(">4sII", b"cicp", end, 12)
    made += base[132 + 12 * count :] + tag
    return struct.pack(">I", len(made)) + made[4:]


@pytest.mark.parametrize("transfer", [16, 18])
def test_code_points_of_high_dynamic_range_are_reported(transfer: int) -> None:
    pixels = np.full((8, 8, 3), 99, dtype=np.uint8)
    assert told(with_chunks(pixels, (b"cICP", bytes([9, transfer, 0, 1])))) == ["high_dynamic_range_reduced"]
    assert told(with_chunks(pixels, (b"cICP", bytes([12, 13, 0, 1])))) == []


# What a PNG says by itself.


def with_chunks(pixels: NDArray[np.uint8], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with these chunks before its data."""
    plain = encoded(Image.fromarray(pixels))
    return plain[:33] + b"".join(chunk(*each) for each in chunks) + plain[33:]


def test_a_gamma_is_undone() -> None:
    linear = np.full((8, 8, 3), 55, dtype=np.uint8)  # of light: sRGB 128
    assert near(read_image(with_chunks(linear, (b"gAMA", struct.pack(">I", 100_000)))).getpixel((1, 1)), (128,) * 3, 2)


def test_chromaticities_move_colours() -> None:
    wide = [round(value * 100_000) for value in PRIMARIES[12]]
    given_chunks = ((b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", struct.pack(">8I", *wide)))
    pixels = np.full((8, 8, 3), (150, 100, 100), dtype=np.uint8)
    shown = np.asarray(read_image(with_chunks(pixels, *given_chunks)))[1, 1]
    assert near(shown, tuple(to_srgb(pixels, encoding_of(12, 13))[1, 1]), 1)
    assert shown[0] > 153


def test_code_points_come_before_everything_else() -> None:
    pixels = np.full((8, 8, 3), RED, dtype=np.uint8)
    plain = encoded(Image.fromarray(pixels), icc_profile=swapped_profile())
    content = plain[:33] + chunk(b"cICP", bytes([1, 13, 0, 1])) + plain[33:]
    assert near(read_image(content).getpixel((1, 1)), RED, 1)


@pytest.mark.parametrize("transfer", [16, 18])
def test_a_bright_picture_is_toned_down_and_keeps_its_order(transfer: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = np.asarray(read_image(with_chunks(ramp, (b"cICP", bytes([9, transfer, 0, 1])))))[0, :, 0].astype(int)
    assert np.all(np.diff(shown) >= 0)
    assert shown[0] == 0
    assert shown[-1] >= 250
    white = {16: 148, 18: 191}[transfer]  # 203 nits
    assert 225 <= shown[white] <= 255


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40), name=st.sampled_from([b"gAMA", b"cHRM", b"cICP", b"iCCP", b"sRGB", b"eXIf"]))
def test_whatever_stands_in_a_chunk_the_picture_is_read_or_refused(data: bytes, name: bytes) -> None:
    with suppress(UnreadableMedia):
        assert probe(with_chunks(np.full((4, 4, 3), 99, dtype=np.uint8), (name, data))).width == 4


# How it lies.

SIDES = {1: "ul", 2: "ur", 3: "dr", 4: "dl", 5: "ul", 6: "ur", 7: "dr", 8: "dl"}
"""Where the dark corner of a picture is after turning it as its orientation says."""

MATRICES: dict[int, tuple[int, int, int, int]] = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
"""The same for a video: a, b, c and d of its display matrix."""


def dark_corner(pixels: NDArray[np.uint8]) -> str:
    """Where it is."""
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    corners = {
        "ul": pixels[:height, :width], "ur": pixels[:height, -width:],
        "dl": pixels[-height:, :width], "dr": pixels[-height:, -width:],
    }  # fmt: skip
    return min(corners, key=lambda name: float(corners[name].mean()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_all_orientations_of_pictures(kind: str, orientation: int) -> None:
    content = encoded(picture(), kind, exif=turned(orientation))
    shown = np.asarray(read_image(content))
    assert shown.shape[:2] == ((64, 48) if orientation >= 5 else (48, 64))
    assert (probe(content).width, probe(content).height) == shown.shape[1::-1]
    assert dark_corner(shown) == SIDES[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_videos(orientation: int) -> None:
    content = with_matrix(clip(), *MATRICES[orientation])
    shown, _ = read_video(content, frames_max=9)
    assert shown.shape[1:3] == ((64, 48) if orientation >= 5 else (48, 64))
    assert (probe(content).width, probe(content).height) == (shown.shape[2], shown.shape[1])
    assert dark_corner(shown[0]) == SIDES[orientation]
    assert dark_corner(np.asarray(read_frame(content))) == SIDES[orientation]


def clip(
    kind: str = "mp4",
    codec: str = "libx264",
    *,
    times: list[int] | None = None,
    aspect: Fraction | None = None,
    colour: tuple[int, int, int] = (220, 60, 60),
    prepare: Any = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    **tags: Any,
) -> bytes:
    """A video of one colour with a dark corner; a frame at each of `times`, in milliseconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for place, time in enumerate([0, 125, 250, 375] if times is None else times):
            pixels = np.full((size[1], size[0], 3), colour, dtype=np.uint8)
            pixels[: size[1] // 4, : size[0] // 4] = 0
            pixels[-4:] = 20 * (place % 12)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = prepare(frame) if prepare else frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        container.mux(stream.encode(None))
    return file.getvalue()


def with_matrix(content: bytes, across: int, down: int, aslant: int, along: int) -> bytes:
    """An MP4 whose track is turned."""
    at = content.index(b"tkhd") + 4 + 40
    one = 65_536
    matrix = struct.pack(">9i", across * one, down * one, 0, aslant * one, along * one, 0, 0, 0, 1 << 30)
    return content[:at] + matrix + content[at + 36 :]


@pytest.mark.parametrize(
    ("aspect", "width", "height"), [(Fraction(4, 3), 85, 48), (Fraction(1, 2), 64, 96), (Fraction(1), 64, 48)]
)
def test_pixels_that_are_no_squares_are_stretched(aspect: Fraction, width: int, height: int) -> None:
    content = clip(aspect=aspect)
    found = probe(content)
    assert (found.width, found.height) == (width, height)
    shown, _ = read_video(content, frames_max=9)
    assert shown.shape[1:3] == (height, width)
    assert read_frame(content).size == (width, height)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize(
    ("elements", "width", "height"),
    [
        ("54b0815554ba8130", 85, 48),  # shown as 85 x 48
        ("54b0814054ba8160", 64, 96),
        ("54b0818054ba8160", 64, 48),  # twice as large: that is no shape
        ("54aa810854dd8110", 48, 40),  # 8 pixels cut away below and 16 on the right
        ("54bb810854cc8110", 48, 40),  # above and on the left
    ],
)
def test_what_a_webm_says_of_its_shape_decides(codec: str, elements: str, width: int, height: int) -> None:
    content = webm_that_shows(clip("webm", codec), elements)
    assert (probe(content).width, probe(content).height) == (width, height)
    assert read_video(content, frames_max=9)[0].shape[1:3] == (height, width)
    assert read_frame(content).size == (width, height)


@pytest.mark.parametrize("elements", ["54aa8130ec820000", "54dd8140ec820000"])
def test_a_webm_that_cuts_everything_away_is_refused(elements: str) -> None:
    with pytest.raises(UnreadableMedia):
        probe(webm_that_shows(clip("webm", "libvpx"), elements))


def test_a_clean_aperture_is_what_is_shown() -> None:
    """Of 64 x 48 with a dark corner of 16 x 12, without it: 32 x 24 pixels around the middle, or from a place on."""
    whole, _ = read_video(clip(), frames_max=9)
    for aperture, left, top in ((clap(32, 24), 16, 12), (clap(32, 24, -16, 12), 0, 24), (clap(32, 24, 16, -12), 32, 0)):
        content = with_aperture(clip(), aperture)
        shown, _ = read_video(content, frames_max=9)
        assert np.array_equal(shown, whole[:, top : top + 24, left : left + 32])
        assert (probe(content).width, probe(content).height) == read_frame(content).size == (32, 24)
    assert probe(with_aperture(clip(), clap(64, 48))) == probe(clip())


def test_a_clean_aperture_is_cut_before_the_video_is_stretched_and_turned() -> None:
    content = with_matrix(with_aperture(clip(aspect=Fraction(2)), clap(32, 24, -16, -12)), *MATRICES[6])
    shown, _ = read_video(content, frames_max=9)
    assert shown.shape[1:3] == (64, 24)
    assert (probe(content).width, probe(content).height) == (24, 64)
    assert dark_corner(shown[0]) == SIDES[6]


@pytest.mark.parametrize("aperture", [clap(66, 48), clap(64, 48, 2), clap(0, 48), clap(-8, 8)])
def test_a_clean_aperture_outside_the_picture_is_refused(aperture: bytes) -> None:
    with pytest.raises(UnreadableMedia, match="not inside"):
        probe(with_aperture(clip(), aperture))


def test_a_grid_of_tiles_is_one_picture() -> None:
    content = avif_grid(("red", "green", "blue", "white"), 2, (100, 120))
    assert (probe(content).width, probe(content).height) == (100, 120)
    image = read_image(content)
    for place, colour in (
        ((5, 5), (255, 0, 0)),
        ((90, 5), (0, 128, 0)),
        ((5, 110), (0, 0, 255)),
        ((90, 110), (255,) * 3),
    ):
        assert near(image.getpixel(place), colour)


def test_a_clean_aperture_of_a_picture_is_what_is_shown() -> None:
    content = avif_grid(("red", "green", "blue", "white"), 2, (100, 120), clap(64, 64, 18, 28))
    assert (probe(content).width, probe(content).height) == (64, 64)
    image = read_image(content)
    assert near(image.getpixel((5, 5)), (255, 0, 0))
    assert near(image.getpixel((60, 60)), (255, 255, 255))
    with pytest.raises(UnreadableMedia, match="not inside"):
        probe(avif_grid(("red", "green"), 2, (128, 64), clap(130, 64)))


# Its colours, as a video.


def encoded_as(colorspace: int, color_range: int) -> Any:
    """A frame in this matrix and range."""

    def prepare(frame: Any) -> Any:
        return frame.reformat(
            format="yuv420p", dst_colorspace=colorspace, dst_color_range=color_range, src_color_range=ColorRange.JPEG
        )

    return prepare


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601, Colorspace.BT2020])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrix_and_range_of_a_video_are_heeded(matrix: Colorspace, color_range: ColorRange) -> None:
    code_point = {Colorspace.ITU709: 1, Colorspace.ITU601: 6, Colorspace.BT2020: 9}[matrix]
    content = clip(prepare=encoded_as(matrix, color_range), colorspace=code_point, color_range=color_range)
    assert near(read_video(content, frames_max=9)[0][0, 30, 50], (220, 60, 60), 8)
    assert near(read_frame(content).getpixel((50, 30)), (220, 60, 60), 8)


def test_a_large_video_that_names_no_matrix_is_bt_709() -> None:
    content = clip(size=(1280, 720), times=[0], prepare=encoded_as(Colorspace.ITU709, ColorRange.MPEG))
    assert near(read_video(content, frames_max=9)[0][0, 600, 900], (220, 60, 60), 8)


@pytest.mark.parametrize("transfer", [ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084])
def test_a_bright_video_is_toned_down(transfer: ColorTrc) -> None:
    """Grey of 203 nits is white, and what was colourful stays so."""
    tags = {"colorspace": 9, "color_primaries": ColorPrimaries.BT2020, "color_trc": transfer}
    white = {ColorTrc.ARIB_STD_B67: 191, ColorTrc.SMPTE2084: 148}[transfer]
    grey = clip(colour=(white,) * 3, prepare=encoded_as(Colorspace.BT2020, ColorRange.MPEG), **tags)
    shown = read_video(grey, frames_max=9)[0][0, 30, 50]
    assert 225 <= shown.min() <= shown.max() <= 255
    red = clip(colour=(white, 60, 60), prepare=encoded_as(Colorspace.BT2020, ColorRange.MPEG), **tags)
    plain = clip(colour=(white, 60, 60), prepare=encoded_as(Colorspace.BT2020, ColorRange.MPEG), colorspace=9)
    assert saturation(read_video(red, frames_max=9)[0][0, 30, 50]) > saturation(
        read_video(plain, frames_max=9)[0][0, 30, 50]
    )


def saturation(pixel: NDArray[np.uint8]) -> float:
    """Of a colour, 0 … 1."""
    return float(1 - pixel.min() / max(1, pixel.max()))


def test_a_video_with_wide_primaries_is_converted() -> None:
    pixels = np.full((1, 1, 3), (180, 110, 110), dtype=np.uint8)
    content = clip(
        colour=(180, 110, 110), prepare=encoded_as(Colorspace.ITU709, ColorRange.MPEG), colorspace=1,
        color_primaries=ColorPrimaries.SMPTE432, color_trc=ColorTrc.IEC61966_2_1,
    )  # fmt: skip
    expected = to_srgb(pixels, encoding_of(12, 13))[0, 0]
    assert near(read_video(content, frames_max=9)[0][0, 30, 50], tuple(expected), 5)


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p", "yuv422p"])
def test_other_depths_and_samplings_are_read(pixel_format: str) -> None:
    content = clip(pixel_format=pixel_format)
    assert near(read_video(content, frames_max=9)[0][0, 30, 50], (220, 60, 60), 8)


@pytest.mark.parametrize("size", [(65, 49), (97, 95), (64, 49)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    content = clip("webm", "libvpx-vp9", size=size)
    assert (probe(content).width, probe(content).height) == size
    assert read_video(content, frames_max=9)[0].shape[1:3] == size[::-1]


# When it shows.


@pytest.mark.parametrize(("kind", "codec"), [("webm", "libvpx-vp9"), ("mp4", "libx264")])
def test_time_stamps_decide_how_long_a_video_is(kind: str, codec: str) -> None:
    pause = [*range(0, 500, 33), *(4_000 + time for time in range(500, 1_000, 33))]
    content = clip(kind, codec, times=pause)
    found = probe(content)
    assert found.duration_s == pytest.approx(5.0, abs=0.15)
    assert found.frames == len(pause)
    assert found.fps == pytest.approx(len(pause) / 5.0, rel=0.05)
    shown, fps = read_video(content, frames_max=1_000)
    assert fps == pytest.approx(30, rel=0.02)
    assert len(shown) / fps == pytest.approx(5.0, abs=0.15)
    middle = shown[len(shown) // 2, -2, 5]
    assert np.array_equal(middle, shown[len(shown) // 3, -2, 5])  # of the pause


def test_a_video_that_begins_later_is_as_long_as_it_shows() -> None:
    content = clip("webm", "libvpx", times=[2_000, 2_125, 2_250, 2_375])
    found = probe(content)
    assert (found.frames, found.fps) == (4, pytest.approx(8.0))
    assert found.duration_s == pytest.approx(0.5, abs=0.01)


def shades() -> bytes:
    """Eight frames at 8 a second, each lighter than the one before."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=8, options={"crf": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place in range(8):
            pixels = np.full((48, 64, 3), 20 + 25 * place, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


FRAME = 2_048
"""Ticks of the track for each frame of `shades`."""


@pytest.mark.parametrize(
    ("edits", "places"),
    [
        ([(500, 3 * FRAME, 1, 0)], [3, 4, 5, 6]),
        ([(500, -1, 1, 0), (1_000, 0, 1, 0)], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([(500, 4 * FRAME, 1, 0), (500, 0, 1, 0)], [4, 5, 6, 7, 0, 1, 2, 3]),
        ([(250, 0, 1, 0), (250, 4 * FRAME, 1, 0)], [0, 1, 4, 5]),
        ([(250, 0, 1, 0), (250, 0, 1, 0)], [0, 1, 0, 1]),
    ],
)
def test_an_edit_list_decides_which_frames_show(edits: list[Any], places: list[int]) -> None:
    content = with_edits(shades(), *edits)
    shown, fps = read_video(content, frames_max=99)
    assert [round((frame.mean() - 20) / 25) for frame in shown] == places
    found = probe(content)
    assert (found.frames, found.fps, found.duration_s) == (len(places), fps, pytest.approx(len(places) / 8))


@pytest.mark.parametrize("speed", [(0, 0), (0, 0x8000), (2, 0), (0xFFFF, 0)])
def test_an_edit_at_another_speed_is_refused(speed: tuple[int, int]) -> None:
    with pytest.raises(UnreadableMedia, match="another speed"):
        probe(with_edits(shades(), (1_000, 0, *speed)))


def test_a_slow_video_of_few_frames_does_not_become_too_many() -> None:
    content = clip("webm", "libvpx", times=[0, 10, 20, 300_000])
    with pytest.raises(UnreadableMedia, match="more than 1000 frames"):
        read_video(content, frames_max=1_000)


@st.composite
def steady(draw: st.DrawFn) -> tuple[list[float], float]:
    """Times of a steady beat, rounded to milliseconds as WebM does."""
    fps = draw(st.sampled_from([8.0, 12.5, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0]))
    start = draw(st.floats(0, 100))
    return [round(start + place / fps, 3) for place in range(draw(st.integers(1, 200)))], fps


@given(steady())
def test_a_steady_beat_is_known_though_its_times_are_rounded(beat: tuple[list[float], float]) -> None:
    times, fps = beat
    found = timing_of(times, 0, fps)
    assert found.steady
    assert found.fps == fps
    assert found.seconds == pytest.approx(len(times) / fps)
    if len(times) > 30:
        undeclared = timing_of(times, 0, 1_000.0)
        assert undeclared.fps == pytest.approx(fps, rel=0.01)


@given(st.lists(st.floats(0.002, 3), min_size=2, max_size=60))
def test_each_frame_shows_as_long_as_its_time_stamps_say(gaps: list[float]) -> None:
    times = list(np.cumsum([0.0, *gaps]))
    seconds = times[-1] + gaps[-1]
    fps = beat_of(times)
    places = shown_at_beat(times, seconds, fps)
    assert places == sorted(places)
    assert len(places) / fps == pytest.approx(seconds, abs=1 / fps)
    for place, time in enumerate(times[:-1]):
        shown_s = places.count(place) / fps
        assert shown_s == pytest.approx(times[place + 1] - time, abs=1.01 / fps)


# Formats.


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"hevc", b"msf1", b"heim"])
def test_heic_is_refused_by_its_name(brand: bytes) -> None:
    content = struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1heic" + clip()
    for read in (probe, read_image):
        with pytest.raises(UnreadableMedia, match="HEIC"):
            read(content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_avif_is_read_whole(mode: str) -> None:
    content = encoded(picture(200, 120).convert(mode), "AVIF", quality=95)
    found = probe(content)
    assert (found.kind, found.media_type, found.width, found.height) == ("image", "image/avif", 200, 120)
    assert dark_corner(np.asarray(read_image(content))) == "ul"


def test_an_animated_avif_is_refused() -> None:
    content = encoded(picture(), "AVIF", save_all=True, append_images=[picture(colour="blue")])
    with pytest.raises(UnreadableMedia, match="animated"):
        probe(content)


def samples() -> Iterator[tuple[str, bytes]]:
    """A file of each format."""
    for kind in ("PNG", "JPEG", "WEBP", "AVIF"):
        yield kind, encoded(picture(), kind)
    yield "MP4", clip()
    yield "WebM", clip("webm", "libvpx")


@pytest.mark.parametrize(("name", "content"), list(samples()), ids=lambda each: each if isinstance(each, str) else "")
def test_no_format_falls_through_to_another_decoder(name: str, content: bytes) -> None:
    """The beginning of one format with another behind it is the first one, or nothing."""
    for _, other in samples():
        mixed = content[:16] + other
        try:
            found = probe(mixed)
        except UnreadableMedia:
            continue
        assert found.media_type == probe(content).media_type


def test_a_decoder_that_is_not_of_the_list_is_refused_by_name() -> None:
    for codec in ("mjpeg", "prores_ks"):
        file = io.BytesIO()
        with av.open(file, "w", format="mov") as container:
            stream: Any = container.add_stream(codec, rate=8)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv422p10le"
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
        with pytest.raises(UnreadableMedia, match=r"not read here; what is read: H\.264"):
            probe(file.getvalue())
