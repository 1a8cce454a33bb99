"""Pull an order, work on it, ack it; the next one only then."""

import asyncio
import logging
from collections.abc import Coroutine, MutableMapping, Sequence
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext
from pydantic import ValidationError

from gpu_worker.attempt import Attempt
from gpu_worker.keep_alive import KeepAlive
from gpu_worker.outage import Outage
from gpu_worker.reporting import Reporter
from gpu_worker.workshop import Workshop
from services.wire import WORK_STREAM, WorkOrder, work_consumer

LOG = logging.getLogger("darkroom.worker")

PULL_S = 5.0
"""How long one pull waits for an order. NATS forgets a pull when it restarts: that costs no more than this."""

T = TypeVar("T")


class Worker:
    """Takes one order at a time from its pools, until it is told to stop."""

    def __init__(self, connection: Client, workshop: Workshop, pools: Sequence[str], heartbeat_s: float) -> None:
        self._connection = connection
        self._workshop = workshop
        self._pools = tuple(pools)
        self._heartbeat_s = heartbeat_s
        self._reporter = Reporter(connection)
        self._pulls: dict[str, JetStreamContext.PullSubscription] = {}
        self._outage = Outage(LOG, f"The work queue of {', '.join(pools)}")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what is in hand then is given back first.

        Raises `nats.errors.ConnectionClosedError` when NATS refuses this worker for good.
        """
        while not stop.is_set():
            for pool in self._pools:
                message = await unless(stop, self._pull(pool))
                if message is not None:
                    await self._work(message, stop)

    async def _pull(self, pool: str) -> Msg | None:
        """The next order of the pool, or None when there was none for a while. Every wait in here is bounded."""
        if self._connection.is_closed:
            raise nats.errors.ConnectionClosedError
        if not self._connection.is_connected:
            # nats-py would keep each pull and send them all at once later, for more orders than one can work on.
            await asyncio.sleep(self._outage.missed("NATS is away"))
            return None
        try:
            pull = self._pulls.get(pool) or await self._bind(pool)
            return (await pull.fetch(1, timeout=PULL_S / len(self._pools)))[0]
        except nats.errors.ConnectionClosedError:
            raise
        except TimeoutError:  # nats-py's own is one of these: nothing to do
            if self._connection.is_connected and pool in self._pulls:
                self._outage.over()
        except nats.errors.Error as error:
            await asyncio.sleep(self._outage.missed(str(error).strip()))
        return None

    async def _bind(self, pool: str) -> JetStreamContext.PullSubscription:
        """Find the consumer that the dispatcher makes. It is bound by name: one that is made anew serves as well."""
        jetstream = self._connection.jetstream()
        consumer = work_consumer(pool)
        await jetstream.consumer_info(WORK_STREAM, consumer)
        self._pulls[pool] = await jetstream.pull_subscribe_bind(consumer, WORK_STREAM)
        if len(self._pulls) == len(self._pools):
            self._outage.over()
            LOG.info("ready: worker %s takes jobs of %s", self._workshop.worker, ", ".join(self._pools))
        return self._pulls[pool]

    async def _work(self, message: Msg, stop: asyncio.Event) -> None:
        try:
            order = WorkOrder.model_validate_json(message.data)
        except ValidationError as error:
            LOG.error("dropped an order that cannot be read: %s", error.errors(include_input=False)[0]["msg"])  # noqa: TRY400
            await message.term()
            return
        self._outage.over()
        log = JobLog(LOG, {"job": order.job_id, "attempt": order.attempt})
        if stop.is_set():
            await message.nak()  # it came in the moment of leaving: another worker gets it at once
            return
        async with KeepAlive(
            self._connection,
            self._reporter,
            message,
            order,
            worker=self._workshop.worker,
            heartbeat_s=self._heartbeat_s,
            stop=stop,
            log=log,
        ) as keep_alive:
            await Attempt(order, self._workshop, self._reporter, self._connection, keep_alive, log).run()
            # Last, after the ledger has the end of the attempt: a worker that dies before leaves it to another.
            await message.ack()


class JobLog(logging.LoggerAdapter[logging.Logger]):
    """Begins each line with the job and its attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter`."""
        named = " ".join(f"{name}={value}" for name, value in (self.extra or {}).items())
        return f"{named} {msg}", kwargs


async def unless(stop: asyncio.Event, wanted: Coroutine[Any, Any, T]) -> T | None:
    """Its result, or None when `stop` is set first: then it is canceled."""
    doing = asyncio.create_task(wanted)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    return None if doing.cancelled() else doing.result()
