"""WORK holds what the workers can soon take, in the queue's order; what is lost there is handed out again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from domain.aggregates.job import status_of
from domain.recipes.recipe import Kind
from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.messaging.broker import Broker, ensure_work_stream
from services.messaging.wire import WORK_STREAM, Output, WorkOrder, work_consumer, work_filter
from services.queue import dispatcher as dispatchers
from services.queue.backlog import DEPTH
from services.queue.dispatcher import Dispatcher, order_for
from services.queue.reaper import Reaper
from tests.histories import Story, Views, append_raw
from tests.services.beside import OwnNats, opened, running
from tests.services.commits import WAIT_S_MAX
from tests.spec import CANCEL, SEED, TRANSIENT, fail, release, report_completed, start

POOL = "sdxl"


@pytest.fixture
def dispatcher(database: Database, ledger: Ledger, broker: Broker) -> Dispatcher:
    """Of the one pool."""
    return Dispatcher(database, ledger, broker, [POOL])


async def a_worker(broker: Broker, pool: str = POOL, patience_s: float = WAIT_S_MAX) -> Msg:
    """A worker that waits for its next message; the message once it came."""
    await ensure_work_stream(broker.jetstream, [pool])
    pulling = await broker.jetstream.pull_subscribe_bind(work_consumer(pool), stream=WORK_STREAM)
    (message,) = await pulling.fetch(1, timeout=patience_s)
    return message


@asynccontextmanager
async def workers(broker: Broker, count: int, pool: str = POOL) -> AsyncIterator[list["asyncio.Task[Msg]"]]:
    """So many workers, seen waiting by the broker; a task done holds a message."""
    pulls = [asyncio.create_task(a_worker(broker, pool)) for _ in range(count)]
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while await waiting(broker, pool) < count:  # noqa: ASYNC110 - JetStream tells nobody of a pull
                await asyncio.sleep(0.01)
        yield pulls
    finally:
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)


async def waiting(broker: Broker, pool: str) -> int:
    """How many workers wait at the consumer; -1 before there is one."""
    try:
        return (await broker.jetstream.consumer_info(WORK_STREAM, work_consumer(pool))).num_waiting or 0
    except NatsError:
        return -1


async def work(broker: Broker) -> set[tuple[UUID, int]]:
    """The attempts that WORK holds."""
    info = await broker.jetstream.stream_info(WORK_STREAM, subjects_filter=work_filter("*"))
    there = [subject.split(".") for subject in info.state.subjects or {}]
    assert info.state.messages == len(there)
    return {(UUID(job_id), int(attempt)) for _, _, job_id, attempt in there}


def order_in(message: Msg) -> WorkOrder:
    """What a worker reads."""
    return WorkOrder.model_validate_json(message.data)


# How much.


async def test_without_a_worker_nothing_is_handed_out(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    story.submit(1)
    views.catch_up()
    assert await dispatcher.step() == 0
    assert await work(broker) == set()


@pytest.mark.parametrize("count", [1, 3])
async def test_twice_the_waiting_workers_are_served_and_no_more(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker, count: int
) -> None:
    jobs = [story.submit(1) for _ in range(2 * count + 3)]
    views.catch_up()
    async with workers(broker, count) as pulls:
        assert await dispatcher.step() == 2 * count
        await asyncio.gather(*pulls)  # each has one in hand now, unacked
        assert await dispatcher.step() == 0
        assert await work(broker) == {(job_id, 1) for job_id in jobs[: 2 * count]}


async def test_a_worker_that_looks_for_another_order_while_it_holds_one_has_more_to_choose_from(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    for _ in range(8):
        story.submit(1)
    views.catch_up()
    async with workers(broker, 1) as pulls:
        await dispatcher.step()
        await asyncio.gather(*pulls)
        second = await a_worker(broker)
        looking = asyncio.create_task(a_worker(broker))
        async with asyncio.timeout(WAIT_S_MAX):
            while await dispatcher.step() == 0:  # noqa: ASYNC110 - it has to see the second wait
                await asyncio.sleep(0.01)
        assert order_in(await looking).job_id != order_in(second).job_id


async def test_a_look_at_the_queue_waits_for_room_to_half_of_the_workers(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatchers, "VIEW_S", 0.0)
    jobs = [story.submit(1) for _ in range(12)]
    views.catch_up()
    async with workers(broker, 4) as pulls:
        assert await dispatcher.step() == 8
        first, second, *_ = await asyncio.gather(*pulls)
        await first.ack_sync()
        assert order_in(await a_worker(broker)).job_id == jobs[4]
        assert await dispatcher.step() == 0  # three wait for the next who is free
        await second.ack_sync()
        assert order_in(await a_worker(broker)).job_id == jobs[5]
        assert await dispatcher.step() == 2
        # The ledger never heard of a start, so the two that were acked are handed out again.
        assert {job_id for job_id, _ in await work(broker)} == set(jobs[:8])


async def test_what_the_view_does_not_show_yet_is_passed_over(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else jobs that are long in work would stand before those that wait, and be read again at each look."""
    jobs = [story.submit(1) for _ in range(2 * DEPTH)]
    views.catch_up()
    async with workers(broker, DEPTH // 2):
        assert await dispatcher.step() == DEPTH
        done = await work(broker)
        for job_id, attempt in done:
            story.tell(job_id, start(attempt))
        await broker.jetstream.purge_stream(WORK_STREAM)  # as if they were done and acked
    async with workers(broker, DEPTH // 2):  # the view still shows them as waiting
        assert await dispatcher.step() == DEPTH
        assert {job_id for job_id, _ in await work(broker)} == set(jobs) - {job_id for job_id, _ in done}
        await broker.jetstream.purge_stream(WORK_STREAM)
    monkeypatch.setattr(dispatchers, "VIEW_S", 0.0)
    async with workers(broker, DEPTH // 2):  # nobody began with the second half, and nothing is lost
        assert await dispatcher.step() == DEPTH


async def test_many_orders_are_pulled_in_the_queues_order(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    jobs = [story.submit(1) for _ in range(24)]
    views.catch_up()
    async with workers(broker, 12) as pulls:
        assert [await dispatcher.step(), await dispatcher.step()] == [DEPTH, 24 - DEPTH]
        await asyncio.gather(*pulls)
        assert [order_in(await a_worker(broker)).job_id for _ in range(12)] == jobs[12:]


async def test_each_pool_is_filled_by_its_own_workers(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    for pool in (POOL, "wan"):
        for _ in range(3):
            story.submit(1, pool=pool)
    views.catch_up()
    async with workers(broker, 1, "wan") as pulls:
        assert await Dispatcher(database, ledger, broker, [POOL, "wan"]).step() == 2
        assert order_in(await pulls[0]).pool == "wan"


# In which order.


async def test_work_comes_by_priority_then_first_come(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    low, first, second, urgent = (story.submit(1, priority=priority) for priority in (-1, 0, 0, 5))
    views.catch_up()
    order = []
    for _ in range(4):
        pull = asyncio.create_task(a_worker(broker))
        while not pull.done():
            await dispatcher.step()
            await asyncio.sleep(0.01)
        job_id = order_in(await pull).job_id
        order.append(job_id)
        story.tell(job_id, start(1), report_completed(0))
        views.catch_up()
        await (await pull).ack_sync()
    assert order == [urgent, first, second, low]


async def test_owners_take_turns_however_many_jobs_one_of_them_has(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    ada = [story.submit(6) for _ in range(3 * DEPTH)]  # a minute each: one fills a round
    ben, cleo = ([story.submit(6, owner=owner) for _ in range(3)] for owner in ("ben", "cleo"))
    views.catch_up()
    async with workers(broker, 4):
        assert await dispatcher.step() == 8
        assert await work(broker) == {(job_id, 1) for job_id in (*ada[:3], *ben, *cleo[:2])}


async def test_a_new_dispatcher_goes_on_where_the_one_before_ended(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    for owner in ("ada", "ben"):
        for _ in range(6):
            story.submit(6, owner=owner)
    owners = []
    for _ in range(8):
        views.catch_up()
        pull = asyncio.create_task(a_worker(broker))
        while not pull.done():
            await Dispatcher(database, ledger, broker, [POOL]).step()  # a new one for every step
            await asyncio.sleep(0.01)
        order = order_in(await pull)
        owners.append(order.owner)
        story.tell(order.job_id, start(1), *(report_completed(index) for index in range(6)))
        await (await pull).ack_sync()
    assert owners == ["ada", "ben"] * 4


async def test_an_owner_alone_fills_all_the_room(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    for _ in range(3 * DEPTH):
        story.submit(1)
    views.catch_up()
    async with workers(broker, DEPTH):
        assert await dispatcher.step() == DEPTH  # what is read at a time
        assert await dispatcher.step() == DEPTH
        assert await dispatcher.step() == 0


async def test_of_nobody_more_jobs_run_or_are_handed_out_than_the_cap(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    ada = [story.submit(1) for _ in range(6)]
    elsewhere = story.submit(1, pool="wan")
    ben = [story.submit(1, owner="ben") for _ in range(2)]
    story.tell(elsewhere, start(1))
    views.catch_up()
    dispatcher = Dispatcher(database, ledger, broker, [POOL], running_per_owner_max=3)
    async with workers(broker, 4):
        assert await dispatcher.step() == 4
        assert await work(broker) == {(job_id, 1) for job_id in (*ada[:2], *ben)}
        story.tell(elsewhere, report_completed(0))
        views.catch_up()
        assert await dispatcher.step() == 1
        assert await work(broker) == {(job_id, 1) for job_id in (*ada[:3], *ben)}


# Each attempt once, and only when it may start.


async def test_two_dispatchers_hand_out_each_attempt_once(
    database: Database, ledger: Ledger, story: Story, views: Views, nats_url: str
) -> None:
    jobs = {story.submit(1) for _ in range(12)}
    views.catch_up()
    async with opened(nats_url, "one") as one, opened(nats_url, "other") as other, workers(one, 8):
        both = [Dispatcher(database, ledger, broker, [POOL]) for broker in (one, other)]
        await asyncio.gather(*(dispatcher.step() for dispatcher in both))
        assert await work(one) == {(job_id, 1) for job_id in jobs}


async def test_a_job_that_backs_off_is_not_handed_out_before_its_time(
    ledger: Ledger, story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    def an_hour(sign: int) -> Story:
        return Story(ledger, lambda: datetime.now(UTC) + sign * timedelta(hours=1))

    early, due = story.submit(1), story.submit(1)
    an_hour(+1).tell(early, start(1), fail(1, TRANSIENT, jitter=0.5))
    an_hour(-1).tell(due, start(1), fail(1, TRANSIENT, jitter=0.5))
    views.catch_up()
    async with workers(broker, 1) as (pull,):
        assert await dispatcher.step() == 1
        assert (order_in(await pull).job_id, order_in(await pull).attempt) == (due, 2)


async def test_a_canceled_job_is_not_handed_out_though_the_view_is_behind(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    canceled = story.submit(1)
    views.catch_up()
    story.tell(canceled, CANCEL)
    async with workers(broker, 1):
        assert await dispatcher.step() == 0
        views.catch_up()
        assert await dispatcher.step() == 0


async def test_a_job_past_its_deadline_is_not_handed_out_and_aborted(
    database: Database, ledger: Ledger, story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    now = datetime.now(UTC)
    overdue = story.submit(1, deadline=now - timedelta(seconds=1))
    in_time = story.submit(1, deadline=now + timedelta(hours=1))
    views.catch_up()
    async with workers(broker, 2):
        assert await dispatcher.step() == 1
        assert await work(broker) == {(in_time, 1)}
        assert Reaper(database, ledger, broker, lease_s=30).abort_overdue() == [overdue]
        views.catch_up()
        assert await dispatcher.step() == 0
    assert status_of(ledger.generation(overdue).job) == "aborted"


async def test_a_deadline_is_about_the_first_start(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    began = story.submit(1, deadline=datetime.now(UTC) + timedelta(hours=1))
    story.tell(began, start(1), release(1))
    late = order_for(began, story.ledger.generation(began), 2, datetime.now(UTC) + timedelta(hours=2))
    assert late is not None
    views.catch_up()
    async with workers(broker, 1):
        assert await dispatcher.step() == 1


def test_an_order_is_not_made_for_a_job_whose_deadline_passed_since_it_was_read(story: Story) -> None:
    job_id = story.submit(1, deadline=datetime.now(UTC) + timedelta(hours=1))
    generation = story.ledger.generation(job_id)
    assert order_for(job_id, generation, 1, datetime.now(UTC)) is not None
    assert order_for(job_id, generation, 1, datetime.now(UTC) + timedelta(hours=1)) is None


async def test_a_job_that_cannot_be_read_holds_up_no_other(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker, recorder: PostgresRecorder
) -> None:
    unreadable, readable = story.submit(1), story.submit(1)
    append_raw(recorder, unreadable, 2, "job.paused.v9", b"{}")
    views.catch_up()
    async with workers(broker, 1) as (pull,):
        assert await dispatcher.step() == 1
        assert order_in(await pull).job_id == readable


# What an order says.


async def test_an_order_holds_what_is_still_owed(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    job_id = story.submit(3, prompt="two foxes")
    story.tell(job_id, start(1), report_completed(1), release(1))
    views.catch_up()
    async with workers(broker, 1) as (pull,):
        await dispatcher.step()
        order = order_in(await pull)
    assert (order.job_id, order.attempt, order.pool, order.recipe.prompt) == (job_id, 2, POOL, "two foxes")
    assert order.outputs == tuple(
        Output(index=index, seed=SEED + index, kind=Kind.IMAGE, path=f"sdxl_image_fast/ada/{job_id}_{index}.png")
        for index in (0, 2)
    )


# What NATS loses.


async def test_what_a_lost_work_stream_held_is_handed_out_again(
    story: Story, views: Views, dispatcher: Dispatcher, broker: Broker
) -> None:
    jobs = {(story.submit(1), 1) for _ in range(2)}
    views.catch_up()
    async with workers(broker, 1):
        assert await dispatcher.step() == 2
    await broker.jetstream.delete_stream(WORK_STREAM)
    async with workers(broker, 1):
        assert await dispatcher.step() == 2
        assert await work(broker) == jobs


async def test_a_running_dispatcher_goes_on_when_nats_comes_back_without_its_disk(
    database: Database, ledger: Ledger, story: Story, views: Views, own_nats: OwnNats
) -> None:
    own_nats.start()
    job_id = story.submit(1)
    views.catch_up()
    async with opened(own_nats.url) as broker, running(Dispatcher(database, ledger, broker, [POOL]).run):
        assert order_in(await a_worker(broker)).job_id == job_id
        own_nats.kill(forget=True)
        own_nats.start()
        again = await _retried(broker)
        assert (again.job_id, again.attempt) == (job_id, 1)  # its worker had not begun yet


async def _retried(broker: Broker) -> WorkOrder:
    """What a worker gets that tries again while NATS is not back."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                return order_in(await a_worker(broker, patience_s=1.0))  # a pull that ends by itself loses no message
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(0.05)
