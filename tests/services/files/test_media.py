"""Media are what decoding them shows; what is broken, too large or no media at all is refused with a sentence."""

import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from services.files.media import containers, formats, sounds, videos
from services.files.media.kinds import Media, UnreadableMedia
from services.files.media.reading import probe, read_image, read_origin, read_video
from tests.services.media_files import chunk, encoded, picture, png_that_claims, sound, turned, video

AUDIO = [
    ("wav", "pcm_s16le", "audio/wav"),
    ("mp3", "libmp3lame", "audio/mpeg"),
    ("flac", "flac", "audio/flac"),
    ("ogg", "libopus", "audio/ogg"),
    ("mp4", "aac", "audio/mp4"),
    ("webm", "libopus", "audio/webm"),
]


# Pictures.


def what_it_is(content: bytes) -> Media:
    """What a file turned out to be, its pixels aside: they have a hash, which other tests compare."""
    found = probe(content)
    assert found.pixels_sha256 is not None
    return replace(found, pixels_sha256=None)


@pytest.mark.parametrize("kind", sorted(formats.IMAGE_TYPES))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_is_what_it_decodes_to(kind: str, mode: str) -> None:
    content = encoded(picture().convert(mode), kind)
    assert what_it_is(content) == Media("image", formats.IMAGE_TYPES[kind], 64, 48)
    assert (read_image(content).mode, read_image(content).size) == ("RGB", (64, 48))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "I;16"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    grey = np.linspace(0, 65_535, 64 * 48).reshape(48, 64).astype(np.uint16)
    image = Image.fromarray(grey) if mode == "I;16" else picture().convert(mode)
    shown = read_image(encoded(image))
    assert shown.mode == "RGB"
    if mode == "I;16":  # all shades, not white wherever it is more than 255
        assert np.array_equal(np.asarray(shown)[..., 0], grey >> 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_stands_upright_as_its_camera_was_held(kind: str) -> None:
    lying = encoded(picture(), kind, exif=turned(6))  # to be turned by 90 degrees, clockwise
    assert what_it_is(lying) == Media("image", formats.IMAGE_TYPES[kind], 48, 64)
    shown = np.asarray(read_image(lying).convert("L"))
    assert shown.shape == (64, 48)
    assert shown[2, -3] < 30 < shown[2, 2]  # the dark corner is on the right now


def test_a_jpeg_with_another_picture_behind_is_its_first() -> None:
    content = encoded(picture(), "MPO", save_all=True, append_images=[picture(colour="blue")])
    assert what_it_is(content) == Media("image", "image/jpeg", 64, 48)
    assert np.asarray(read_image(content))[40, 60, 0] > 200


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(kind: str) -> None:
    content = encoded(picture(), kind, save_all=True, append_images=[picture(colour="blue")])
    assert "animated" in refused(content)


def test_a_gif_is_refused_also_when_it_moves() -> None:
    still = encoded(picture(), "GIF")
    moving = encoded(picture(), "GIF", save_all=True, append_images=[picture(colour="blue")])
    for content in (still, moving):
        assert "PNG, JPEG, WebP" in refused(content)


@pytest.mark.parametrize("kind", sorted(formats.IMAGE_TYPES))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_picture_that_is_cut_off_is_refused(kind: str, share: float) -> None:
    noise = Image.effect_noise((64, 48), 60)
    content = encoded(noise, kind)
    assert "damaged" in refused(content[: int(len(content) * share)])


def test_a_picture_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(encoded(picture()))
    content[content.index(b"IHDR") + 14] ^= 1
    assert "damaged" in refused(bytes(content))


@pytest.mark.parametrize(("width", "height"), [(8192, 8193), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    assert "too large" in refused(png_that_claims(width, height))
    with pytest.raises(UnreadableMedia, match="too large"):
        read_origin(png_that_claims(width, height))


def test_text_that_unpacks_to_too_much_is_refused() -> None:
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000)))
    plain = encoded(picture())
    assert "damaged" in refused(plain[:33] + comment + plain[33:])


# Videos.


@pytest.mark.parametrize(
    ("kind", "codec", "media_type"),
    [
        ("mp4", "libx264", "video/mp4"),
        ("mp4", "mpeg4", "video/mp4"),
        ("mov", "libx264", "video/quicktime"),
        ("webm", "libvpx", "video/webm"),
        ("webm", "libvpx-vp9", "video/webm"),
    ],
)
@pytest.mark.parametrize("frames", [1, 20])
def test_a_video_is_what_it_decodes_to(kind: str, codec: str, media_type: str, frames: int) -> None:
    content = video(kind, codec, frames=frames)
    assert what_it_is(content) == Media("video", media_type, 64, 48, frames, 16.0, round(frames / 16, 3))
    pixels, fps = read_video(content, frames_max=frames)
    assert (pixels.shape, pixels.dtype, fps) == ((frames, 48, 64, 3), np.uint8, 16.0)
    assert pixels[:, 4:12, 4:12].mean() < 60 < pixels[:, 30:, 40:].mean()


def test_a_video_stands_upright_as_its_camera_was_held() -> None:
    content = video(degrees=-90)  # to be turned by 90 degrees, clockwise
    assert what_it_is(content) == Media("video", "video/mp4", 48, 64, 20, 16.0, 1.25)
    pixels, _ = read_video(content, frames_max=20)
    assert pixels.shape == (20, 64, 48, 3)
    assert pixels[:, 4:12, -12:-4].mean() < 60 < pixels[:, 4:12, 4:12].mean()  # the dark corner is on the right now


def test_a_video_of_more_frames_than_wanted_is_not_read() -> None:
    with pytest.raises(UnreadableMedia, match="more than 19 frames"):
        read_video(video(), frames_max=19)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_a_video_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    at_the_end, at_the_start = video(), video(to=tmp_path / "fast.mp4", movflags="faststart")
    assert at_the_start.index(b"moov") < at_the_start.index(b"mdat")
    for content in (at_the_end, at_the_start, video("webm", "libvpx")):
        beginning = content[: int(len(content) * share)]
        refused(beginning)
        with pytest.raises(UnreadableMedia):
            read_video(beginning, frames_max=100)


def test_a_video_of_three_hours_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = video("mp4", "mpeg4", frames=10_800, fps=1, size=(16, 16))

    def decode(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(videos, "refuse_frame", decode)
    assert "10800 s long; 600 s are the most" in refused(content)


def test_frames_too_large_or_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = video()
    monkeypatch.setattr(videos, "FRAMES_MAX", 19)
    assert "19 are the most" in refused(content)
    monkeypatch.setattr(videos, "FRAMES_MAX", 100)
    monkeypatch.setattr(videos, "VIDEO_PIXELS_MAX", 64 * 48 * 12)
    assert "12 are the most" in refused(content)
    with pytest.raises(UnreadableMedia, match="12 are the most"):
        read_video(content, frames_max=20)
    monkeypatch.setattr(containers, "FRAME_PIXELS_MAX", 64 * 48 - 1)
    assert "64 x 48 is too large" in refused(content)


def test_a_file_with_video_of_another_kind_is_refused() -> None:
    assert "WebM" in refused(video("matroska", "libx264"))
    refused(video("avi", "mpeg4"))
    refused(encoded(picture(), "TIFF"))


# Sounds.


@pytest.mark.parametrize(("kind", "codec", "media_type"), AUDIO)
def test_a_sound_is_what_it_decodes_to(kind: str, codec: str, media_type: str) -> None:
    found = probe(sound(kind, codec))
    assert (found.kind, found.media_type) == ("audio", media_type)
    assert found.duration_s == pytest.approx(1.0, abs=0.06)  # encoders pad to whole frames
    assert (found.width, found.height, found.frames, found.fps) == (None,) * 4


@pytest.mark.parametrize(
    ("kind", "codec", "media_type"), [("mp4", "aac", "audio/mp4"), ("mp3", "libmp3lame", "audio/mpeg")]
)
def test_a_sound_with_a_cover_is_a_sound(kind: str, codec: str, media_type: str) -> None:
    content = sound(kind, codec, cover=encoded(picture(), "JPEG"))
    assert (probe(content).kind, probe(content).media_type) == ("audio", media_type)
    with pytest.raises(UnreadableMedia, match="no video"):
        read_video(content, frames_max=10)


@pytest.mark.parametrize(("kind", "codec"), [("flac", "flac"), ("mp4", "aac"), ("webm", "libopus"), ("ogg", "libopus")])
def test_a_sound_that_is_cut_off_is_refused(kind: str, codec: str) -> None:
    content = sound(kind, codec)
    refused(content[: len(content) // 2])


def test_a_sound_longer_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (containers, sounds):
        monkeypatch.setattr(module, "SECONDS_MAX", 0.5)
    for kind, codec, _ in AUDIO:
        assert "0.5 s" in refused(sound(kind, codec))


def test_a_sound_without_a_sample_is_refused() -> None:
    silent = sound("wav", "pcm_s16le", seconds=0.5)
    refused(silent[: silent.index(b"data")] + b"data" + bytes(4))


# What is none of them.


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"a text that is named fog.png\n" * 50, b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(10_000)],
    ids=["empty", "a byte", "text", "svg", "zeros"],
)
def test_what_is_no_media_is_refused(content: bytes) -> None:
    refused(content)
    with pytest.raises(UnreadableMedia):
        read_image(content)


def test_a_refusal_says_what_is_read() -> None:
    assert formats.ALLOWED in refused(b"a text that is named fog.png\n" * 50)


@pytest.mark.parametrize("read", [probe, read_origin, lambda content: read_video(content, frames_max=9)])
def test_a_playlist_opens_nothing(
    read: Callable[[bytes], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "secret.mp4").write_bytes(video())
    monkeypatch.chdir(tmp_path)
    with HTTPServer(("127.0.0.1", 0), Trap) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/secret.ts"
        try:
            for content in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
                "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
                "ffconcat version 1.0\nfile secret.mp4\n",
                f"<?xml version='1.0'?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>",
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
            ):
                with pytest.raises(UnreadableMedia):
                    read(content.encode())
        finally:
            server.shutdown()
    assert asked == []


def test_whatever_the_damage_it_is_refused_or_read() -> None:
    chance = random.Random(11)
    noise = Image.effect_noise((64, 48), 60)
    whole = [
        *(encoded(noise, kind, exif=turned(6)) for kind in formats.IMAGE_TYPES),
        encoded(noise, "MPO", save_all=True, append_images=[noise]),
        video(frames=4),
        video("webm", "libvpx", frames=4),
        *(sound(kind, codec, seconds=0.1) for kind, codec, _ in AUDIO),
    ]
    outcomes = set()
    for _ in range(1_500):
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.choice([1, 4, 20])):
            damaged[chance.randrange(min(400, len(damaged)))] = chance.randrange(256)
        for read in (probe, read_image, read_origin):
            try:
                read(bytes(damaged))
                outcomes.add("read")
            except UnreadableMedia as refusal:
                outcomes.add(f"refused{str(refusal)[-1]}")
    assert outcomes == {"read", "refused."}


# Where it comes from.


def test_a_file_says_where_it_comes_from() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Job", "42")
    chunks.add_itxt("Prompt", "a lighthouse, ö")
    assert read_origin(encoded(picture(), pnginfo=chunks)) == {"Job": "42", "Prompt": "a lighthouse, ö"}
    assert read_origin(encoded(picture(), "JPEG")) == {}
    assert "encoder" in read_origin(video())


def refused(content: bytes) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(UnreadableMedia) as caught:
        probe(content)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "<none>" not in sentence
    return sentence
