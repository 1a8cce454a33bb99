"""Files to upload: those without a known size, such as pipes and devices, are copied first."""

import asyncio
import contextlib
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, Final

from api.cli.remote.failures import NoFile

COPY_BYTES_MAX: Final = 1024**3
"""Maximum bytes of a file without a known size: no server can be set to take a larger upload."""

PIECE_BYTES: Final = 1024**2


async def opened(file: Path) -> IO[bytes]:
    """The file, at its beginning, with the size that the system says. Raises `OSError` and `NoFile`."""
    facts = await asyncio.to_thread(file.stat)
    if stat.S_ISDIR(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_size):
        return await asyncio.to_thread(file.open, "rb")
    return await _copied(file)  # files of /proc have the size 0, and contents


async def _copied(file: Path) -> IO[bytes]:
    """A copy of the file. A thread waits for the writer of a pipe, so that Ctrl-C ends the command."""
    loop = asyncio.get_running_loop()
    copied: asyncio.Future[IO[bytes]] = loop.create_future()

    def copy() -> None:
        try:
            made = _copy(file)
        except (OSError, NoFile) as error:
            settle(partial(copied.set_exception, error))
        else:
            settle(partial(copied.set_result, made))

    def settle(settled: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the command has ended
            loop.call_soon_threadsafe(lambda: None if copied.done() else settled())

    Thread(target=copy, daemon=True).start()
    return await copied


def _copy(file: Path) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    size = 0
    with file.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            size += len(piece)
            if size > COPY_BYTES_MAX:
                copy.close()
                raise NoFile(f"{file} is larger than {COPY_BYTES_MAX:,} bytes, which no server takes.")
            copy.write(piece)
    copy.seek(0)
    return copy
