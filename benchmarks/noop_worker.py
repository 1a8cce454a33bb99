"""`python -m benchmarks.noop_worker NATS_URL BLOBS_URL JOBS_AT_ONCE`: a worker process whose engine paints nothing.

The loop, the reports, the files and the acks are real: see gpu_worker/loop.py. As a process with hosted models has it
with `DARKROOM_JOBS_AT_ONCE`, each job in hand has a worker of its own, and all of them share a connection.
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
from services.files.blobs import Blobs
from services.gc_tuning import collect_seldom, keep_what_is_loaded
from services.messaging.wire import HEARTBEAT_S, worker_name

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

    @property
    def device_name(self) -> str:
        """See `gpu_worker.workshop.Engines`."""
        return "none"

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


async def work(nats_url: str, blobs_url: str, jobs_at_once: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    collect_seldom()  # workers of one process would look through each other's objects
    keep_what_is_loaded()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    blobs, engines = Blobs(blobs_url), NoOp()
    name = worker_name(urlsplit(nats_url).username or "worker", "noop")
    names = [f"{name}.{number}" for number in range(1, jobs_at_once + 1)]
    shops = [Workshop(name, {"sdxl-demo": "none"}, engines, blobs) for name in names]
    for shop in shops:
        shop.rendering = shop.storing = AtOnce(1)
    connection = await connect([nats_url], name)
    await asyncio.gather(*(Worker(connection, shop, [POOL], HEARTBEAT_S).run(stop) for shop in shops))
    await connection.close()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
