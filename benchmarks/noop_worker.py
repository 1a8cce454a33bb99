"""`python -m benchmarks.noop_worker NATS_URL BLOBS_URL WORKERS`: as many workers, whose engine paints nothing.

The loop, the reports, the files and the acks are real: see gpu_worker/loop.py. Each has a connection of its own, as if
it were a process; one process holds them all, which is kinder to a small machine than an interpreter for each.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

import uvloop
from PIL import Image

from gpu_worker.connection import connect
from gpu_worker.engines import RenderedImage, RenderRequest
from gpu_worker.loop import Worker
from gpu_worker.workshop import Workshop
from services.blobs import Blobs
from services.garbage import collect_seldom, keep_what_is_loaded
from services.wire import HEARTBEAT_S, worker_name

POOL: Final = "sdxl"

P = ParamSpec("P")
T = TypeVar("T")


class NoOp:
    """An engine, and where it comes from: every model is loaded, and every image is the same 64 pixels."""

    model_revision: Final = "none"
    _painted = Image.new("RGB", (8, 8))

    def engine(self, _: str) -> "NoOp":
        """See `gpu_worker.workshop.Engines`."""
        return self

    def is_loaded(self, _: str) -> bool:
        """See `gpu_worker.workshop.Engines`."""
        return True

    def ran_out(self, _: str) -> None:
        """See `gpu_worker.workshop.Engines`."""

    def release(self) -> None:
        """See `gpu_worker.workshop.Engines`."""

    def render(self, request: RenderRequest, **_: Any) -> Iterator[RenderedImage]:
        """See `gpu_worker.engines.Engine`."""
        for position in range(len(request.seeds)):
            yield RenderedImage(position, self._painted, 0)


class AtOnce(ThreadPoolExecutor):
    """In the caller's thread: there is nothing to wait for, and threads of a whole fleet would wait for each other."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor`."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


async def work(nats_url: str, blobs_url: str, workers: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    collect_seldom()  # workers of one process would look through each other's objects
    keep_what_is_loaded()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    blobs, engines = Blobs(blobs_url), NoOp()
    names = [worker_name(urlsplit(nats_url).username or "worker", f"noop-{number}") for number in range(workers)]
    shops = [Workshop(name, {"sdxl-demo": "none"}, engines, blobs) for name in names]
    for shop in shops:
        shop.rendering = shop.storing = AtOnce(1)
    connections = [await connect([nats_url], name) for name in names]
    await asyncio.gather(
        *(
            Worker(connection, shop, [POOL], HEARTBEAT_S).run(stop)
            for connection, shop in zip(connections, shops, strict=True)
        )
    )
    for connection in connections:
        await connection.close()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
