"""Next to the code under test: a NATS of our own to kill, a connection to it, and a service that runs for a while."""

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nats.aio.client import Client

from services.embedded.nats import Nats
from services.messaging.broker import Broker
from tests.services.commits import WAIT_S_MAX, eventually


class OwnNats:
    """A nats-server that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / "nats"
        self._server = Nats(folder)
        self._server.prepare()
        self.url = self._server.url

    def start(self) -> None:
        """Start it and wait until it takes clients."""
        self._server.child.spawn()
        eventually(self._server.ready)

    def freeze(self) -> None:
        """It answers no more; what is sent to it waits in its socket."""
        self._server.child.send(signal.SIGSTOP)

    def blocks(self, stream: str) -> list[Path]:
        """The files in which it keeps the messages of a stream, the oldest first."""
        found = self._store.rglob(f"streams/{stream}/msgs/*.blk")
        return sorted(found, key=lambda file: int(file.stem))

    def end(self, how: signal.Signals) -> None:
        """By this signal, and wait until it has ended."""
        self._server.child.end([(how, WAIT_S_MAX)])

    def kill(self, *, forget: bool = False) -> None:
        """As a crash does; `forget` loses its disk as well."""
        self._server.child.end([(signal.SIGKILL, WAIT_S_MAX)])
        if forget:
            shutil.rmtree(self._store)


class opened:  # noqa: N801 - reads as a function
    """A broker, connected; closed at the end of the block."""

    def __init__(self, url: str, name: str = "test") -> None:
        self._broker = Broker(url, name)

    async def __aenter__(self) -> Broker:
        await self._broker.open()
        await until(lambda: self._broker.connected)
        return self._broker

    async def __aexit__(self, *_: object) -> None:
        await self._broker.close()


async def settled(client: Client) -> None:
    """Wait until the server has dealt with all that was sent: its subscriptions are made, its messages passed on.

    nats-py writes a flush's PING at once, before what still waits to be written; the second one comes after that.
    """
    await client.flush()
    await client.flush()


async def until(holds: Callable[[], object]) -> None:
    """Wait until it holds; fail when it does not within `WAIT_S_MAX`."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < deadline, "It did not come true in time."
        await asyncio.sleep(0.01)


class running:  # noqa: N801 - reads as a function
    """A service's `run` next to the block; stopped at its end, and what it raised is raised here."""

    def __init__(self, run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self._stop = asyncio.Event()
        self._run = run

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._run(self._stop))

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.wait_for(self._task, WAIT_S_MAX)
