"""A line of TCP to a server that can be cut, refused, held still, and made to lose an answer: how networks fail."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CHUNK_BYTES_MAX: Final = 64 * 1024


class Line:
    """Listens on a port of this machine and passes everything on, until it is asked for something else."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        """`connect`: a connection to the server behind it. Raises OSError while there is none."""
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answers_to_lose = 0
        self._refusing = False
        self.port = 0

    async def open(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End all of it."""
        self.cut()
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """Every connection breaks, in mid-word."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def away(self, seconds: float) -> None:
        """Cut, and refuse everybody for so long."""
        self._refusing = True
        self.cut()
        await asyncio.sleep(seconds)
        self._refusing = False

    async def hang(self, seconds: float) -> None:
        """Nothing gets through for so long, and nobody learns."""
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._flowing.set()

    def lose_answers(self, number: int) -> None:
        """What the server says next, so many times, is lost with its connection."""
        self._answers_to_lose = number

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._pass_on(reader, server_writer, is_answer=False),
                self._pass_on(server_reader, writer, is_answer=True),
            )
        finally:
            self._writers -= {writer, server_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES_MAX):
                await self._flowing.wait()
                if is_answer and self._answers_to_lose:
                    self._answers_to_lose -= 1
                    break
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort()
