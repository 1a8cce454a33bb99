"""What others bring is decoded in processes with limits: the same answers, and no file takes more than its share."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.files.decoders import bounded, pixels
from services.files.decoders.bounded import DECODERS, DecodingUnavailable, Limits
from services.files.media import reading
from services.files.media.formats import format_of, weight_of
from services.files.media.kinds import UnreadableMedia
from tests.services.hostile_files import jpeg_with_scans, mp4_that_claims, png_of_one_colour, webp_of_one_colour
from tests.services.media_files import encoded, picture, sound, turned, video

WHOLE: dict[str, bytes] = {
    **{kind: encoded(picture(), kind, exif=turned(6)) for kind in ("PNG", "JPEG", "WEBP", "AVIF")},
    "two pictures": encoded(picture(), "MPO", save_all=True, append_images=[picture(colour="blue")]),
    "palette": encoded(picture().convert("P")),
    "grey with alpha": encoded(picture().convert("LA")),
    "MP4": video(frames=4),
    "MPEG-4": video("mp4", "mpeg4", frames=4),
    "MOV": video("mov", frames=4),
    "WebM": video("webm", "libvpx-vp9", frames=4),
    "VP8": video("webm", "libvpx", frames=4),
    "WAV": sound("wav", "pcm_s16le", seconds=0.1),
    "MP3": sound("mp3", "libmp3lame", seconds=0.1),
    "MP3 with a cover": sound("mp3", "libmp3lame", seconds=0.1, cover=encoded(picture(), "JPEG")),
    "FLAC": sound("flac", "flac", seconds=0.1),
    "Ogg": sound("ogg", "libopus", seconds=0.1),
    "M4A": sound("mp4", "aac", seconds=0.1),
}


ORIGIN = {"Job": "5f0c", "Prompt": "fog " * 2_000}


@pytest.fixture(autouse=True)
def fresh_decoders() -> Iterator[None]:
    """Of this test alone; decoding goes on after it."""
    bounded.end()
    bounded.begin()
    yield
    bounded.begin()


def told(read: Callable[[bytes], object], content: bytes) -> object:
    """What comes of it, or the sentence with which it is refused."""
    try:
        return read(content)
    except UnreadableMedia as refused:
        return str(refused)


def remuxed(content: bytes) -> bytes:
    return bounded.remuxed_mp4(content, ORIGIN)


def remuxed_here(content: bytes) -> bytes:
    return reading.remuxed_mp4(content, ORIGIN)


def test_a_process_tells_of_every_format_what_this_one_would() -> None:
    """It can open no file: whatever a library loads late would be missed here."""
    for name, content in WHOLE.items():
        assert bounded.probe(content) == reading.probe(content), name
        assert bounded.read_origin(content) == reading.read_origin(content), name
        weight = weight_of(format_of(content))
        if weight == "picture":
            assert pixels.read_image(content).tobytes() == reading.read_image(content).tobytes(), name
        elif weight == "video" and reading.probe(content).kind == "video":
            there, here = pixels.read_video(content, frames_max=9), reading.read_video(content, frames_max=9)
            assert np.array_equal(there[0], here[0]), name
            assert there[1] == here[1], name
        if reading.probe(content).kind != "audio":
            small = bounded.small_picture(content, is_video=weight == "video", side_max=32, quality=80)
            assert max(small.width, small.height) == 32, name
        if weight == "video":
            assert told(remuxed, content) == told(remuxed_here, content), name
        damaged = content[: len(content) // 2]
        assert told(bounded.probe, damaged) == told(reading.probe, damaged), name


def test_files_are_decoded_side_by_side_each_with_its_own_answer() -> None:
    pictures = [encoded(picture(8 + place, 9)) for place in range(12)]
    found: dict[int, int | None] = {}

    def read(place: int) -> None:
        found[place] = bounded.probe(pictures[place]).width

    threads = [threading.Thread(target=read, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {place: 8 + place for place in range(12)}


@pytest.mark.parametrize(
    "content",
    [mp4_that_claims(2**26), mp4_that_claims(2**26, tracks=3), mp4_that_claims(10**9), jpeg_with_scans(2_662)],
    ids=["samples", "tracks", "more samples", "scans"],
)
def test_what_a_file_cannot_hold_is_refused_before_it_is_decoded(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(UnreadableMedia, match=r"more than fits|too many scans"):
        reading.probe(content)
    with pytest.raises(UnreadableMedia, match=r"more than fits|too many scans"):
        remuxed(content)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("make", "pixel_bytes"), [(png_of_one_colour, 8), (webp_of_one_colour, bounded.PIXEL_BYTES)])
def test_the_largest_pictures_are_read_within_their_memory(make: Callable[[int], bytes], pixel_bytes: int) -> None:
    side = 4096
    content = make(side)
    program = (
        "import resource, sys; from services.files.media.reading import probe\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = probe(sys.stdin.buffer.read())\n"
        "print(found.width, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True, timeout=100)
    width, taken = map(int, done.stdout.split())
    assert width == side
    assert taken < side * side * pixel_bytes + 64 * bounded.MIB


def test_a_file_that_needs_more_memory_than_its_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "PIXEL_BYTES", 1)
    short = {**bounded.LIMITS, "picture": replace(bounded.LIMITS["picture"], memory_bytes=bounded.MIB)}
    monkeypatch.setattr(bounded, "LIMITS", short)
    with pytest.raises(UnreadableMedia, match="MB of memory"):
        bounded.probe(png_of_one_colour(4096))
    monkeypatch.undo()
    assert bounded.probe(encoded(picture())).width == 64


def test_a_file_that_takes_too_long_to_decode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts whole seconds: at the latest, the process that decodes it again and again passes one."""
    monkeypatch.setattr(bounded, "LIMITS", {"picture": Limits(500 * bounded.MIB, cpu_s=0.01, wall_s=100)})
    with pytest.raises(UnreadableMedia, match=r"takes more than 0\.01 s"):
        probe_often(jpeg_with_scans(79))


def probe_often(content: bytes) -> None:
    for _ in range(20):
        bounded.probe(content)


def test_a_decoder_that_does_not_answer_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LIMITS", {"picture": Limits(500 * bounded.MIB, cpu_s=100, wall_s=0.1)})
    with pytest.raises(DecodingUnavailable):
        bounded.probe(jpeg_with_scans(79))
    assert DECODERS.busy == 0


def test_whoever_ends_waits_for_no_file() -> None:
    caught: list[BaseException] = []

    def read() -> None:
        try:
            bounded.probe(jpeg_with_scans(79))
        except DecodingUnavailable as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    deadline = time.monotonic() + 30
    while not DECODERS.busy and time.monotonic() < deadline:
        pass
    bounded.end()
    thread.join(20)
    assert len(caught) == 1
    for read in (bounded.probe, remuxed):
        with pytest.raises(DecodingUnavailable):
            read(WHOLE["MP4"])
    bounded.begin()
    assert bounded.probe(encoded(picture())).width == 64


def test_a_decoder_that_dies_takes_nobody_along() -> None:
    bounded.probe(encoded(picture()))
    [idle] = DECODERS._idle
    os.kill(idle.pid, 9)
    deadline = time.monotonic() + 20
    while idle.lives and time.monotonic() < deadline:
        pass
    assert bounded.probe(encoded(picture())).width == 64


def test_a_decoder_can_open_no_file_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_ADMIN_TOKEN", "a-secret-of-ours-1234")
    bounded.probe(encoded(picture()))
    [idle] = DECODERS._idle
    process = Path(f"/proc/{idle.pid}")
    if not process.exists():
        pytest.skip("this system does not show its processes as files")
    assert b"secret" not in (process / "environ").read_bytes()
    limits = (process / "limits").read_text("ascii")
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["3", "3"]]
    assert len(list((process / "fd").iterdir())) <= 3


def test_a_decoder_is_small_again_after_a_large_file() -> None:
    bounded.probe(webp_of_one_colour(6000))
    bounded.probe(encoded(picture()))
    assert all(rss_bytes(child.pid) < 200 * bounded.MIB for child in DECODERS._idle)


def test_a_decoder_is_kept_however_large_the_program_is_that_started_it() -> None:
    """A new process inherits the peak of memory of the one that starts it."""
    program = (
        "from services.files.decoders import bounded\n"
        "import sys; content = sys.stdin.buffer.read()\n"
        "large = b'.' * (700 * bounded.MIB)\n"
        "pids = [bounded.probe(content) and [child.pid for child in bounded.DECODERS._idle] for _ in range(3)]\n"
        "print(len(pids[0]), pids[0] == pids[1] == pids[2])"
    )
    content = encoded(picture())
    done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True, timeout=100)
    assert done.stdout.split() == [b"1", b"True"]


def rss_bytes(pid: int) -> int:
    """The memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def test_no_decoder_outlives_the_program_that_started_it() -> None:
    program = (
        "import os, sys; from services.files.decoders import bounded\n"
        "from services.files.decoders.bounded import DECODERS\n"
        "bounded.probe(sys.stdin.buffer.read())\n"
        "print(DECODERS._idle[0].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=encoded(picture()), capture_output=True, check=False, timeout=60
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
            return
    raise AssertionError("it still runs")


def test_small_pictures_are_what_the_whole_one_shows() -> None:
    whole = Image.effect_noise((1500, 900), 90).convert("RGB")
    small = bounded.small_picture(encoded(whole), is_video=False, side_max=512, quality=90)
    assert (small.width, small.height) == (512, 307)
