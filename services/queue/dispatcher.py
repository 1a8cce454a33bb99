"""Keeps WORK filled to about twice the workers' capacity, in the queue's order: see `domain.policies.fairness`.

Each round asks the broker what is handed out; the dispatcher itself remembers it only for a second, until the view
shows it. So losing all of NATS loses nothing: missing orders are published again from the ledger.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Final
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from domain.aggregates.asset import UnknownAsset
from domain.aggregates.generation import Generation, pending_indexes
from domain.aggregates.job import Waiting, past_deadline
from domain.errors import NotFound
from domain.policies.fairness import WaitingJob, in_order
from services.crash_points import Point, reached
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.messaging.broker import Broker, ensure_work_stream
from services.messaging.follower import follow
from services.messaging.wire import LEASE_S, WORK_STREAM, Output, WorkOrder, work_consumer, work_filter, work_subject
from services.observability import progress, telemetry
from services.observability.logs import about_job
from services.observability.metrics import HAND_OUTS
from services.observability.parking import park, unpark
from services.queue.backlog import DEPTH, read_backlog

log = logging.getLogger(__name__)

FILL: Final = 2
"""Messages per worker in WORK: a running one and the next, so that most waiting jobs can still be canceled exactly."""

SPARE: Final = 16
"""Additional jobs to try, in case some that the view shows have ended meanwhile."""

REFILL: Final = 2
"""The dispatcher waits until there is room for one job per this many workers. The rest keeps all workers busy, and a
query of the queue costs as much for one job as for many. The order is not affected: jobs in WORK go first anyway."""

AT_ONCE_MAX: Final = 32
"""Maximum number of orders that are read and sent together, waiting for the broker's answers once."""

READ_MAX: Final = 64
"""Number of jobs read per query, unless `services.queue.backlog.DEPTH` of each owner is more."""

VIEW_S: Final = 1.0
"""Seconds that the view may lag behind a dispatch. Until then the job is skipped; otherwise a busy queue would begin
with jobs that already run."""

PARKED_S: Final = 60.0
"""Seconds for which a job is skipped if its order cannot be made or sent; then it is tried again."""

PARKED_MAX: Final = 1_000
"""Maximum number of jobs skipped at a time; others are found again by each query."""

HEADERS_BYTES_MAX: Final = 4_096
"""Bytes of a message reserved for headers."""

TAKEN_ALREADY: Final = 10077
"""JetStream's error code for a subject that already holds its one message (maximum messages per subject exceeded)."""


class Dispatcher:
    """Hands out jobs. Several may run: they compute the same order, and the broker holds each attempt once.

    `running_per_owner_max`: maximum number of running and dispatched jobs of an owner. `lease_s`: seconds that a worker
    may be silent.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        broker: Broker,
        pools: Sequence[str],
        running_per_owner_max: int | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._broker = broker
        self._pools = list(pools)
        self._running_per_owner_max = running_per_owner_max
        self._lease_s = lease_s
        self._is_there = False
        self._settled: dict[tuple[UUID, int], float] = {}
        self._parked: dict[tuple[UUID, int], float] = {}
        self._made: datetime | None = None
        self._lines: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Hand out jobs until stopped; waits out outages of Postgres and NATS."""
        await follow("dispatcher", self.step, self._broker, stop)

    async def step(self) -> int:
        """Fill WORK where there is room; returns the number of attempts handed out."""
        if self._is_there:
            with contextlib.suppress(NotFoundError):
                return await self._fill_all()
        # The first time, and after NATS has lost them.
        await ensure_work_stream(self._broker.jetstream, self._pools, self._broker.replicas, self._lease_s)
        self._is_there = True
        return await self._fill_all()

    async def _fill_all(self) -> int:
        return sum([await self._fill(self._broker.jetstream, pool) for pool in self._pools])

    async def _fill(self, jetstream: JetStreamContext, pool: str) -> int:
        consumer = await jetstream.consumer_info(WORK_STREAM, work_consumer(pool))
        workers = (consumer.num_waiting or 0) + (consumer.num_ack_pending or 0)
        progress.of("dispatcher").facts.setdefault("workers", {})[pool] = workers
        if not workers:
            return 0
        stream = await jetstream.stream_info(WORK_STREAM, subjects_filter=work_filter(pool))
        there = attempts_in(stream.state.subjects or {})
        room = FILL * workers - len(there)
        if room < max(1, workers // REFILL):
            return 0
        if stream.created != self._made:  # the stream was lost, and all jobs in it wait again
            self._settled.clear()
            self._made = stream.created
        following = await asyncio.to_thread(self._next, pool, [*there | self._settled_lately()], room)
        handed_out = 0
        while following and handed_out < room:
            now = min(room - handed_out, AT_ONCE_MAX)
            orders = await asyncio.to_thread(self._orders, following[:now], self._order_bytes_max)
            await self._hand_out(orders)
            handed_out += len(orders)
            settled = [(job.job_id, job.attempt) for job in following[:now]]
            # Parked jobs do not count as handed out: they would use up their owner's share.
            self._settled |= dict.fromkeys((one for one in settled if one not in self._parked), time.monotonic())
            following = following[now:]
        return handed_out

    @property
    def _order_bytes_max(self) -> int:
        """Maximum bytes of an order in one message."""
        return self._broker.client.max_payload - HEADERS_BYTES_MAX

    def _settled_lately(self) -> set[tuple[UUID, int]]:
        """Attempts handed out or found ended recently, which the view may still show as waiting."""
        since = time.monotonic() - VIEW_S
        self._settled = {attempt: at for attempt, at in self._settled.items() if at > since}
        return set(self._settled)

    def _parked_now(self) -> list[tuple[UUID, int]]:
        now = time.monotonic()
        self._parked = {attempt: until for attempt, until in self._parked.items() if until > now}
        return list(self._parked)

    def _park(self, job: WaitingJob, why: str) -> None:
        """Skip a job for a while. It can be canceled and is tried again later; other jobs go first."""
        if len(self._parked) < PARKED_MAX:
            self._parked[job.job_id, job.attempt] = time.monotonic() + PARKED_S
        park("dispatcher", job.job_id, f"job {job.job_id} is not handed out: {why}")

    async def _hand_out(self, orders: Sequence[tuple[WorkOrder, bytes]]) -> None:
        """Publish orders; on one connection the broker stores, and workers pull, them in this order.

        Only the last answer is awaited: the broker has all by then. An order that was refused or lost waits in the view
        and is handed out again after a second.
        """
        for order, content in orders:
            said = {"darkroom.attempt": order.attempt}
            with about_job(order.job_id, order.attempt), telemetry.job_span("hand out", order.job_id, said):
                reached(Point.DISPATCHER_BEFORE_HAND_OUT)
                await self._publish(order, content, is_last=order is orders[-1][0])
                HAND_OUTS.labels(order.pool).inc()
                log.debug("handed out job %s attempt %d", order.job_id, order.attempt)
        reached(Point.DISPATCHER_AFTER_HAND_OUT)

    async def _publish(self, order: WorkOrder, content: bytes, *, is_last: bool) -> None:
        subject = work_subject(order.pool, order.job_id, order.attempt)
        headers = telemetry.headers()
        if not is_last:
            await self._broker.client.publish(subject, content, headers=headers)
            return
        try:
            await self._broker.jetstream.publish(subject, content, headers=headers)
        except APIError as error:
            if error.err_code != TAKEN_ALREADY:
                raise

    def _next(self, pool: str, there: Sequence[tuple[UUID, int]], room: int) -> list[WaitingJob]:
        """The next jobs, and some more in case the view is behind and some have ended."""
        with self._database.connection() as connection:
            depth = max(DEPTH, READ_MAX // max(1, self._lines.get(pool, READ_MAX)))
            backlog = read_backlog(connection, pool, there, due=True, depth=depth, passed_over=self._parked_now())
        self._lines[pool] = len(backlog.lines)
        order = in_order(backlog.lines, backlog.rounds, backlog.at_work, self._running_per_owner_max)
        return list(islice(order, room + SPARE))

    def _orders(self, jobs: Sequence[WaitingJob], bytes_max: int) -> list[tuple[WorkOrder, bytes]]:
        """The orders that can be sent, each with its message of at most `bytes_max` bytes."""
        known = self._ledger.generations_of([job.job_id for job in jobs])
        orders = [self._order(job, known.get(job.job_id), bytes_max) for job in jobs]
        return [order for order in orders if order is not None]

    def _order(self, job: WaitingJob, known: Generation | None, bytes_max: int) -> tuple[WorkOrder, bytes] | None:
        """The order as of the ledger now; None if the view was behind and the job no longer waits.

        Also None if no order can be made of the job: a faulty job must not block others.
        """
        try:
            generation = known or self._ledger.generation(job.job_id)
            order = order_for(job.job_id, generation, job.attempt, datetime.now(UTC))
        except Unavailable:
            raise
        except NotFound:
            return None
        except Exception as error:
            self._park(job, f"{type(error).__name__}: {error}; run `darkroom verify`, or cancel it")
            return None
        if order is None:
            return None
        content = order.model_dump_json().encode()
        if len(content) > bytes_max:
            self._park(job, f"its order has {len(content)} bytes, and NATS takes {bytes_max} at once (its max_payload)")
            return None
        unpark("dispatcher", job.job_id)
        return order, content


def attempts_in(subjects: Iterable[str]) -> set[tuple[UUID, int]]:
    """The attempts in WORK. Messages that are not ours are ignored."""
    found = set()
    for subject in subjects:
        with contextlib.suppress(ValueError):
            found.add(attempt_in(subject))
    return found


@lru_cache(maxsize=4_096)
def attempt_in(subject: str) -> tuple[UUID, int]:
    """The job and attempt in a subject of `wire.work_subject`. Cached: most subjects are seen again."""
    *_, job_id, attempt = subject.split(".")
    return UUID(job_id), int(attempt)


def order_for(job_id: UUID, generation: Generation, attempt: int, now: datetime) -> WorkOrder | None:
    """The order for `attempt`; None unless it is the job's next attempt and its deadline has not passed."""
    job = generation.job
    if not isinstance(job, Waiting) or job.tries.attempt + 1 != attempt or past_deadline(job, now):
        return None
    recipe = job.queued.recipe
    reservations = {index: generation.assets[index] for index in pending_indexes(generation)}
    handed_over = job.tries.handed_over
    outputs = tuple(
        Output(
            index=index,
            seed=asset.reservation.seed,
            kind=asset.reservation.kind,
            path=asset.reservation.path,
            provider_id=handed_over[index].provider_id if index in handed_over else None,
        )
        for index, asset in reservations.items()
        if not isinstance(asset, UnknownAsset)
    )
    return WorkOrder(
        job_id=job_id,
        owner=job.queued.owner,
        attempt=attempt,
        pool=job.queued.pool,
        recipe=recipe,
        outputs=outputs,
        enhanced_prompt=job.tries.enhanced_prompt,
    )
