"""The NATS connection of a process comes up when the server does, comes back by itself, and wakes who follows."""

import asyncio
import threading

import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from services.messaging import broker as brokers
from services.messaging.broker import Broker, ensure_work_stream
from services.messaging.wire import LEASE_S, WAKE, WORK_STREAM, work_consumer
from tests.services.beside import OwnNats, opened, settled, until
from tests.services.commits import WAIT_S_MAX


@pytest.fixture
def wakes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a wake-up wakes a follower: its poll is too slow to be seen."""
    monkeypatch.setattr(brokers, "POLL_S", 10 * WAIT_S_MAX)


class Heard:
    """What a subscription received."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def hear(self, message: Msg) -> None:
        self.texts.append(message.data.decode())


async def say(broker: Broker, *texts: str) -> None:
    """Publish on `notes`, and wait for an answer of the server."""
    for text in texts:
        await broker.client.publish("notes", text.encode())
    await settled(broker.client)


async def test_open_does_not_wait_for_a_server(own_nats: OwnNats) -> None:
    broker = Broker(own_nats.url, "test")
    await broker.open()
    assert not broker.connected
    own_nats.start()
    await until(lambda: broker.connected)
    await broker.close()
    assert not broker.connected


async def test_a_broker_that_never_found_a_server_closes(own_nats: OwnNats) -> None:
    broker = Broker(own_nats.url, "test")
    await broker.open()
    await asyncio.wait_for(broker.close(), WAIT_S_MAX)


async def test_subscriptions_survive_a_restart_of_nats(own_nats: OwnNats) -> None:
    own_nats.start()
    async with opened(own_nats.url) as broker:
        heard = Heard()
        await broker.subscribe("notes", heard.hear)
        await say(broker, "before")
        await until(lambda: heard.texts == ["before"])
        own_nats.kill()
        await until(lambda: not broker.connected)
        own_nats.start()
        await until(lambda: broker.connected)
        await say(broker, "after")
        await until(lambda: heard.texts == ["before", "after"])


async def test_a_subscription_made_while_nats_is_down_is_there_when_it_is_up(own_nats: OwnNats) -> None:
    broker, early, late = Broker(own_nats.url, "test"), Heard(), Heard()
    await broker.subscribe("notes", early.hear)
    await broker.open()
    own_nats.start()
    await until(lambda: broker.connected)
    own_nats.kill()
    await until(lambda: not broker.connected)
    await broker.subscribe("notes", late.hear)
    own_nats.start()
    await until(lambda: broker.connected)
    await say(broker, "one", "two")
    await until(lambda: early.texts == late.texts == ["one", "two"])  # each once
    await broker.close()


async def test_subscriptions_made_while_it_connects_are_made_once(own_nats: OwnNats) -> None:
    own_nats.start()
    broker, heard = Broker(own_nats.url, "test"), [Heard() for _ in range(50)]
    await broker.open()
    for one in heard:
        await broker.subscribe("notes", one.hear)
        await asyncio.sleep(0)  # let it connect a little further
    await until(lambda: broker.connected)
    await say(broker, "once", "again")
    await until(lambda: all(len(one.texts) >= 2 for one in heard))
    assert [one.texts for one in heard] == [["once", "again"]] * 50
    await broker.close()


async def test_a_queue_group_gets_each_message_once(nats_url: str) -> None:
    async with opened(nats_url, "one") as one, opened(nats_url, "other") as other:
        heard = Heard()
        for member in (one, other):
            await member.subscribe("notes", heard.hear, queue="readers")
            await settled(member.client)
        await say(one, *map(str, range(20)))
        await until(lambda: len(heard.texts) >= 20)
        assert sorted(heard.texts, key=int) == [str(number) for number in range(20)]


@pytest.mark.usefixtures("wakes_alone")
async def test_a_wake_up_reaches_every_follower_of_every_process(nats_url: str) -> None:
    async with opened(nats_url, "writer") as writer, opened(nats_url, "reader") as reader:
        await reader.hear_wakes()
        await settled(reader.client)
        followers = [writer.follower(), reader.follower(), reader.follower()]
        for _ in range(2):
            writing = threading.Thread(target=writer.wake, args=(1,))  # as the flusher does, from its own thread
            writing.start()
            await asyncio.wait_for(asyncio.gather(*(follower.woken() for follower in followers)), WAIT_S_MAX)
            writing.join()


@pytest.mark.usefixtures("wakes_alone")
async def test_a_wake_up_that_comes_while_nobody_waits_is_not_lost(broker: Broker) -> None:
    follower = broker.follower()
    broker.wake(1)
    await asyncio.sleep(0)
    await asyncio.wait_for(follower.woken(), WAIT_S_MAX)


async def test_without_nats_followers_are_woken_by_their_own_process_and_by_their_poll(own_nats: OwnNats) -> None:
    broker = Broker(own_nats.url, "test")
    broker.wake(1)  # not even open
    await broker.open()
    follower = broker.follower()
    broker.wake(1)
    for _ in range(3):
        await asyncio.wait_for(follower.woken(), WAIT_S_MAX)
    await broker.close()


async def test_many_commits_wake_the_others_a_few_times_and_after_the_last_one(nats_url: str) -> None:
    async with opened(nats_url, "writer") as writer, opened(nats_url, "reader") as reader:
        heard = Heard()
        await reader.subscribe(WAKE, heard.hear)
        await settled(reader.client)
        for position in range(1, 201):
            writer.wake(position)
        await until(lambda: "200" in heard.texts)
        assert len(heard.texts) <= 2  # what comes at once, and what came while that learned of
        writer.wake(201)
        await until(lambda: heard.texts[-1] == "201")


async def of_the_pool(broker: Broker) -> ConsumerConfig:
    """The consumer of `sdxl`."""
    return (await broker.jetstream.consumer_info(WORK_STREAM, work_consumer("sdxl"))).config


async def test_an_order_that_nobody_acks_is_held_for_a_lease(broker: Broker) -> None:
    await ensure_work_stream(broker.jetstream, ["sdxl"])
    assert (await of_the_pool(broker)).ack_wait == LEASE_S
    await broker.jetstream.delete_stream(WORK_STREAM)
    await ensure_work_stream(broker.jetstream, ["sdxl"], lease_s=7.5)
    assert (await of_the_pool(broker)).ack_wait == 7.5


async def test_a_consumer_follows_a_lease_that_was_set_again_and_so_do_the_orders_that_are_out(broker: Broker) -> None:
    await ensure_work_stream(broker.jetstream, ["sdxl"], lease_s=10 * WAIT_S_MAX)
    before = await of_the_pool(broker)
    await broker.jetstream.publish("work.sdxl.a-job.1", b"an order")
    pulling = await broker.jetstream.pull_subscribe_bind(work_consumer("sdxl"), stream=WORK_STREAM)
    await pulling.fetch(1, timeout=WAIT_S_MAX)  # by a worker that dies with it
    await ensure_work_stream(broker.jetstream, ["sdxl"], lease_s=1.0)
    assert await of_the_pool(broker) == before.evolve(ack_wait=1.0)
    (again,) = await pulling.fetch(1, timeout=WAIT_S_MAX)
    assert (again.data, again.metadata.num_delivered) == (b"an order", 2)
