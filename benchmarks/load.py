"""`python -m benchmarks.load HOST PORT PATH TOKEN CLIENTS SECONDS`: a cheap HTTP client that posts job after job.

It is a process of its own and speaks as little HTTP as it can, so that the server gets the machine. It prints one line
of JSON: requests a second, milliseconds at the median and the 99th percentile, and how many answers were not 202.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

WARM_S: Final = 0.5
"""Measured only after this long."""

BODY: Final = json.dumps(
    {
        "job_type": "sdxl_image_fast",
        "prompt": "a lighthouse on a cliff at dusk, warm light, detailed",
        "negative_prompt": "blurry, low quality, watermark, text",
        "quantity": 3,
        "params": {"steps": 15},
        "tags": ["benchmark"],
    }
).encode()


Address = tuple[str, int]
"""Host and port."""

Answered = Callable[[float, bool], bool]
"""Called for each answer: seconds it took, and whether the job was accepted. Says whether to post one more."""


@dataclass
class Tally:
    """What all clients saw; times are in seconds."""

    begins_at: float
    ends_at: float
    taken: list[float] = field(default_factory=list)
    refused: int = 0

    def answered(self, taken_s: float, accepted: bool) -> bool:
        """Count it if it falls into the measured time."""
        now = time.perf_counter()
        if self.begins_at <= now <= self.ends_at:
            self.taken.append(taken_s)
            self.refused += not accepted
        return now <= self.ends_at


class Client(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next request."""

    def __init__(self, request: bytes, answered: Answered, finished: "asyncio.Future[None]") -> None:
        self._request = request
        self._answered = answered
        self._finished = finished
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Gather an answer; go on when it is whole."""
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if self._answered(time.perf_counter() - self._sent_at, head.startswith(b"HTTP/1.1 202")):
            self._send()
            return
        if not self._finished.done():
            self._finished.set_result(None)
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """A server that hangs up ends the measurement: its figure would mean nothing."""
        if not self._finished.done():
            self._finished.set_exception(ConnectionError("The server closed the connection."))

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


async def post(address: Address, path: str, token: str, body: bytes, clients: int, answered: Answered) -> None:
    """Let so many clients post at once, each until `answered` says that it is enough."""
    host, port = address
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    loop = asyncio.get_running_loop()
    done: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    for finished in done:
        await loop.create_connection(lambda one=finished: Client(request, answered, one), host, port)  # type: ignore[misc]
    await asyncio.gather(*done)


async def load(address: Address, path: str, token: str, clients: int, seconds: float) -> Tally:
    """Keep so many clients busy for so long."""
    begins_at = time.perf_counter() + WARM_S
    tally = Tally(begins_at, begins_at + seconds)
    await post(address, path, token, BODY, clients, tally.answered)
    return tally


def main(arguments: list[str]) -> None:
    """Print the line."""
    host, port, path, token, clients, seconds = arguments
    tally = uvloop.run(load((host, int(port)), path, token, int(clients), float(seconds)))
    taken = sorted(tally.taken)
    print(
        json.dumps(
            {
                "rate": len(taken) / float(seconds),
                "p50_ms": taken[len(taken) // 2] * 1000,
                "p99_ms": taken[len(taken) * 99 // 100] * 1000,
                "refused": tally.refused,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
