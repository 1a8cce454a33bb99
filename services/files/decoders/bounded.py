"""Decodes files in separate processes with limits.

Each file gets memory and processor time by its claimed size; the kernel enforces these limits, and ends a process that
exceeds them. A process decodes one file at a time and is used again. The callers decide how many run at a time. `end`
kills them all: a program that stops does not wait for a file.
"""

import atexit
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, Final, cast

from services.files.decoders import HEADER_BYTES_MAX
from services.files.media.formats import Weight, format_of, pixels_claimed, weight_of
from services.files.media.kinds import (
    PIXELS_MAX,
    SOUND_BYTES_MAX,
    VIDEO_BYTES_MAX,
    Media,
    SmallPicture,
    UnreadableMedia,
)

log = logging.getLogger(__name__)

MIB: Final = 1024**2

PIXEL_BYTES: Final = 20
"""Bytes of memory per pixel of a picture. Measured with Pillow 13: 5 for PNG and JPEG, 16 for WebP."""

FILE_COPIES: Final = 3
"""Copies of a file in memory while it is decoded."""

IDLE_MAX: Final = 4
"""Maximum number of idle processes kept for the next file, about 50 MB each."""

USED_UP_BYTES: Final = 200 * MIB
"""Bytes that a process may still hold after its answer; with more it takes no further file. A new one is small."""

ENDING_S: Final = 0.5
"""Seconds for a process to end after its input closes."""

SMALL_BYTES_MAX: Final = 16 * MIB
"""Maximum bytes of a small picture."""

REMUX_GROWTH: Final = 2
"""A video grows by the size of its tables when it is remuxed."""

ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""The environment of the processes. Ours holds secrets, and each thread and arena would take address space, which is
limited."""

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class DecodingUnavailable(Exception):
    """The file was not decoded because time ran out or the program is ending; it may be readable."""

    code = "decoding_unavailable"


STOPPED: Final = "The file was not decoded in time, or Darkroom is ending; try again in a moment."


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for one file: bytes of memory without its pixels, seconds of processor time, seconds in total."""

    memory_bytes: int
    cpu_s: float
    wall_s: float


LIMITS: Final[Mapping[Weight, Limits]] = {
    "picture": Limits(128 * MIB, cpu_s=30, wall_s=120),
    "sound": Limits(256 * MIB, cpu_s=60, wall_s=240),
    "video": Limits(1024 * MIB, cpu_s=300, wall_s=900),
}
"""Limits by weight. The largest accepted files take a quarter of this on a processor of 2020."""


def probe(content: bytes) -> Media:
    """Decode a file to its end and describe it. Raises `UnreadableMedia` and `DecodingUnavailable`."""
    header, _ = DECODERS.ask("probe", content)
    return Media(**header["media"])


def read_origin(content: bytes) -> dict[str, str]:
    """Return the origin stored in the file. Raises `UnreadableMedia` and `DecodingUnavailable`."""
    header, _ = DECODERS.ask("origin", content)
    return {str(key): str(text) for key, text in header["origin"].items()}


def remuxed_mp4(content: bytes, origin: Mapping[str, str | int]) -> bytes:
    """Return the same video and its first sound track, not re-encoded, as an MP4 with this origin.

    Raises `UnreadableMedia` and `DecodingUnavailable`.
    """
    bytes_max = REMUX_GROWTH * len(content) + SMALL_BYTES_MAX
    _, made = DECODERS.ask("remux", content, {"origin": dict(origin)}, bytes_max=bytes_max)
    return bytes(made)


def small_picture(content: bytes, *, is_video: bool, side_max: int, quality: int) -> SmallPicture:
    """Return a picture, or a frame of a video, as a small WebP. Raises `UnreadableMedia` and `DecodingUnavailable`."""
    options = {"is_video": is_video, "side_max": side_max, "quality": quality}
    header, made = DECODERS.ask("small", content, options, bytes_max=SMALL_BYTES_MAX)
    return SmallPicture(bytes(made), header["width"], header["height"])


def begin() -> None:
    """Allow decoding after `end`."""
    DECODERS.begin()


def end() -> None:
    """Kill every decoder; current and later callers get `DecodingUnavailable`."""
    DECODERS.end()


class _Child:
    """A decoding process. `kill` may be called from any thread."""

    def __init__(self) -> None:
        root = Path(__file__).parents[3]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._process = subprocess.Popen(  # no shell, and the command is ours
            [sys.executable, "-P", "-m", "services.files.decoders.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**inherited, **ENVIRONMENT, "PYTHONPATH": str(root)},
            start_new_session=True,  # Ctrl-C in the terminal must reach only us
        )
        # Popen has None for what is no pipe, and the bare protocol of a file for what is one.
        self._to = cast("BufferedWriter", self._process.stdin)
        self._answers = cast("BufferedReader", self._process.stdout)
        self.was_killed = False

    def ask(self, question: Mapping[str, Any], content: bytes, bytes_max: int) -> tuple[dict[str, Any], bytearray]:
        """The answer's header and content. Raises `EOFError` or `OSError` if the process ends first."""
        self._to.write(json.dumps(question).encode() + b"\n")
        self._to.write(content)
        self._to.flush()
        line = self._answers.readline(HEADER_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise EOFError
        header: dict[str, Any] = json.loads(line)
        size = int(header.get("bytes", 0))
        if not 0 <= size <= bytes_max:
            raise EOFError
        pieces = bytearray(size)
        if self._answers.readinto(pieces) != size:
            raise EOFError
        return header, pieces

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether it can take a file."""
        return self._process.poll() is None

    @property
    def is_small(self) -> bool:
        """Whether it released the memory of its last file; true if the system does not report it."""
        with suppress(OSError):
            statm = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()
            return int(statm[1]) * resource.getpagesize() < USED_UP_BYTES
        return True

    def kill(self) -> None:
        """Kill it immediately."""
        self.was_killed = True
        self._process.kill()

    def ended(self) -> int:
        """Wait until it has ended, and release its resources; returns its exit status.

        Killed if it does not end by itself.
        """
        for pipe in (self._to, self._answers):
            with suppress(OSError):  # data that could not be written
                pipe.close()
        try:
            return self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Decoders:
    """The decoding processes of this program. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._ended = False

    def ask(
        self, task: str, content: bytes, options: Mapping[str, Any] | None = None, *, bytes_max: int = 0
    ) -> tuple[dict[str, Any], bytearray]:
        """The answer to one question. Raises `UnreadableMedia` and `DecodingUnavailable`."""
        weight = weight_of(format_of(content))
        pixels = min(pixels_claimed(content), PIXELS_MAX) if weight == "picture" else 0
        limits = LIMITS[weight]
        memory_bytes = limits.memory_bytes + pixels * PIXEL_BYTES + len(content) * FILE_COPIES
        if task == "video":
            memory_bytes += VIDEO_BYTES_MAX
        if task == "sound":
            memory_bytes += 3 * SOUND_BYTES_MAX  # its pieces, and their concatenation
        if task == "remux":
            memory_bytes += 2 * bytes_max  # the output, and its copy for the answer
        question = {
            "task": task,
            "options": options or {},
            "bytes": len(content),
            "memory_bytes": memory_bytes,
            "cpu_s": limits.cpu_s,
        }
        child = self._take()
        watch = threading.Timer(limits.wall_s, child.kill)
        watch.daemon = True
        watch.start()
        try:
            header, pieces = child.ask(question, content, bytes_max)
        except (EOFError, OSError, ValueError):  # it ended, or its answer is invalid
            header, pieces = {"ends": True}, bytearray()
        except BaseException:
            self._give_back(child, ends=True)
            raise
        finally:
            watch.cancel()
        status = self._give_back(child, ends=bool(header.get("ends", True)))
        if "bytes" not in header:
            raise _why(header, status, limits, memory_bytes, was_killed=child.was_killed)
        return header, pieces

    @property
    def busy(self) -> int:
        """The number of processes that decode a file."""
        return len(self._busy)

    def begin(self) -> None:
        """Accept files again."""
        with self._lock:
            self._ended = False

    def end(self) -> None:
        """Kill all of them, and accept no more files."""
        with self._lock:
            self._ended = True
            idle, self._idle = self._idle, []
            for child in (*idle, *self._busy):
                child.kill()
        for child in idle:
            child.ended()

    def _take(self) -> _Child:
        with self._lock:
            if self._ended:
                raise DecodingUnavailable(STOPPED)
            child = self._idle.pop() if self._idle else None
            if child is not None:
                self._busy.add(child)
        if child is not None and child.lives:
            return child
        if child is not None:  # it was killed
            self._give_back(child, ends=True)
        return self._started()

    def _started(self) -> _Child:
        child = _Child()
        with self._lock:
            self._busy.add(child)
            if self._ended:
                child.kill()
        return child

    def _give_back(self, child: _Child, *, ends: bool) -> int:
        """Keep it for the next file, or end it; returns its exit status, 0 if it is kept."""
        ends = ends or not child.is_small
        with self._lock:
            self._busy.discard(child)
            if not ends and not child.was_killed and len(self._idle) < IDLE_MAX:
                self._idle.append(child)
                return 0
        return child.ended()


def _why(
    header: Mapping[str, Any], status: int, limits: Limits, memory_bytes: int, *, was_killed: bool
) -> UnreadableMedia | DecodingUnavailable:
    """The reason for a missing answer. `status` is the exit status of the process."""
    if "refused" in header:
        return UnreadableMedia(str(header["refused"]))
    if was_killed or status == -signal.SIGKILL:  # by us, or by a system that is out of memory
        return DecodingUnavailable(STOPPED)
    if "out_of_memory" in header:
        return UnreadableMedia(
            f"The file needs more than {memory_bytes // MIB} MB of memory to be decoded, the most for its size. "
            "Save it in a simpler form."
        )
    if status == -signal.SIGXCPU:
        return UnreadableMedia(
            f"The file takes more than {limits.cpu_s:g} s to be decoded. Save it smaller, or in a simpler form."
        )
    log.warning("a decoder failed with status %d: %s", status, header.get("failed", "it said nothing"))
    return UnreadableMedia("The file is damaged, or of a kind that is not read here: decoding it failed.")


DECODERS: Final = Decoders()
"""The decoders of this program. None runs before the first file."""

atexit.register(end)
