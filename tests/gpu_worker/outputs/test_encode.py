"""PNG and MP4 files say where they come from and what they show, and a broken one is noticed."""

import ast
import io
import resource
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import gpu_worker
from domain.recipes.recipe import Kind
from gpu_worker.engines import RenderedFile, RenderedImage, RenderedVideo
from gpu_worker.outputs.encode import BrokenFile, encode, encode_png, read
from gpu_worker.outputs.mp4 import encode_mp4
from services.files.decoders.pixels import read_sound
from services.files.media.kinds import UnreadableMedia
from services.files.media.reading import probe, read_image, read_origin, read_video
from services.files.media.sounds import Sound
from tests.services.boxed_files import clap, with_aperture, with_edits
from tests.services.files.test_media_as_shown import clip, shades
from tests.services.hostile_files import jpeg_with_scans, mp4_that_claims
from tests.services.media_files import png_that_claims

IMAGE = Image.effect_noise((48, 32), 80).convert("RGB")


def test_the_origin_comes_back_in_any_script() -> None:
    prompt = "日本の猫 🎈 naïve «café»\n" + "x" * 10_000
    content = encode_png(IMAGE, {"job_id": "5f0c", "index": 2, "seed": 2**63 - 1, "model": "sdxl", "prompt": prompt})
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.text == {  # type: ignore[attr-defined]
            "Software": "Darkroom",
            "job_id": "5f0c",
            "index": "2",
            "seed": str(2**63 - 1),
            "model": "sdxl",
            "prompt": prompt,
        }
        assert image.tobytes() == IMAGE.tobytes()


def test_a_whole_png_has_its_size() -> None:
    picture = read(encode_png(IMAGE, {}), Kind.IMAGE)
    assert (picture.width, picture.height) == (48, 32)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: b"GIF89a" + content,
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:],
    ],
    ids=["empty", "no PNG", "half", "no pixels", "a flipped byte"],
)
def test_what_does_not_decode_is_a_broken_png(harm) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BrokenFile, match="no whole PNG"):
        read(harm(encode_png(IMAGE, {})), Kind.IMAGE)


def test_a_jpeg_is_no_png() -> None:
    file = io.BytesIO()
    IMAGE.save(file, "JPEG")
    with pytest.raises(BrokenFile):
        read(file.getvalue(), Kind.IMAGE)


def frames(count: int = 5, height: int = 32, width: int = 48) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Colours that move."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 40 * (n % 6))], -1) for n in range(count)]
    ).astype(np.uint8)


def an_mp4(origin: dict[str, str | int] | None = None, **changes: Any) -> bytes:
    """A video of ours."""
    given = {"frames": frames(), "fps": 16.0} | changes
    return encode(RenderedVideo(0, given["frames"], given["fps"], 1), Kind.VIDEO, origin or {})[0]


def boxes(content: bytes) -> list[str]:
    """The names of an MP4's outermost boxes, in their order."""
    names, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        names.append(content[at + 4 : at + 8].decode())
        at += size
    return names


def test_an_mp4_is_h264_in_yuv420p_with_its_index_in_front() -> None:
    content = an_mp4()
    assert boxes(content)[:2] == ["ftyp", "moov"]
    assert boxes(content)[-1] == "mdat"
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.format.name, stream.frames) == ("h264", "yuv420p", 5)
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (48, 32, 16.0)
        assert len(list(container.decode(stream))) == 5
        assert not container.streams.audio


def test_an_mp4_shows_what_was_rendered() -> None:
    shown, fps = read_video(an_mp4(fps=29.97), frames_max=5)
    assert fps == pytest.approx(29.97, abs=1e-3)
    difference = shown.astype(int) - frames()
    assert np.abs(difference).mean() < 4, "four levels of 256, which no eye sees"
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 4, "the colours are those, on average"


def test_the_origin_of_a_video_comes_back_in_any_script() -> None:
    origin: dict[str, str | int] = {"Job": "5f0c", "Seed": 2**63 - 1, "Negative prompt": "日本 🎈 «é»\n" + "x" * 10_000}
    read = read_origin(an_mp4(origin))
    assert {key: read[key] for key in origin} == {key: str(value) for key, value in origin.items()}
    assert read["Software"] == "Darkroom"


def test_equal_frames_are_equal_files_and_the_hash_of_pixels_does_not_see_the_origin() -> None:
    rendered = RenderedVideo(0, frames(), 16.0, 1)
    content, picture = encode(rendered, Kind.VIDEO, {"Seed": 1})
    assert encode(rendered, Kind.VIDEO, {"Seed": 1}) == (content, picture)
    other, same = encode(rendered, Kind.VIDEO, {"Seed": 2})
    assert other != content
    assert same == picture == read(content, Kind.VIDEO) == read(other, Kind.VIDEO)
    assert (picture.media_type, picture.width, picture.height, picture.frames, picture.fps) == (
        "video/mp4",
        48,
        32,
        5,
        16,
    )
    changed = frames()
    changed[2, :16] = 0
    assert encode(RenderedVideo(0, changed, 16.0, 1), Kind.VIDEO, {})[1].pixels_sha256 != picture.pixels_sha256


def test_the_same_frames_are_the_same_bytes_each_time_whatever_lay_in_the_memory_before() -> None:
    y, x = np.mgrid[0:256, 0:320]
    moving = np.stack([np.stack([x + 7 * n, y * x // (n + 1), x - y], -1) for n in range(30)]).astype(np.uint8)
    files = set()
    for n in range(10):
        _ = [np.full(50_000 + 7_000 * m, 25 * n, dtype=np.uint8) for m in range(20)]
        files.add(an_mp4(frames=moving))
    assert len(files) == 1


def test_the_hash_of_a_pictures_pixels_is_that_of_the_image_whatever_its_compression() -> None:
    content, picture = encode(RenderedImage(0, IMAGE, 1), Kind.IMAGE, {"Seed": 1})
    assert read(content, Kind.IMAGE) == picture
    smaller = io.BytesIO()
    IMAGE.save(smaller, "PNG", compress_level=9)
    assert read(smaller.getvalue(), Kind.IMAGE) == picture
    assert probe(smaller.getvalue()).pixels_sha256 == picture.pixels_sha256
    other = IMAGE.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert encode(RenderedImage(0, other, 1), Kind.IMAGE, {})[1].pixels_sha256 != picture.pixels_sha256


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": frames(width=47)}, "even width and height, but these are 47 x 32"),
        ({"frames": frames(height=31)}, "48 x 31"),
        ({"frames": frames()[:0]}, "needs frames"),
        ({"fps": 0.0}, "5 at 0 a second"),
    ],
)
def test_what_no_mp4_can_hold_is_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BrokenFile, match=sentence):
        an_mp4(**changes)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[1500:],
        lambda content: encode_png(IMAGE, {}),
    ],
    ids=["empty", "half", "a byte less", "no head", "a picture"],
)
def test_what_does_not_decode_is_a_broken_mp4(harm: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BrokenFile, match="are no"):
        read(harm(an_mp4()), Kind.VIDEO)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_came_as_a_file_becomes_a_png_of_ours(form: str) -> None:
    file = io.BytesIO()
    IMAGE.save(file, form)
    content, picture = encode(RenderedFile(0, file.getvalue(), 1), Kind.IMAGE, {"Job": "5f0c"})
    assert read_origin(content) == {"Software": "Darkroom", "Job": "5f0c"}
    with Image.open(file) as given:
        assert read_image(content).tobytes() == given.convert("RGB").tobytes()
    assert read(content, Kind.IMAGE) == picture


def somebody_elses_mp4() -> bytes:
    """With sound, its index at the end, names of its own, and frames that are shown in another order than they lie."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = "made elsewhere"
        video = container.add_stream("libx264", rate=24, options={"bf": "3"})
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream("aac", rate=48_000, layout="mono")
        for pixels in frames(12):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 24_000), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48_000
        container.mux(sound.encode(silence))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return file.getvalue()


def test_a_video_that_came_as_a_file_is_moved_not_encoded_again() -> None:
    given = somebody_elses_mp4()
    assert boxes(given)[-1] == "moov"
    content, picture = encode(RenderedFile(0, given, 1), Kind.VIDEO, {"Job": "5f0c", "Negative prompt": "日本"})
    assert boxes(content)[:2] == ["ftyp", "moov"]
    before, after = probe(given), probe(content)
    assert (before.frames, before.pixels_sha256) == (after.frames, after.pixels_sha256) == (12, picture.pixels_sha256)
    origin = read_origin(content)
    assert (origin["Job"], origin["Negative prompt"], "comment" in origin) == ("5f0c", "日本", False)
    assert encode(RenderedFile(0, given, 1), Kind.VIDEO, {"Job": "5f0c", "Negative prompt": "日本"})[0] == content
    with av.open(io.BytesIO(content)) as container:
        assert len(container.streams.audio) == 1
        assert sum(packet.size for packet in container.demux(container.streams.audio[0])) > 0


def test_the_worker_opens_pictures_and_videos_in_decoders_alone() -> None:
    """What a provider sends, or lies in the object store, may be made to harm: this process only writes files."""
    opening = {"av.open", "Image.open"}
    sources = list(Path(gpu_worker.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    calls = [
        f"{source.name}:{node.lineno}"
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in opening
    ]
    assert calls == []


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "content",
    [
        mp4_that_claims(2**26),
        mp4_that_claims(2**26, tracks=3),
        jpeg_with_scans(2_662),
        png_that_claims(100_000, 100_000),
    ],
    ids=["samples", "tracks", "scans", "pixels"],
)
def test_a_hostile_file_of_a_provider_costs_the_worker_nothing(content: bytes, kind: Kind) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(BrokenFile):
        encode(RenderedFile(0, content, 1), kind, {})
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_video_that_is_cut_by_its_container_is_not_moved_without_the_cut() -> None:
    with pytest.raises(BrokenFile, match="would be another one"):
        encode(RenderedFile(0, with_edits(shades(), (250, 3 * 2_048, 1, 0)), 1), Kind.VIDEO, {})
    content, picture = encode(RenderedFile(0, with_aperture(clip(), clap(32, 24)), 1), Kind.VIDEO, {})
    assert (picture.width, picture.height) == (probe(content).width, probe(content).height) == (32, 24)


def test_a_video_whose_sound_is_of_no_known_kind_is_refused_by_name() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream("ac3", rate=48_000, layout="mono")
        for pixels in frames(4):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1536), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48_000
        container.mux([*sound.encode(silence), *video.encode(None), *sound.encode(None)])
    with pytest.raises(BrokenFile, match="encoded as ac3"):
        encode(RenderedFile(0, file.getvalue(), 1), Kind.VIDEO, {})


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_that_is_not_what_was_ordered_is_broken(kind: Kind) -> None:
    other = an_mp4() if kind is Kind.IMAGE else encode_png(IMAGE, {})
    for content in (other, b"<html>", b""):
        with pytest.raises(BrokenFile):
            encode(RenderedFile(0, content, 1), kind, {})


def test_an_image_is_no_video_and_a_video_no_image() -> None:
    with pytest.raises(BrokenFile, match="A RenderedImage is no video"):
        encode(RenderedImage(0, IMAGE, 1), Kind.VIDEO, {})
    with pytest.raises(BrokenFile, match="A RenderedVideo is no image"):
        encode(RenderedVideo(0, frames(), 16.0, 1), Kind.IMAGE, {})


def coloured() -> np.ndarray:
    """Blocks of colour with hard edges at odd and even columns, on white: [height, width, 3]."""
    image = np.full((96, 96, 3), 240, np.uint8)
    image[16:48, 16:47] = (220, 20, 20)
    image[40:80, 50:81] = (20, 40, 220)
    image[60:90, 10:31] = (30, 200, 40)
    return image


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    """Decibels: how close two pictures are."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - two) ** 2)))


def test_colour_stays_where_it_is_however_often_a_video_goes_on() -> None:
    """Ten rounds: written and read with the same place for each sample of colour, and so mirror images fare alike."""
    image = coloured()
    first = None
    frames, mirrored = np.stack([image] * 3), np.stack([image[:, ::-1]] * 3)
    for _ in range(10):
        frames, _ = read_video(encode_mp4(frames, 8.0, {}), frames_max=3)
        mirrored, _ = read_video(encode_mp4(mirrored, 8.0, {}), frames_max=3)
        first = frames[0] if first is None else first
    assert psnr(frames[0], image) > 23
    assert psnr(frames[0], first) > 26
    assert abs(psnr(frames[0], image) - psnr(mirrored[0], image[:, ::-1])) < 1.5
    # The middle of what is red, weighed column by column, has not moved by a tenth of a pixel.
    assert abs(middle_of_red(frames[0]) - middle_of_red(image)) < 0.1


def middle_of_red(image: np.ndarray) -> float:
    """The column around which the red block of `coloured` lies."""
    row = image[20:36].astype(float)
    redness = (row[..., 0] - (row[..., 1] + row[..., 2]) / 2).mean(axis=0).clip(min=0)
    return float((redness * np.arange(redness.size)).sum() / redness.sum())


@pytest.mark.parametrize(
    ("rate", "layout", "channels"), [(8_000, "mono", 1), (44_100, "stereo", 2), (48_000, "5.1", 6), (32_000, "mono", 1)]
)
@pytest.mark.parametrize("seconds", [0.01, 0.7, 3.0])
def test_a_sound_is_as_long_as_its_video(rate: int, layout: str, channels: int, seconds: float) -> None:
    wave = 0.4 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate).astype(np.float32)
    sound = Sound(np.stack([wave] * channels).astype(np.float32), rate, layout)
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    content = encode_mp4(frames, 8.0, {}, sound)
    assert content == encode_mp4(frames, 8.0, {}, sound), "the same sound is the same bytes"
    assert probe(content).frames == 9
    read, others = read_sound(content)
    assert read is not None
    assert (read.rate, read.layout, others) == (rate, layout, 0)
    assert read.samples.shape[1] / rate == pytest.approx(9 / 8, abs=2048 / rate)


def test_a_sound_lies_where_its_file_says(tmp_path: Path) -> None:
    """One that begins 0.25 s after the first frame, at a rate that is not written here."""
    file = tmp_path / "late.mov"
    rate, late = 96_000, 24_000
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for _ in range(8):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        loud = av.AudioFrame.from_ndarray(np.full((1, rate // 2), 16_000, np.int16), format="s16", layout="mono")
        loud.sample_rate, loud.pts, loud.time_base = rate, late, Fraction(1, rate)
        container.mux(audio.encode(loud))
        container.mux(audio.encode(None))
    sound, _ = read_sound(file.read_bytes())
    assert sound is not None
    assert sound.rate == 48_000
    loudness = np.abs(sound.samples[0])
    assert int(np.argmax(loudness > 0.1)) == pytest.approx(0.25 * 48_000, abs=200)
    assert int((loudness > 0.1).sum()) == pytest.approx(0.5 * 48_000, abs=400)


def test_a_silent_video_has_no_sound_and_other_files_say_so() -> None:
    assert read_sound(encode_mp4(np.zeros((3, 32, 48, 3), np.uint8), 8.0, {})) == (None, 0)
    with pytest.raises(UnreadableMedia):
        read_sound(b"no video")
