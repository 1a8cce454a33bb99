"""An older backup of Postgres put back next to newer NATS: noticed by content, and writes stop in every process."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from domain.envelope import Envelope
from domain.events import AssetSaved
from services.database import Database, Unavailable, WritesStopped
from services.ledger import EventMapper, Ledger, PostgresRecorder
from services.ledger.commits import Commit
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.messaging.follower import OutOfStep
from services.messaging.relay import Relay
from services.messaging.wire import LEDGER_STREAM
from services.migrate import migrate
from services.restore.comparing import EPOCH, Admission, why_different
from tests.histories import Story
from tests.services.commits import WAIT_S_MAX
from tests.services.older_backup import backup_of, writing


@pytest.fixture
def lone_dsn(empty_dsn: str) -> Iterator[str]:
    """A migrated database that a test may drop and make again."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection)
    return empty_dsn


def story_in(ledger: Ledger) -> Story:
    return Story(ledger, lambda: datetime.now(UTC))


async def published(ledger: Ledger, broker: Broker) -> None:
    relay = Relay(ledger, broker)
    while await relay.step():
        pass


async def test_a_shorter_ledger_stops_writes_before_anything_is_published(lone_dsn: str, broker: Broker) -> None:
    with writing(lone_dsn) as ledger:
        story_in(ledger).finished(1)
    with backup_of(lone_dsn) as backup:
        with writing(lone_dsn) as ledger:
            story_in(ledger).finished(1)
            await published(ledger, broker)
        backup.restore()
        with writing(lone_dsn) as ledger:
            before = (await broker.jetstream.stream_info(LEDGER_STREAM)).state.last_seq
            with pytest.raises(OutOfStep, match=r"holds 10 events and the ledger 5.*run `darkroom restored`"):
                await Relay(ledger, broker).step()
            with pytest.raises(WritesStopped, match="darkroom restored"):
                story_in(ledger).submit(1)
            assert ledger.stopped()
            assert (ledger.head(), len(ledger.read(0, 10))) == (5, 5)  # reads go on
            assert (await broker.jetstream.stream_info(LEDGER_STREAM)).state.last_seq == before


@pytest.mark.parametrize("grown", [1, 2, 3], ids=["still shorter", "as long", "longer"])
async def test_a_ledger_that_grew_again_is_reported_by_its_content(lone_dsn: str, broker: Broker, grown: int) -> None:
    with writing(lone_dsn) as ledger:
        story_in(ledger).finished(1)
    with backup_of(lone_dsn) as backup:
        with writing(lone_dsn) as ledger:
            for _ in range(2):
                story_in(ledger).finished(1)
            await published(ledger, broker)
        backup.restore()
        with writing(lone_dsn) as ledger:
            for _ in range(grown):
                story_in(ledger).finished(1)
            assert await why_different(ledger, broker)
            with pytest.raises(OutOfStep, match="darkroom restored"):
                await Relay(ledger, broker).step()
            with pytest.raises(WritesStopped):
                story_in(ledger).submit(1)


async def test_a_relay_that_runs_on_notices_as_well(lone_dsn: str, broker: Broker) -> None:
    with writing(lone_dsn) as ledger:
        story_in(ledger).finished(1)
    with backup_of(lone_dsn) as backup, writing(lone_dsn) as ledger:
        relay = Relay(ledger, broker)
        story_in(ledger).finished(1)
        assert await relay.step() == 10
        backup.restore()
        with writing(lone_dsn) as other:  # a process that knows nothing of what was
            story_in(other).finished(2)
        with pytest.raises(OutOfStep, match="another event at position 10"):
            await settled_step(relay)
        with pytest.raises(WritesStopped), writing(lone_dsn) as other:
            story_in(other).submit(1)


async def settled_step(relay: Relay) -> int:
    """A step on connections that were cut: the first one may only find that out."""
    for _ in range(20):
        try:
            return await relay.step()
        except Unavailable as error:
            if isinstance(error, WritesStopped):
                raise
    raise AssertionError("Postgres did not come back.")


def test_a_writer_finds_its_own_last_commit_missing_and_stops_everybody(lone_dsn: str) -> None:
    """Also while NATS is away: nothing needs to be compared."""
    with writing(lone_dsn) as ledger:
        story_in(ledger).finished(1)
    with backup_of(lone_dsn) as backup, writing(lone_dsn) as ledger, writing(lone_dsn) as other:
        story_in(ledger).finished(1)
        backup.restore()
        for one in (ledger, other):
            with pytest.raises(WritesStopped, match="lacks what this Darkroom has appended"):
                story_in(one).submit(1)
        assert other.head() == 5


def test_a_writer_whose_last_commit_is_there_goes_on_after_any_reconnect(lone_dsn: str) -> None:
    with writing(lone_dsn) as ledger:
        story_in(ledger).finished(1)
        with backup_of(lone_dsn) as backup:  # cuts the line
            story_in(ledger).finished(1)
            assert backup.name
        story_in(ledger).finished(1)
        assert (ledger.head(), ledger.stopped()) == (15, None)


async def test_a_process_writes_only_after_it_has_compared(lone_dsn: str, broker: Broker) -> None:
    admission = Admission()
    with Database(lone_dsn) as database, Flusher(lone_dsn, None, admission.is_given) as flusher:
        ledger = Ledger(PostgresRecorder(database, flusher))
        envelope = Envelope("ada", "ada", datetime.now(UTC), uuid4(), correlation_id=uuid4())
        new = EventMapper().encode(uuid4(), 1, AssetSaved(), envelope)
        waiting = flusher.append(Commit(envelope.command_id, [new]))
        assert not waiting.done()
        await admission.seek(ledger, broker)
        assert waiting.result(timeout=WAIT_S_MAX).last_position == 1


async def test_a_stream_that_fits_carries_the_epoch_of_its_ledger(ledger: Ledger, story: Story, broker: Broker) -> None:
    story.finished(1)
    await published(ledger, broker)
    info = await broker.jetstream.stream_info(LEDGER_STREAM)
    current = ledger.epochs().current
    assert current is not None
    assert (info.config.metadata or {})[EPOCH] == str(current.epoch)
    assert await why_different(ledger, broker) is None
