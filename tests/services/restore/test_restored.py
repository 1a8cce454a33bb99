"""`darkroom restored`: what an older backup lost is taken back, merged, or left out by name; then writes go on."""

import asyncio
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID, uuid5

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.js.api import RawStreamMsg, StreamConfig, StreamInfo, StreamState
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from domain.commands import RateAsset
from domain.events import JobHandedOver, LedgerRestored
from domain.recipes.recipe import asset_id
from projections import ALL
from services import users
from services.database import Database, WritesStopped
from services.files.blobs import Blobs
from services.ledger import Ledger, RawEvent
from services.ledger.verification import verify_chain
from services.messaging.follower import OutOfStep
from services.messaging.ledger_stream import message_of
from services.messaging.relay import Relay
from services.messaging.wire import LEDGER_STREAM
from services.migrate import migrate
from services.restore.command import RestoreReport, restored
from services.restore.comparing import EPOCH, why_different
from services.restore.lost import find_lost
from services.views.rebuild import matches_ledger
from tests.histories import Story, Views
from tests.services.beside import opened
from tests.services.messaging.test_relay import expected, sent
from tests.services.older_backup import backup_of, writing

Do = Callable[[Story], object]
MANY = UUID("6f9ef4a3-2f9d-4a52-9d3c-3a1c1d5f8f10")


@pytest.fixture
def lone_dsn(empty_dsn: str) -> str:
    """A migrated database that a test may drop and make again."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection)
    return empty_dsn


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def restore(lone_dsn: str, nats_url: str, blobs: Blobs, tmp_path: Path) -> Callable[..., RestoreReport]:
    """The command, on the database and the session's NATS."""

    def run(*, discard: bool = False, declare: bool = False, dry_run: bool = False) -> RestoreReport:
        return restored(lone_dsn, nats_url, blobs, tmp_path / "data", discard=discard, declare=declare, dry_run=dry_run)

    return run


def story_in(ledger: Ledger) -> Story:
    return Story(ledger, lambda: datetime.now(UTC))


def publish(ledger: Ledger, url: str) -> None:
    async def all_of_it() -> None:
        async with opened(url) as broker:
            relay = Relay(ledger, broker)
            for _ in range(100):
                try:
                    if not await relay.step():
                        return
                except OutOfStep as error:
                    if "made again" not in str(error):
                        raise

    asyncio.run(all_of_it())


def stream_of(url: str) -> list[object]:
    async def read() -> list[object]:
        async with opened(url) as broker:
            return list(await sent(broker))

    return asyncio.run(read())


def tell(dsn: str, url: str, do: Do, *, published: bool = True) -> None:
    """A process that does something, and the relay that publishes it."""
    with writing(dsn) as ledger:
        do(story_in(ledger))
        if published:
            publish(ledger, url)


def refused(dsn: str, url: str) -> None:
    """A relay finds out."""
    with writing(dsn) as ledger, pytest.raises(OutOfStep):
        publish(ledger, url)


def is_right(dsn: str, url: str) -> None:
    """The chain fits, every view is the ledger's, LEDGER is the ledger, and a job can be submitted."""
    with writing(dsn) as ledger, Database(dsn) as database:
        assert ledger.stopped() is None
        Views(database, ledger).catch_up()
        assert verify_chain(database).misfit is None
        for view in ALL:
            assert matches_ledger(database, ledger, view).same, view.name
        story_in(ledger).submit(1)
        publish(ledger, url)
        assert stream_of(url) == expected(ledger)
        assert asyncio.run(_why(ledger, url)) is None


async def _why(ledger: Ledger, url: str) -> str | None:
    async with opened(url) as broker:
        current = ledger.epochs().current
        info = await broker.jetstream.stream_info(LEDGER_STREAM)
        assert current is not None
        assert (info.config.metadata or {})[EPOCH] == str(current.epoch)
        return await why_different(ledger, broker)


def finished(jobs: int) -> Do:
    return lambda story: [story.finished(1) for _ in range(jobs)]


def raw(dsn: str) -> list[object]:
    with writing(dsn) as ledger:
        return list(ledger.read_raw(0, 100_000))


def test_a_ledger_that_has_not_grown_takes_back_everything_byte_for_byte(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(3))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(5))
        before = raw(lone_dsn)
        with psycopg.connect(lone_dsn) as connection:
            commands = connection.execute("select command_id from ledger_commands order by 1").fetchall()
        backup.restore()
        refused(lone_dsn, nats_url)
        trial = restore(dry_run=True)
        assert trial.plan is not None
        assert (trial.plan.how, trial.plan.shared, trial.plan.lost, trial.epoch) == ("taken_back", 15, 25, None)
        assert len(raw(lone_dsn)) == 15  # it was a trial
        report = restore()
    assert report.plan is not None
    assert (report.plan.how, report.plan.shared, report.plan.lost) == ("taken_back", 15, 25)
    after = raw(lone_dsn)
    assert after[:-1] == before
    with psycopg.connect(lone_dsn) as connection:
        assert set(commands) < set(connection.execute("select command_id from ledger_commands").fetchall())
    with writing(lone_dsn) as ledger:
        (last,) = ledger.read(40, 10)
        assert isinstance(last.event, LedgerRestored)  # type: ignore[union-attr]
        assert (last.event.shared_position, last.event.lost, last.event.left_out) == (40, 25, 0)  # type: ignore[union-attr]
        assert ledger.epochs().label(40) == b"40"
        current = ledger.epochs().current
        assert current is not None
        assert ledger.epochs().label(41) == f"{current.epoch.hex[:8]}-41".encode()
    is_right(lone_dsn, nats_url)
    assert restore().plan is None  # nothing to do any more


def test_what_was_lost_lies_in_a_file_before_anything_is_changed(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(1))
        lost = raw(lone_dsn)[5:]
        backup.restore()
        report = restore(discard=True)
    assert report.saved is not None
    lines = [orjson.loads(line) for line in gzip.decompress(report.saved.read_bytes()).splitlines()]
    assert [(line["position"], line["stream"], line["version"], line["topic"]) for line in lines] == [
        (one.position, str(one.stream_id), one.version, one.topic)  # type: ignore[attr-defined]
        for one in lost
    ]
    assert [line["state"] for line in lines] == [orjson.loads(one.state) for one in lost]  # type: ignore[attr-defined]
    assert report.saved.stat().st_mode & 0o077 == 0


def test_a_ledger_that_grew_keeps_what_it_has_and_takes_what_still_fits(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    """The issue's case: the ledger grew past the end of LEDGER before anybody noticed."""
    both: list[object] = []
    tell(lone_dsn, nats_url, lambda story: both.append(story.finished(1)))
    with backup_of(lone_dsn) as backup:

        def lose(story: Story) -> None:
            story.curate(both[0], 0, RateAsset(2, datetime.now(UTC)))  # type: ignore[arg-type]
            both.append(story.finished(2))

        tell(lone_dsn, nats_url, lose)
        backup.restore()

        def grow(story: Story) -> None:
            story.curate(both[0], 0, RateAsset(5, datetime.now(UTC)))  # type: ignore[arg-type]
            both.append(story.finished(3))

        tell(lone_dsn, nats_url, grow, published=False)
        refused(lone_dsn, nats_url)
        report = restore()
    assert report.plan is not None
    assert (report.plan.how, report.plan.shared) == ("merged", 5)
    assert [event.topic for event in report.plan.left_out] == ["asset.rated.v1"]
    with writing(lone_dsn) as ledger:
        rated = ledger.asset(asset_id(both[0], 0))  # type: ignore[arg-type]
        assert rated.curation.rating == 5  # type: ignore[union-attr]
        for job, quantity in zip(both, (1, 2, 3), strict=True):
            assert len(ledger.generation(job).assets) == quantity  # type: ignore[arg-type]
        assert ledger.epochs().label(5) == b"5"
        assert b"-6" in ledger.epochs().label(6)
    is_right(lone_dsn, nats_url)


def test_a_history_that_parted_long_ago_is_found_though_both_end_alike(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    """As a version of before left it: the ledger grew past LEDGER's end, and was published on from there."""
    tell(lone_dsn, nats_url, finished(2))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(2))
        backup.restore()
        with writing(lone_dsn) as ledger:
            story_in(ledger)
            finished(3)(story_in(ledger))
            asyncio.run(publish_blindly(ledger, nats_url, after=20))
            assert asyncio.run(_fits_at_the_end(ledger, nats_url))
            ledger.stop("somebody found another event in the middle")
        report = restore()
    assert report.plan is not None
    assert (report.plan.how, report.plan.shared, report.plan.lost) == ("merged", 10, 10)
    with writing(lone_dsn) as ledger:
        assert ledger.head() == 25 + 10 + 1
    is_right(lone_dsn, nats_url)


async def publish_blindly(ledger: Ledger, url: str, *, after: int) -> None:
    async with opened(url) as broker:
        for event in ledger.read_raw(after, 1_000):
            message = message_of(event, 10**6)
            await broker.jetstream.publish(message.subject, message.payload)


async def _fits_at_the_end(ledger: Ledger, url: str) -> bool:
    async with opened(url) as broker:
        return await why_different(ledger, broker) is None


def test_discarding_begins_without_what_was_lost(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:

        def order(story: Story) -> None:
            job = story.submit(1)
            story.append(job, "ada", JobHandedOver(attempt=1, index=0, provider="replicate", provider_id="r-77"))

        tell(lone_dsn, nats_url, order)
        backup.restore()
        report = restore(discard=True)
    assert report.plan is not None
    assert (report.plan.how, len(report.plan.back), len(report.plan.left_out)) == ("discarded", 0, 3)
    assert [(one.provider, one.provider_id) for one in report.plan.orders] == [("replicate", "r-77")]
    with writing(lone_dsn) as ledger:
        assert ledger.head() == 6  # what the backup had, and what happened
    is_right(lone_dsn, nats_url)


@pytest.mark.parametrize("discard", [False, True])
def test_a_revoked_key_stays_revoked_and_a_later_one_works(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport], *, discard: bool
) -> None:
    with psycopg.connect(lone_dsn, autocommit=True) as connection:
        ada = users.add(connection, "ada").key
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        with psycopg.connect(lone_dsn, autocommit=True) as connection:
            users.revoke(connection, "ada")
            again, bob = users.add(connection, "ada").key, users.add(connection, "bob").key
        tell(lone_dsn, nats_url, finished(1))
        backup.restore()
        with psycopg.connect(lone_dsn, autocommit=True) as connection:
            assert users.owners_of(connection, [users.fingerprint(ada)])  # as the backup has it
        report = restore(discard=discard)
    assert report.plan is not None
    assert (report.plan.keys_added, report.plan.keys_revoked) == (["ada", "bob"], ["ada"])
    with psycopg.connect(lone_dsn, autocommit=True) as connection:
        working = users.owners_of(connection, [users.fingerprint(key) for key in (ada, again, bob)])
    assert working == {users.fingerprint(again): "ada", users.fingerprint(bob): "bob"}
    is_right(lone_dsn, nats_url)


def test_files_that_nobody_names_are_listed_and_none_is_deleted(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport], blobs: Blobs
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    blobs.put_once("somewhere/nobody.png", b"nobody")
    with backup_of(lone_dsn) as backup:

        def lose(story: Story) -> None:
            job = story.finished(1)
            path = story.ledger.generation(job).assets[0].reservation.path  # type: ignore[union-attr]
            blobs.put_once(path, b"lost")

        tell(lone_dsn, nats_url, lose)
        backup.restore()
        report = restore(discard=True)
    assert report.files is not None
    assert len(report.files.unnamed) == 2
    assert "somewhere/nobody.png" in report.files.unnamed
    assert len(set(blobs.paths())) == 2


def test_a_run_that_was_cut_off_before_the_stream_was_deleted_is_ended_by_the_relay(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(2))
        backup.restore()
        with monkeypatch.context() as cut_off:
            cut_off.setattr("services.restore.command._delete_stream", lambda _: None)
            assert restore(discard=True).epoch is not None
    is_right(lone_dsn, nats_url)


def test_a_second_older_backup_is_noticed_by_the_epoch_s_events_too(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        for number in (1, 2, 3):
            tell(lone_dsn, nats_url, finished(number))
            backup.restore()
            refused(lone_dsn, nats_url)
            report = restore(discard=number == 2)
            assert report.plan is not None
            is_right(lone_dsn, nats_url)
        with writing(lone_dsn) as ledger:
            epochs = ledger.epochs()
            assert epochs.current is not None
            assert epochs.current.number == 2  # the backup knew of the first one, and LEDGER of the one that discarded
            assert epochs.shared_with(epochs.current.short) is None


def test_epochs_that_the_backup_did_not_know_come_back_with_their_events(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    """Else a client of the first epoch would not learn that the second one has other events at its positions."""
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup:
        tell(lone_dsn, nats_url, finished(2))  # 6 … 15, which are discarded
        backup.restore()
        first = restore(discard=True).epoch
        tell(lone_dsn, nats_url, finished(2))  # 7 … 16 of the next epoch
        backup.restore()
        refused(lone_dsn, nats_url)
        report = restore()
    assert first is not None
    assert report.epoch is not None
    assert report.plan is not None
    assert (report.plan.how, report.plan.shared, report.plan.lost) == ("taken_back", 5, 11)
    with writing(lone_dsn) as ledger:
        epochs = ledger.epochs()
    assert [epochs.label(at).decode() for at in (5, 6, 16, 17)] == [
        "5",
        f"{first.hex[:8]}-6",
        f"{first.hex[:8]}-16",
        f"{report.epoch.hex[:8]}-17",
    ]
    assert epochs.shared_with("") == 5
    assert epochs.shared_with(first.hex[:8]) == 16
    is_right(lone_dsn, nats_url)


def test_declaring_begins_an_epoch_where_nothing_differs(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    assert restore().epoch is None
    report = restore(declare=True)
    assert report.plan is not None
    assert (report.plan.how, report.plan.shared, report.plan.lost) == ("declared", 5, 0)
    is_right(lone_dsn, nats_url)


def test_writers_and_memories_of_before_go_on_with_the_ledger_as_it_is(
    lone_dsn: str, nats_url: str, restore: Callable[..., RestoreReport]
) -> None:
    tell(lone_dsn, nats_url, finished(1))
    with backup_of(lone_dsn) as backup, writing(lone_dsn) as ledger:
        story = story_in(ledger)
        job = story.submit(1)
        publish(ledger, nats_url)
        backup.restore()
        with pytest.raises(WritesStopped):
            story.submit(1)
        restore(discard=True)
        other = story.submit(1)
        assert ledger.generation(other).assets
        with pytest.raises(Exception, match=str(job)):
            ledger.generation(job)
    is_right(lone_dsn, nats_url)


class Stream:
    """LEDGER in memory, as far as it is read: its last sequence, and messages of which some are missing."""

    def __init__(self, events: dict[int, RawEvent], last: int) -> None:
        self._events = events
        self._last = last
        self.asked = 0

    async def stream_info(self, _: str) -> StreamInfo:
        """See nats-py."""
        state = StreamState(messages=self._last, bytes=0, first_seq=1, last_seq=self._last, consumer_count=0)
        return StreamInfo(config=StreamConfig(metadata={}), state=state, created=datetime(2031, 5, 4, tzinfo=UTC))

    async def get_msg(self, _: str, sequence: int) -> RawStreamMsg:
        """See nats-py."""
        self.asked += 1
        if sequence not in self._events:
            raise NotFoundError
        return RawStreamMsg(seq=sequence, data=message_of(self._events[sequence], 10**6).payload)


def some_event(position: int, history: str) -> RawEvent:
    state = orjson.dumps({"meta": {"command_id": str(uuid5(MANY, f"{history}{position}")), "owner": "ada"}, "data": {}})
    return RawEvent(position, uuid5(MANY, str(position)), 1, "asset.saved.v1", state)


@settings(max_examples=50, deadline=None)
@given(
    shared=st.integers(0, 200),
    lost=st.integers(0, 200),
    grown=st.integers(0, 200),
    missing=st.sets(st.integers(1, 400), max_size=40),
)
async def test_wherever_the_histories_part_the_place_is_found(
    shared: int, lost: int, grown: int, missing: set[int]
) -> None:
    last, head = shared + lost, shared + grown
    ours = {at: some_event(at, "ours" if at > shared else "both") for at in range(1, head + 1)}
    theirs = {at: some_event(at, "theirs" if at > shared else "both") for at in range(1, last + 1)}
    kept = {at: event for at, event in theirs.items() if at not in missing}
    stream = Stream(kept, last)
    found = await find_lost(cast("JetStreamContext", stream), ours.get, head)
    telling = [at for at in range(shared + 1, min(last, head) + 1) if at in kept]
    if lost == 0 or (not telling and last <= head):  # what could tell is missing: nothing is known to differ
        assert (found.shared, list(found.events)) == (max(last, head), [])
        return
    # Where messages are missing right after the place, they are taken for the same as what stands before them.
    assert found.shared == (telling[0] - 1 if telling else min(last, head))
    assert found.last == last
    assert [event.position for event in found.events] == [at for at in range(found.shared + 1, last + 1) if at in kept]
    assert all(event == theirs[event.position] for event in found.events)
