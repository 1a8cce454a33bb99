"""`python -m benchmarks.listeners PORT TOKEN CLIENTS AFTER`: clients of the event stream, cheap ones, in one process.

Prints `ready` when all have heard the beginning of their streams. When its standard input ends, it prints one line of
JSON: for each position how long after the epoch, in seconds, each client had it.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import cast

import uvloop


class Listener(asyncio.Protocol):
    """One stream. Its chunks are looked through for ids; nothing else is parsed."""

    def __init__(self, request: bytes, heard: dict[int, list[float]], begun: "asyncio.Future[None]") -> None:
        self._request = request
        self._heard = heard
        self._begun = begun
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note when which event came."""
        now = time.time()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"id: "):
                self._heard[int(line[4:])].append(now)
            elif line.startswith(b"retry:") and not self._begun.done():
                self._begun.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """A client that was cut off would make the figures look better than they are."""
        if not self._begun.done():
            self._begun.set_exception(ConnectionError("The server closed the connection."))


async def listen(port: int, token: str, clients: int, after: int) -> dict[int, list[float]]:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    heard: dict[int, list[float]] = defaultdict(list)
    head = f"Host: x\r\nAuthorization: Bearer {token}\r\nLast-Event-ID: {after}\r\n\r\n"
    request = f"GET /v1/events HTTP/1.1\r\n{head}".encode()
    begun: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    for one in begun:
        await loop.create_connection(lambda one=one: Listener(request, heard, one), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*begun)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return heard


if __name__ == "__main__":
    print(json.dumps(uvloop.run(listen(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))
