"""Another user's waiting time while somebody attacks: the API and everything around it as `darkroom up` starts them.

Each attack runs in a process of its own: `python -m benchmarks.attacks ATTACK URL TOKEN`, until it is ended.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from statistics import quantiles
from subprocess import DEVNULL, PIPE
from typing import Final
from urllib.parse import urlsplit

from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage
from benchmarks.submit import free_port

STOP_S_MAX: Final = 60.0
SETTLE_S: Final = 3.0
"""So long an attack runs before another user is measured: its connections are open, its first requests in work."""

PAUSE_S: Final = 0.02
"""Between two requests of the other user, who stays below the rate that one owner has."""

AGAIN_S: Final = 5.0
"""Before a connection of an attack that was refused or closed is opened again: 900 of them are 180 a second."""

JOB: Final = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse in fog", "quantity": 1}


@contextmanager
def contest(attack: str, stage: Stage) -> Iterator[Contest]:
    """An installation with two users: one attacks, and one is measured, before and during the attack."""
    folder = stage.folder / "attacked"
    environment = {**os.environ, "DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": str(free_port())}
    command = [sys.executable, "-m", "api.cli"]
    with subprocess.Popen([*command, "up", "--workers", "none"], env=environment, stdout=PIPE, stderr=DEVNULL) as up:
        try:
            if up.stdout is None or not up.stdout.readline().startswith(b"ready"):
                raise RuntimeError("Darkroom did not start.")
            url = (folder / "url").read_text().strip()
            names = [f"{name}-{time.time_ns()}" for name in ("other", "attacker")]
            tokens = [_token_of(command, environment, name) for name in names]
            requests = 40 if stage.quick else 200
            yield Contest(
                ours=lambda: _under_attack(attack, url, tokens, requests), peer=lambda: p95_ms(url, tokens[0], requests)
            )
        finally:
            up.terminate()
            up.communicate(timeout=STOP_S_MAX)


def p95_ms(url: str, token: str, requests: int) -> float:
    """The 95th percentile of one user's submissions and readings, each over a connection of its own."""
    spent = []
    for number in range(requests):
        began = time.perf_counter()
        client = HTTPConnection(urlsplit(url).netloc, timeout=STOP_S_MAX)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if number % 2:
            client.request("GET", "/v1/models", headers=headers)
        else:
            client.request("POST", "/v1/jobs", json.dumps(JOB), headers)
        answer = client.getresponse()
        answer.read()
        client.close()
        if answer.status not in {200, 202}:
            raise RuntimeError(f"The other user was answered {answer.status}.")
        spent.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_S)
    return quantiles(spent, n=20)[-1]


def _under_attack(attack: str, url: str, tokens: list[str], requests: int) -> float:
    command = [sys.executable, "-m", "benchmarks.attacks", attack, url, tokens[1]]
    with subprocess.Popen(command, stderr=DEVNULL) as attacking:
        try:
            time.sleep(SETTLE_S)
            return p95_ms(url, tokens[0], requests)
        finally:
            attacking.kill()


def _token_of(command: list[str], environment: dict[str, str], name: str) -> str:
    said = subprocess.run([*command, "users", "add", name], env=environment, stdout=PIPE, text=True, check=True)
    return next(word for word in said.stdout.split() if word.startswith("dk_"))


# The attacks.


async def _held(address: tuple[str, int], sent: bytes, trickled: bytes = b"") -> None:
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


async def _repeated(address: tuple[str, int], request: Callable[[], bytes]) -> None:
    """The same request again and again, each over a connection of its own."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request())
            with suppress(OSError):
                await writer.drain()
            await reader.read(65536)
            writer.close()


def _request(token: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    sent = {"Host": "x", "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    sent |= {"Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _waits(address: tuple[str, int], token: str) -> list[Awaitable[None]]:
    sent = _request(token, "POST", "/v1/jobs", json.dumps(JOB).encode(), {"Prefer": "wait=60"})
    return [_held(address, sent) for _ in range(900)]


def _uploads(address: tuple[str, int], token: str) -> list[Awaitable[None]]:
    form = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "60000000"}
    return [_held(address, _request(token, "POST", "/v1/uploads", b"", form), b"x" * 10_000) for _ in range(900)]


def _connections(address: tuple[str, int], _: str) -> list[Awaitable[None]]:
    return [_held(address, b"") for _ in range(950)]


def _batches(address: tuple[str, int], token: str) -> list[Awaitable[None]]:
    items = [{**JOB, "quantity": 6, "template": f"t{number}"} for number in range(1_000)]
    sent = _request(token, "POST", "/v1/batches", json.dumps({"name": "Large", "items": items}).encode())
    return [_repeated(address, lambda: sent) for _ in range(4)]


def _refused(address: tuple[str, int], token: str) -> list[Awaitable[None]]:
    sent = _request(token, "POST", "/v1/jobs", b" " * (32 * 1024 * 1024))
    return [_repeated(address, lambda: sent) for _ in range(8)]


def _mistakes(address: tuple[str, int], token: str) -> list[Awaitable[None]]:
    body = json.dumps({**JOB, **{f"unknown_{number}": 1 for number in range(50_000)}}).encode()
    return [_repeated(address, lambda: _request(token, "POST", "/v1/jobs", body)) for _ in range(4)]


def _wrong_keys(address: tuple[str, int], _: str) -> list[Awaitable[None]]:
    def guess() -> bytes:
        return _request(f"dk_{random.getrandbits(128):043d}", "GET", "/v1/jobs")

    return [_repeated(address, guess) for _ in range(16)]


ATTACKS: Final[dict[str, Callable[[tuple[str, int], str], list[Awaitable[None]]]]] = {
    "uploads": _uploads,
    "waits": _waits,
    "connections": _connections,
    "batches": _batches,
    "refused-bodies": _refused,
    "mistakes": _mistakes,
    "wrong-keys": _wrong_keys,
}

ROWS = [
    Row(
        f"attack-{name}",
        "ms, p95 of another user",
        "the same in quiet",
        Target("ratio", "≤", 3),
        partial(contest, name),
    )
    for name in ATTACKS
]


async def _attack(name: str, url: str, token: str) -> None:
    parts = urlsplit(url)
    await asyncio.gather(*ATTACKS[name]((parts.hostname or "", parts.port or 80), token))


if __name__ == "__main__":
    asyncio.run(_attack(*sys.argv[1:4]))
