"""A stream LEDGER that NATS damaged is noticed, and filled again; other things that differ are said and left alone."""

import asyncio
import signal
from collections.abc import Callable
from uuid import uuid4

import orjson
import pytest
from nats.errors import Error as NatsError

from services.ledger import Ledger, PostgresRecorder
from services.messaging import ledger_stream as streams
from services.messaging import relay as relays
from services.messaging.broker import Broker
from services.messaging.ledger_stream import Comparison, message_of
from services.messaging.relay import Relay
from services.messaging.wire import LEDGER_STREAM
from services.observability import parking
from services.observability.metrics import PROCESS
from tests.histories import Story, append_raw
from tests.services.beside import OwnNats, opened, running, until
from tests.services.commits import WAIT_S_MAX
from tests.services.messaging.test_relay import expected, last_sequence, reached, sent

BYTES_MAX = 1_000_000


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare as fast as it goes, a few messages at a time."""
    for name, value in {"SLICE_EVENTS": 7, "SHARE": 0, "PAUSE_S_MIN": 0.01, "ROUND_S_MIN": 0.05}.items():
        monkeypatch.setattr(streams, name, value)


async def broadcast(ledger: Ledger, broker: Broker) -> Relay:
    """Everything that the ledger has so far."""
    relay = Relay(ledger, broker)
    while await relay.step():
        pass
    assert await last_sequence(broker) == ledger.head()
    return relay


def refills() -> float:
    """How often a stream was filled again by this process."""
    return PROCESS.get_sample_value("darkroom_ledger_stream_refills_total") or 0.0


def flip_a_byte(content: bytearray, share: float) -> None:
    """One bit, somewhere in the middle of a message."""
    content[int(len(content) * share)] ^= 0x08


def cut_to_half(content: bytearray, share: float) -> None:
    """As a disk does that ran out of space."""
    del content[int(len(content) * share) :]


@pytest.mark.parametrize("sequence", [1, 5, -1])
async def test_a_deleted_message_is_noticed_and_the_stream_filled_again(
    ledger: Ledger, story: Story, own_nats: OwnNats, sequence: int
) -> None:
    own_nats.start()
    story.finished(3)
    async with opened(own_nats.url) as broker:
        relay = await broadcast(ledger, broker)
        lost = sequence if sequence > 0 else ledger.head()
        await broker.jetstream.delete_msg(LEDGER_STREAM, lost)
        before = refills()
        async with running(relay.run):
            await until(lambda: refills() > before)
            await reached(broker, ledger)
        assert await sent(broker) == expected(ledger)


@pytest.mark.parametrize("share", [0.2, 0.8])
@pytest.mark.parametrize("damage", [flip_a_byte, cut_to_half])
@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
async def test_a_damaged_file_of_nats_is_noticed_and_the_stream_filled_again(
    ledger: Ledger,
    story: Story,
    own_nats: OwnNats,
    damage: Callable[[bytearray, float], None],
    share: float,
    ends: signal.Signals,
) -> None:
    own_nats.start()
    for _ in range(4):
        story.finished(3)
    async with opened(own_nats.url) as broker:
        await broadcast(ledger, broker)
        whole = expected(ledger)
        own_nats.end(ends)
        (block,) = own_nats.blocks(LEDGER_STREAM)
        content = bytearray(block.read_bytes())
        damage(content, share)
        block.write_bytes(content)
        own_nats.start()
        await until(lambda: broker.connected)
        async with running(Relay(ledger, broker).run):
            async with asyncio.timeout(WAIT_S_MAX):
                while not await is_whole(broker, whole):  # noqa: ASYNC110 - JetStream tells nobody of it
                    await asyncio.sleep(0.05)


async def is_whole(broker: Broker, whole: object) -> bool:
    """Whether the stream is what it was; False while it is being filled, and while a message cannot be read."""
    try:
        return await sent(broker) == whole
    except (NatsError, TimeoutError):
        return False


async def test_what_is_written_while_a_stream_is_filled_again_is_in_it_too(
    ledger: Ledger, story: Story, own_nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BATCH_EVENTS_MAX", 5)
    own_nats.start()
    story.finished(5)
    async with opened(own_nats.url) as broker:
        relay = await broadcast(ledger, broker)
        await broker.jetstream.purge_stream(LEDGER_STREAM, keep=3)
        before = refills()
        async with running(relay.run):
            await asyncio.to_thread(lambda: [story.finished(1) for _ in range(10)])
            await until(lambda: refills() > before)
            await reached(broker, ledger)
        assert await sent(broker) == expected(ledger)


async def test_two_relays_that_find_a_damage_fill_the_stream_once(
    ledger: Ledger, story: Story, own_nats: OwnNats
) -> None:
    own_nats.start()
    story.finished(3)
    async with opened(own_nats.url, "one") as one, opened(own_nats.url, "other") as other:
        first, second = await broadcast(ledger, one), await broadcast(ledger, other)
        await one.jetstream.delete_msg(LEDGER_STREAM, 2)
        before = refills()
        async with running(first.run), running(second.run):
            await until(lambda: refills() > before)
            await reached(one, ledger)
        assert await sent(one) == expected(ledger)


async def test_a_disk_that_goes_on_losing_messages_is_not_filled_without_end(
    ledger: Ledger, story: Story, own_nats: OwnNats, caplog: pytest.LogCaptureFixture
) -> None:
    own_nats.start()
    story.finished(3)
    async with opened(own_nats.url) as broker:
        relay = await broadcast(ledger, broker)
        await broker.jetstream.delete_msg(LEDGER_STREAM, 2)
        before = refills()
        async with running(relay.run):
            await until(lambda: refills() > before)
            await reached(broker, ledger)
            await broker.jetstream.delete_msg(LEDGER_STREAM, 2)
            await until(lambda: "is damaged again" in caplog.text)
        assert await last_sequence(broker) == ledger.head()


async def test_a_whole_message_of_another_event_is_said_and_nothing_is_deleted(
    ledger: Ledger, story: Story, own_nats: OwnNats, caplog: pytest.LogCaptureFixture
) -> None:
    own_nats.start()
    async with opened(own_nats.url) as broker:
        relay = await broadcast(ledger, broker)
        other = {"position": 1, "stream": str(uuid4()), "version": 1, "topic": "job.queued.v1", "state": None}
        await broker.jetstream.publish("ledger.ada.job.queued", orjson.dumps(other))
        story.finished(1)
        before = refills()
        async with running(relay.run):
            await until(lambda: "holds another event at position 1" in caplog.text)
        assert refills() == before
        assert await last_sequence(broker) > 0


async def test_comparing_goes_through_the_whole_stream_and_begins_again(
    ledger: Ledger, story: Story, broker: Broker
) -> None:
    story.finished(5)
    await broadcast(ledger, broker)
    comparison = Comparison(ledger, broker)
    for _ in range(2):
        steps = []
        while compared := await comparison.step():
            steps.append(compared)
        assert sum(steps) == ledger.head()
        assert max(steps) == streams.SLICE_EVENTS


async def test_an_event_too_large_for_nats_takes_its_place_and_holds_up_none(
    ledger: Ledger, recorder: PostgresRecorder, story: Story, own_nats: OwnNats, caplog: pytest.LogCaptureFixture
) -> None:
    own_nats.start()
    stream = uuid4()
    story.finished(1)
    large = b'{"meta":{"owner":"ada"},"data":{"error":"' + b"x" * 2_000_000 + b'"}}'
    append_raw(recorder, stream, 1, "job.failed.v1", large)  # as an earlier version took it
    at = ledger.head()
    story.finished(1)
    async with opened(own_nats.url) as broker, running(Relay(ledger, broker).run):
        await reached(broker, ledger)
        await compared(ledger, broker)
        sequence, subject, told = (await sent(broker))[at - 1]
    assert (sequence, subject) == (at, "ledger.ada.job.failed")
    assert told == {"position": at, "stream": str(stream), "version": 1, "topic": "job.failed.v1", "state": None}
    assert any(one.item == at and "2000044 bytes" in one.sentence for one in parking.parked("relay"))
    assert f"the relay passes over {at}" in caplog.text
    assert refills_of_none(caplog)


async def compared(ledger: Ledger, broker: Broker) -> None:
    """A whole round finds nothing."""
    comparison = Comparison(ledger, broker)
    while await comparison.step():
        pass
    assert comparison.difference_in(await broker.jetstream.stream_info(LEDGER_STREAM)) is None


def refills_of_none(caplog: pytest.LogCaptureFixture) -> bool:
    """Nothing was thought damaged."""
    return "is damaged" not in caplog.text


@pytest.mark.parametrize(
    ("topic", "owner", "subject"),
    [
        ("job.failed.v1", "ada", "ledger.ada.job.failed"),
        ("job.failed.v1", "a b", "ledger._.job.failed"),
        ("job.failed.v1", "a.b", "ledger._.job.failed"),
        ("job.failed.v1", ">", "ledger._.job.failed"),
        ("job.failed.v1", "a\r\nPUB ledger.x 0", "ledger._.job.failed"),
        ("job.failed.v1", "a" * 5_000, "ledger._.job.failed"),
        ("job.failed.v1", "", "ledger._.job.failed"),
        ("job failed.v1", "ada", "ledger.ada.event.unnamed"),
        ("*.>.v1", "ada", "ledger.ada.event.unnamed"),
        ("x" * 5_000, "ada", "ledger.ada.event.unnamed"),
    ],
)
async def test_no_name_in_an_event_holds_up_the_broadcast(
    ledger: Ledger, recorder: PostgresRecorder, story: Story, broker: Broker, topic: str, owner: str, subject: str
) -> None:
    append_raw(recorder, uuid4(), 1, topic, orjson.dumps({"meta": {"owner": owner}, "data": {}}))
    story.finished(1)
    await broadcast(ledger, broker)
    assert (await sent(broker))[0][:2] == (1, subject)
    assert message_of(ledger.read_raw(0, 1)[0], BYTES_MAX).subject == subject


async def test_a_stream_that_takes_only_small_messages_gets_the_large_ones_without_content(
    ledger: Ledger, story: Story, own_nats: OwnNats
) -> None:
    own_nats.start()
    async with opened(own_nats.url) as broker:
        await broadcast(ledger, broker)
        info = await broker.jetstream.stream_info(LEDGER_STREAM)
        await broker.jetstream.update_stream(info.config.evolve(max_msg_size=1_600))
        story.submit(prompt="fog " * 500)
        await broadcast(ledger, broker)
        told = [state["state"] is None for _, _, state in await sent(broker)]
    assert told == [True, False, False, False]
