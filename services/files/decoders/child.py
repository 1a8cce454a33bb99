"""A process that decodes one file after another for another process, within limits that the kernel enforces.

It is started by `bounded.py`, which sends questions and reads answers over a pair of pipes. Both begin with a
line of JSON that gives the number of bytes that follow. Before each file the process sets its own limits of memory and
processor time. From its start it can open no file and no connection, and write no file: a decoder that a file exploits
can reach little.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import av.subtitles.stream
import numpy as np
from PIL import ExifTags, Image, ImagePalette, MpoImagePlugin, TiffImagePlugin

from services.files.decoders import HEADER_BYTES_MAX
from services.files.media import reading
from services.files.media.kinds import UnreadableMedia

OPEN_FILES: Final = 3
"""Maximum number of open files: question, answer and log."""

PRELOADED: Final = (av.subtitles.stream, ExifTags, ImagePalette, MpoImagePlugin, TiffImagePlugin)
"""Modules that the libraries would import later, when no file can be opened."""

Answer = tuple[Mapping[str, Any], Iterable[Any]]
"""The header, and the pieces that follow it."""


def main() -> None:
    """Answer questions until the input ends, or a file exceeds a limit."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    Image.preinit()
    small_bytes = _address_space_bytes()
    take_limits()
    while line := questions.readline(HEADER_BYTES_MAX):
        question = json.loads(line)
        content = questions.read(question["bytes"])
        header, pieces = answered(question, content, small_bytes)
        ends = not {"bytes", "refused"}.intersection(header)
        give(answers, {**header, "ends": ends}, pieces)
        if ends:
            break


def take_limits() -> None:
    """Set the limits for the whole life of the process."""
    os.nice(5)  # requests to the API go first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def answered(question: Mapping[str, Any], content: bytes, small_bytes: int) -> Answer:
    """The answer for a file. `small_bytes` is the address space of the process before its first one."""
    try:
        _limit(resource.RLIMIT_AS, small_bytes and small_bytes + question["memory_bytes"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + question["cpu_s"]))
        return TASKS[question["task"]](content, question["options"])
    except UnreadableMedia as error:
        return {"refused": str(error)}, ()
    except MemoryError:
        return {"out_of_memory": True}, ()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:500]}, ()


def give(answers: BinaryIO, header: Mapping[str, Any], pieces: Iterable[Any]) -> None:
    """Write an answer: the header with the total size of the pieces, then the pieces."""
    answers.write(json.dumps(header).encode() + b"\n")
    answers.writelines(pieces)
    answers.flush()


def _limit(kind: int, value: int) -> None:
    """Set a soft limit; 0 sets none. Darwin has no memory limit and no way to measure it."""
    if value:
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _address_space_bytes() -> int:
    """Bytes of this process's address space; 0 if the system does not report it."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text("ascii").split()[0]) * resource.getpagesize() if statm.exists() else 0


def _probe(content: bytes, _: Mapping[str, Any]) -> Answer:
    return {"media": asdict(reading.probe(content)), "bytes": 0}, ()


def _origin(content: bytes, _: Mapping[str, Any]) -> Answer:
    return {"origin": reading.read_origin(content), "bytes": 0}, ()


def _image(content: bytes, _: Mapping[str, Any]) -> Answer:
    picture = reading.read_picture(content)
    size = {"width": picture.width, "height": picture.height, "bytes": picture.width * picture.height * 3}
    return {**size, "losses": [asdict(loss) for loss in picture.losses]}, (band.data for band in picture.bands())


def _video(content: bytes, options: Mapping[str, Any]) -> Answer:
    video = reading.read_shown_video(content, frames_max=options["frames_max"])
    count, height, width, channels = video.shape
    header = {"shape": video.shape, "fps": video.fps, "bytes": count * height * width * channels}
    return header, (frame.data for frame in video.frames())


def _sound(content: bytes, _: Mapping[str, Any]) -> Answer:
    sound, others = reading.read_sound(content)
    if sound is None:
        return {"bytes": 0}, ()
    samples = np.ascontiguousarray(sound.samples)
    told = {"shape": samples.shape, "rate": sound.rate, "layout": sound.layout, "others": others}
    return {**told, "bytes": samples.nbytes}, (samples.data,)


def _remux(content: bytes, options: Mapping[str, Any]) -> Answer:
    made = reading.remuxed_mp4(content, options["origin"])
    return {"bytes": len(made)}, (made,)


def _small(content: bytes, options: Mapping[str, Any]) -> Answer:
    small = reading.read_small(content, **options)
    return {"width": small.width, "height": small.height, "bytes": len(small.content)}, (small.content,)


TASKS: Final[Mapping[str, Callable[[bytes, Mapping[str, Any]], Answer]]] = {
    "probe": _probe,
    "origin": _origin,
    "image": _image,
    "video": _video,
    "sound": _sound,
    "remux": _remux,
    "small": _small,
}


if __name__ == "__main__":
    main()
