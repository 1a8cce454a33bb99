"""Pull an order, work on it, ack it; only then pull the next one."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext
from pydantic import ValidationError

from domain.errors import WorkerHeld
from domain.events import ErrorClass, Failure
from gpu_worker.announcing import Announcing
from gpu_worker.attempt import Attempt
from gpu_worker.backoff import Outage
from gpu_worker.keep_alive import Interrupt, KeepAlive
from gpu_worker.model_affinity import LOOKED_AT_MAX, WaitingOrder, preferred
from gpu_worker.reporting import Reporter
from gpu_worker.workshop import Workshop
from services.crash_points import Point, reached
from services.messaging.wire import (
    CANCEL,
    HAIL,
    WORK_STREAM,
    AttemptFailedReport,
    StartedReport,
    WorkOrder,
    cancel_subject,
    cancels_of,
    hail_subject,
    work_consumer,
)
from services.observability import telemetry
from services.observability.logs import about_job

LOG = logging.getLogger("darkroom.worker")

PULL_S = 5.0
"""Seconds that one pull waits for an order. NATS forgets a pull when it restarts, so that costs at most this."""

FIRST_S = 0.25
"""Seconds that the first pull waits. It shows whether there is a queue, so a worker is ready soon after its start."""

HELD_LOOK_S = 1.0
"""Seconds after which a held worker checks whether it should stop."""

LOOK_S = 0.5
"""Seconds that a worker looks for an order of a loaded model before it loads one, which takes seconds."""


@dataclass(frozen=True, slots=True)
class PulledOrder:
    """A pulled message, and its order or why it cannot be read."""

    message: Msg
    order: WorkOrder | ValidationError

    @classmethod
    def of(cls, message: Msg) -> Self:
        """Parse the message."""
        try:
            return cls(message, WorkOrder.model_validate_json(message.data))
        except ValidationError as error:
            return cls(message, error)

    def since(self) -> datetime:
        """The time at which it was handed out."""
        return self.message.metadata.timestamp

    def waiting(self) -> WaitingOrder:
        """Input of the decision whether to take it now. An unreadable one is due: it is dropped immediately."""
        if isinstance(self.order, ValidationError):
            return WaitingOrder("", float("inf"), 0)
        waited_s = (datetime.now(UTC) - self.since()).total_seconds()
        return WaitingOrder(self.order.recipe.model, waited_s, (self.message.metadata.num_delivered or 1) - 1)


class Worker:
    """Takes one order at a time from its pools until it is stopped."""

    def __init__(self, connection: Client, workshop: Workshop, pools: Sequence[str], heartbeat_s: float) -> None:
        self._connection = connection
        self._workshop = workshop
        self._pools = tuple(pools)
        self._heartbeat_s = heartbeat_s
        self._reporter = Reporter(connection, workshop.worker)
        self._announcing = Announcing(connection, workshop, pools, heartbeat_s)
        self._pulls: dict[str, JetStreamContext.PullSubscription] = {}
        self._answered: set[str] = set()
        self._in_hand: KeepAlive | None = None
        self._pulling: asyncio.Timeout | None = None
        self._outage = Outage(LOG, f"The work queue of {', '.join(pools)}")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a job in progress is given back first.

        Raises `nats.errors.ConnectionClosedError` when NATS refuses this worker permanently.
        """
        # Before the first report of a start: from then on a cancel must be received.
        await self._connection.subscribe(cancels_of(self._workshop.worker), cb=self._canceled)
        # Before taking any order: an operator may have held this worker before it started.
        await self._announcing.announce()
        leaving = asyncio.create_task(self._leave_at(stop))
        announcing = asyncio.create_task(self._announcing.run())
        try:
            busy = False
            while not stop.is_set():
                if self._announcing.is_held:
                    await self._announcing.heard(HELD_LOOK_S)
                    continue
                wait_s = LOOK_S if busy else PULL_S / len(self._pools)  # an empty pool delays the others
                busy = False
                for pool in self._pools:
                    message = None if stop.is_set() else await self._next(pool, wait_s)
                    if message is not None:
                        busy = True
                        await self._work(await self._preferred(PulledOrder.of(message), stop), stop)
        finally:
            leaving.cancel()
            self._announcing.leave()
            await announcing

    async def _leave_at(self, stop: asyncio.Event) -> None:
        """Cut a waiting pull short, and interrupt the job in progress."""
        await stop.wait()
        if self._pulling is not None:
            self._pulling.reschedule(0)
        if self._in_hand is not None:
            self._in_hand.interrupted(Interrupt.STOPPING)

    async def _next(self, pool: str, wait_s: float) -> Msg | None:
        """The next order of the pool; None if there is none within `wait_s`, or if the worker is stopping."""
        try:
            async with asyncio.timeout(None) as self._pulling:
                return await self._pull(pool, wait_s)
        except TimeoutError:
            return None
        finally:
            self._pulling = None

    async def _preferred(self, first: PulledOrder, stop: asyncio.Event) -> PulledOrder:
        """The order to work on: before loading a model for it, look briefly for one that needs no loading.

        The others are given back before the work begins: any worker can take them immediately, and their owners can
        cancel them. See gpu_worker.model_affinity.
        """
        if isinstance(first.order, WorkOrder) and self._workshop.is_loaded(first.order.recipe.model):
            return first  # same result as `preferred`, whatever its age
        held, deadline_s = [first], time.monotonic() + LOOK_S
        while (index := preferred([one.waiting() for one in held], self._workshop.is_loaded)) is None:
            more = len(held) < LOOKED_AT_MAX and time.monotonic() < deadline_s and not stop.is_set()
            # Never cut short: the broker would send the orders that we give back to a pull without a reader.
            message = await self._look_further() if more else None
            if message is None:
                index = 0
                break
            held = sorted((*held, PulledOrder.of(message)), key=PulledOrder.since)
        chosen = held.pop(index)
        for one in held:
            with suppress(nats.errors.Error):  # the broker hands it out again by itself, later
                await one.message.nak()
        return chosen

    async def _look_further(self) -> Msg | None:
        """One more order, of any pool. While it waits, the dispatcher sees room and hands out more."""
        for pool in self._pools:
            message = await self._pull(pool, LOOK_S / len(self._pools))
            if message is not None:
                return message
        return None

    async def _pull(self, pool: str, wait_s: float) -> Msg | None:
        """The next order of the pool, or None if there is none within `wait_s`. Every wait in here is bounded."""
        if self._connection.is_closed:
            raise nats.errors.ConnectionClosedError
        if not self._connection.is_connected:
            # nats-py would buffer each pull and send them all later, requesting more orders than this worker can take.
            await asyncio.sleep(self._outage.missed("NATS is away"))
            return None
        try:
            pull = self._pulls.get(pool) or await self._bind(pool)
            messages = await pull.fetch(1, timeout=wait_s if pool in self._answered else FIRST_S)
        except nats.errors.ConnectionClosedError:
            raise
        except TimeoutError:  # includes nats-py's own: no order
            if self._connection.is_connected:
                self._is_there(pool)
        except nats.errors.Error as error:
            await asyncio.sleep(self._outage.missed(str(error).strip()))
        else:
            self._is_there(pool)
            return messages[0]
        return None

    async def _bind(self, pool: str) -> JetStreamContext.PullSubscription:
        """Bind to the dispatcher's consumer by name, so that a recreated one works too.

        A missing consumer is noticed when pulling: a worker has no right to ask JetStream for anything else.
        """
        pull = await self._connection.jetstream().pull_subscribe_bind(work_consumer(pool), WORK_STREAM)
        return self._pulls.setdefault(pool, pull)

    def _is_there(self, pool: str) -> None:
        if pool not in self._answered:
            self._answered.add(pool)
            if len(self._answered) == len(self._pools):
                LOG.info("ready: worker %s takes jobs of %s", self._workshop.worker, ", ".join(self._pools))
        if len(self._answered) == len(self._pools):
            self._outage.over()

    async def _work(self, held: PulledOrder, stop: asyncio.Event) -> None:
        order = held.order
        if isinstance(order, ValidationError):
            why = order.errors(include_input=False)[0]["msg"]
            LOG.error("dropped an order that cannot be read: %s", why)
            await self._fail_unread(held.message.subject, why)
            await held.message.term()
            return
        self._outage.over()
        with (
            about_job(order.job_id, order.attempt, owner=order.owner, worker=self._workshop.worker),
            telemetry.job_span(
                "attempt",
                order.job_id,
                {"darkroom.attempt": order.attempt, "darkroom.worker": self._workshop.worker},
                held.message.headers,
            ),
        ):
            await self._attempt(held.message, order, stop)

    async def _fail_unread(self, subject: str, why: str) -> None:
        """Fail the attempt of an unreadable order: if it were only dropped, it would be handed out again forever."""
        *_, job_id, attempt = subject.split(".")
        try:
            started = StartedReport.model_validate({"job_id": job_id, "attempt": attempt})
        except ValidationError:
            return  # not an order
        if (await self._reporter.settle(started)).accepted:
            message = f"This worker cannot read the order of the job; is it of another version? {why}"
            error = Failure(error_class=ErrorClass.TRANSIENT, message=message)
            await self._reporter.settle(
                AttemptFailedReport(job_id=started.job_id, attempt=started.attempt, error=error)
            )

    async def _attempt(self, message: Msg, order: WorkOrder, stop: asyncio.Event) -> None:
        if stop.is_set() or self._announcing.is_held:
            await message.nak()  # it arrived while stopping: another worker gets it immediately
            return
        self._announcing.begin()
        try:
            await self._attempt_in_hand(message, order)
        finally:
            self._announcing.end()
            self._in_hand = None

    async def _attempt_in_hand(self, message: Msg, order: WorkOrder) -> None:
        async with KeepAlive(
            self._connection,
            self._reporter,
            message,
            order,
            heartbeat_s=self._heartbeat_s,
        ) as keep_alive:
            self._in_hand = keep_alive
            reached(Point.WORKER_BEFORE_START)
            started = await Attempt(order, self._workshop, self._reporter, self._connection, keep_alive).run()
            if started.code == WorkerHeld.code:
                await self._announcing.announce()  # first, so that this worker does not get it again
                await message.nak()
                return
            # Last, after the ledger has the end of the attempt: if the worker dies before, another one gets the order.
            reached(Point.WORKER_BEFORE_ACK)
            await message.ack()
        reached(Point.WORKER_AFTER_ACK)

    async def _canceled(self, message: Msg) -> None:
        """A cancel of another order is ignored: there is nothing to stop."""
        if message.data == HAIL and message.subject == hail_subject(self._workshop.worker):
            self._announcing.soon()
        held = self._in_hand
        if held and message.data == CANCEL and message.subject == cancel_subject(self._workshop.worker, held.job_id):
            held.interrupted(Interrupt.CANCELED)
