"""Attacks by one user: `python -m benchmarks.attackers ATTACK URL TOKEN` goes on until it is ended. It says
`attacking` when it begins.

The benchmark `benchmarks/attacks.py` measures another user meanwhile, and a test sees that this user is served.
"""

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

AGAIN_S: Final = 5.0
"""Before a connection of an attack that was refused or closed is opened again."""

JOB: Final = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse in fog", "quantity": 1}

Address = tuple[str, int]


async def _held(address: Address, sent: bytes, trickled: bytes = b"") -> None:
    """A connection that sends this, then a little now and then, and is opened again when it is closed."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(sent)
            while not reader.at_eof() and not writer.is_closing():
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await reader.read(65536)
                writer.write(trickled)
            writer.close()
        await asyncio.sleep(AGAIN_S)


async def _repeated(address: Address, request: Callable[[], bytes]) -> None:
    """The same request again and again, each over a connection of its own and answered before the next."""
    while True:
        with suppress(OSError):
            await _asked(address, request())


async def _asked(address: Address, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        with suppress(OSError):  # an answer may come before the request has been sent
            await writer.drain()
        return await reader.read()
    finally:
        writer.close()


def _request(token: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    sent = {"Host": "x", "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    sent |= {"Connection": "close", "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _waits(address: Address, token: str) -> list[Awaitable[None]]:
    sent = _request(token, "POST", "/v1/jobs", json.dumps(JOB).encode(), {"Prefer": "wait=60"})
    return [_held(address, sent) for _ in range(900)]


def _uploads(address: Address, token: str) -> list[Awaitable[None]]:
    form = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "60000000"}
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    sent = _request(token, "POST", "/v1/uploads", b"", form) + part
    return [_held(address, sent, b"x" * 10_000) for _ in range(900)]


def _connections(address: Address, _: str) -> list[Awaitable[None]]:
    return [_held(address, b"") for _ in range(950)]


def _large_batch(token: str) -> bytes:
    items = [{**JOB, "quantity": 6, "template": f"t{number}"} for number in range(1_000)]
    return _request(token, "POST", "/v1/batches", json.dumps({"name": "Large", "items": items}).encode())


def _batches(address: Address, token: str) -> list[Awaitable[None]]:
    sent = _large_batch(token)
    return [_repeated(address, lambda: sent) for _ in range(4)]


def _reads(address: Address, token: str) -> list[Awaitable[None]]:
    async def read() -> None:
        answer = await _asked(address, _large_batch(token))
        batch = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
        sent = _request(token, "GET", f"/v1/batches/{batch}")
        await asyncio.gather(*[_repeated(address, lambda: sent) for _ in range(4)])

    return [read()]


def _refused(address: Address, token: str) -> list[Awaitable[None]]:
    sent = _request(token, "POST", "/v1/jobs", b" " * (32 * 1024 * 1024))
    return [_repeated(address, lambda: sent) for _ in range(8)]


def _mistakes(address: Address, token: str) -> list[Awaitable[None]]:
    wrong = {**JOB, "params": {f"u{number}": 1 for number in range(80_000)}}
    sent = _request(token, "POST", "/v1/jobs", json.dumps(wrong, separators=(",", ":")).encode())
    return [_repeated(address, lambda: sent) for _ in range(4)]


def _wrong_keys(address: Address, _: str) -> list[Awaitable[None]]:
    def guess() -> bytes:
        return _request(f"dk_{random.getrandbits(128):043d}", "GET", "/v1/jobs")

    return [_repeated(address, guess) for _ in range(16)]


ATTACKS: Final[dict[str, Callable[[Address, str], list[Awaitable[None]]]]] = {
    "uploads": _uploads,
    "waits": _waits,
    "connections": _connections,
    "batches": _batches,
    "batch-reads": _reads,
    "refused-bodies": _refused,
    "mistakes": _mistakes,
    "wrong-keys": _wrong_keys,
}


async def _attack(name: str, url: str, token: str) -> None:
    parts = urlsplit(url)
    attacking = asyncio.gather(*ATTACKS[name]((parts.hostname or "", parts.port or 80), token))
    print("attacking", flush=True)
    await attacking


if __name__ == "__main__":
    asyncio.run(_attack(*sys.argv[1:4]))
