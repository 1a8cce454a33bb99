"""Every event of the ledger is broadcast in order: the sequence of the LEDGER stream is the position."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import orjson
import pytest
from nats.errors import Error as NatsError

from domain.codec import name_of
from services.ledger import Ledger, PostgresRecorder, RawEvent
from services.messaging import relay as relays
from services.messaging.broker import Broker
from services.messaging.relay import Relay
from services.messaging.wire import LEDGER_STREAM
from tests.histories import Story, append_raw
from tests.services.beside import OwnNats, opened, running, until

Sent = tuple[int, str, dict[str, Any]]


async def sent(broker: Broker) -> list[Sent]:
    """What the stream holds: sequence, subject and payload of each message."""
    info = await broker.jetstream.stream_info(LEDGER_STREAM)
    messages = [
        await broker.jetstream.get_msg(LEDGER_STREAM, sequence) for sequence in range(1, info.state.last_seq + 1)
    ]
    return [(message.seq or 0, message.subject or "", orjson.loads(message.data or b"")) for message in messages]


def expected(ledger: Ledger) -> list[Sent]:
    """What the stream must hold."""
    return [
        (
            event.position,
            f"ledger.{orjson.loads(event.state)['meta']['owner']}.{name_of(event.topic)}",
            {
                "position": event.position,
                "stream": str(event.stream_id),
                "version": event.version,
                "topic": event.topic,
                "state": orjson.loads(event.state),
            },
        )
        for event in ledger.read_raw(0, 100_000)
    ]


async def last_sequence(broker: Broker) -> int:
    """Where the stream ends; -1 when it cannot be asked."""
    try:
        return (await broker.jetstream.stream_info(LEDGER_STREAM)).state.last_seq
    except (NatsError, OSError, TimeoutError):
        return -1


async def reached(broker: Broker, ledger: Ledger) -> None:
    """Wait until the stream holds the whole ledger."""
    looks = 0
    while await last_sequence(broker) != ledger.head():
        looks += 1
        assert looks < 600, "The stream did not reach the end of the ledger in time."
        await asyncio.sleep(0.05)


async def test_the_stream_is_the_ledger(ledger: Ledger, story: Story, broker: Broker) -> None:
    story.finished(3)
    story.finished(1, owner="bob")
    relay = Relay(ledger, broker)
    assert await relay.step() == ledger.head()
    story.finished(1)
    while await relay.step():
        pass
    assert await sent(broker) == expected(ledger)


async def test_nothing_is_sent_of_an_empty_ledger(ledger: Ledger, broker: Broker) -> None:
    assert await Relay(ledger, broker).step() == 0
    assert await sent(broker) == []


async def test_two_relays_send_each_event_once(
    ledger: Ledger, story: Story, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH_EVENTS_MAX", 7)
    async with opened(nats_url, "one") as one, opened(nats_url, "other") as other:
        with ThreadPoolExecutor(max_workers=3) as threads:
            loop = asyncio.get_running_loop()
            async with running(Relay(ledger, one).run), running(Relay(ledger, other).run):
                await asyncio.gather(*(loop.run_in_executor(threads, story.finished) for _ in range(20)))
                await reached(one, ledger)
        assert await sent(one) == expected(ledger)


async def test_an_event_is_sent_as_soon_as_it_is_committed(ledger: Ledger, story: Story, broker: Broker) -> None:
    async with running(Relay(ledger, broker).run):
        for _ in range(3):
            await asyncio.to_thread(story.finished)
            await reached(broker, ledger)


@pytest.mark.parametrize("forget", [True, False], ids=["and its disk is lost", "and keeps its disk"])
async def test_when_nats_comes_back_the_stream_is_the_ledger_again(
    ledger: Ledger, story: Story, own_nats: OwnNats, *, forget: bool
) -> None:
    own_nats.start()
    story.finished(3)
    async with opened(own_nats.url) as broker, running(Relay(ledger, broker).run):
        await reached(broker, ledger)
        own_nats.kill(forget=forget)
        await until(lambda: not broker.connected)
        story.finished(1)
        own_nats.start()
        await reached(broker, ledger)
        story.finished(1)
        await reached(broker, ledger)
        assert await sent(broker) == expected(ledger)


async def test_a_relay_that_starts_goes_on_where_the_last_one_stopped(
    ledger: Ledger, story: Story, broker: Broker
) -> None:
    story.finished(1)
    await Relay(ledger, broker).step()
    before = ledger.head()
    story.finished(1)
    assert await Relay(ledger, broker).step() == ledger.head() - before
    assert await sent(broker) == expected(ledger)


class Interrupted(Ledger):
    """The ledger, of which something happens between the question where the stream ends and what follows from it."""

    def __init__(self, recorder: PostgresRecorder, happens: Callable[[], None]) -> None:
        super().__init__(recorder)
        self._happens = happens

    def read_raw(self, after: int, limit: int) -> list[RawEvent]:
        """See `Ledger`."""
        self._happens()
        return super().read_raw(after, limit)


async def test_acks_that_never_come_are_not_waited_for_for_ever(
    ledger: Ledger, recorder: PostgresRecorder, story: Story, own_nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "ACK_S_MAX", 0.3)
    own_nats.start()
    story.finished(3)
    async with opened(own_nats.url) as broker:
        with Interrupted(recorder, own_nats.freeze) as frozen:
            with pytest.raises(TimeoutError):
                await Relay(frozen, broker).step()
            own_nats.kill()
            own_nats.start()
        await until(lambda: broker.connected)
        async with running(Relay(ledger, broker).run):
            await reached(broker, ledger)
        assert await sent(broker) == expected(ledger)


async def test_an_event_that_cannot_be_read_takes_its_place_and_holds_up_none(
    ledger: Ledger, recorder: PostgresRecorder, story: Story, broker: Broker
) -> None:
    stream = uuid4()
    append_raw(recorder, stream, 1, "job.queued.v1", b'{"meta": {"own')
    story.finished(1)
    await Relay(ledger, broker).step()
    (first, *others) = await sent(broker)
    assert first[:2] == (1, "ledger._.job.queued")
    assert (first[2]["stream"], first[2]["state"]) == (str(stream), None)
    assert len(others) == ledger.head() - 1


async def test_a_stream_that_holds_more_than_the_ledger_is_said_and_left_alone(
    ledger: Ledger, story: Story, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    story.finished(1)
    relay = Relay(ledger, broker)
    while await relay.step():
        pass
    await broker.jetstream.publish("ledger.ada.job.queued", b"{}")  # as if Postgres had lost its last event
    beyond = await last_sequence(broker)
    async with running(relay.run):
        await until(lambda: "different ledgers" in caplog.text)
        assert await last_sequence(broker) == beyond
