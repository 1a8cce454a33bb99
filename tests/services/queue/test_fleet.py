"""Who works, and what operators hold back: announcements are kept within bounds, and holds are heeded."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from domain.errors import PoolHeld, WorkerHeld
from services.database import Database
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.messaging.wire import (
    ANNOUNCEMENT_BYTES_MAX,
    LEASE_S,
    AnnouncedModel,
    Announcement,
    AnnouncementReply,
    StartedReport,
    announce_subject,
)
from services.queue.dispatcher import Dispatcher
from services.queue.fleet import HOLDS_S, OF_USER_MAX, Holds, RollCall, read_holds, read_pools, read_workers
from services.queue.report_handler import ReportHandler
from tests.histories import Story, Views
from tests.services.beside import running, settled, until
from tests.services.commits import WAIT_S_MAX
from tests.services.queue.test_dispatcher import work, workers
from tests.spec import WORKER, release, report_completed, start

PAUSE, DRAIN, RESUME = 0, 1, 2


def announcement(**said: Any) -> Announcement:
    """What a worker of two models says."""
    models = (AnnouncedModel(name="sdxl-demo", loaded=True), AnnouncedModel(name="wan-demo", loaded=False))
    given = {"pools": ("sdxl", "wan"), "models": models, "device": "cuda NVIDIA H200", "version": "1", "up_s": 60.0}
    return Announcement.model_validate(given | said)


@pytest.fixture
def roll_call(database: Database, broker: Broker) -> RollCall:
    """For the catalog's pools."""
    return RollCall(database, broker, ["sdxl", "wan"])


def test_a_worker_is_shown_as_it_says_with_the_job_that_the_ledger_says(
    database: Database, story: Story, views: Views, roll_call: RollCall
) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1))
    views.catch_up()
    assert roll_call.hear(WORKER, announcement()) == AnnouncementReply()
    roll_call.hear("gpu-2", announcement(idle_s=5.0, pools=("sdxl",)))
    with database.connection() as connection:
        (busy, idle) = read_workers(connection)
        pools = {row.pool: row for row in read_pools(connection, ["sdxl", "wan", "other"])}
    assert (busy.name, busy.job_id, busy.attempt, busy.idle_since) == (WORKER, job_id, 1, None)
    assert (busy.device, busy.pools) == ("cuda NVIDIA H200", ["sdxl", "wan"])
    assert busy.models == [{"name": "sdxl-demo", "loaded": True}, {"name": "wan-demo", "loaded": False}]
    assert busy.is_alive
    assert (idle.name, idle.job_id) == ("gpu-2", None)
    assert idle.idle_since is not None
    assert busy.started_at is not None
    now = datetime.now(UTC)
    assert 4 < (now - idle.idle_since).total_seconds() < 4 + WAIT_S_MAX
    assert 59 < (now - busy.started_at).total_seconds() < 59 + WAIT_S_MAX
    assert {name: row.workers for name, row in pools.items()} == {"sdxl": 2, "wan": 1, "other": 0}
    assert pools["other"].last_seen_at is None


def test_a_worker_that_is_not_heard_of_is_away_and_serves_no_pool(
    database: Database, views: Views, roll_call: RollCall
) -> None:
    roll_call.hear(WORKER, announcement(idle_s=0.0))
    views.ask(f"update workers set heard_at = heard_at - interval '{LEASE_S + 1} s'")
    with database.connection() as connection:
        (away,) = read_workers(connection)
        (sdxl, _) = read_pools(connection, ["sdxl", "wan"])
    assert not away.is_alive
    assert (sdxl.workers, sdxl.last_seen_at is None) == (0, False)


def test_a_worker_that_leaves_is_shown_no_longer_and_its_pool_was_seen(database: Database, roll_call: RollCall) -> None:
    roll_call.hear(WORKER, announcement())
    roll_call.hear(WORKER, announcement(leaving=True))
    with database.connection() as connection:
        assert read_workers(connection) == []
        (sdxl,) = read_pools(connection, ["sdxl"])
    assert (sdxl.workers, sdxl.last_seen_at is None) == (0, False)


def test_whoever_has_the_password_of_a_worker_fills_no_table(
    database: Database, views: Views, roll_call: RollCall
) -> None:
    roll_call.hear("gpu-2.host", announcement())
    for number in range(OF_USER_MAX + 20):
        roll_call.hear(f"gpu-1.{number}", announcement(pools=("sdxl", f"mine-{number}")))
    with database.connection() as connection:
        names = {row.name for row in read_workers(connection)}
    assert len(names) == OF_USER_MAX + 1
    assert {"gpu-2.host", f"gpu-1.{OF_USER_MAX + 19}"} <= names
    assert {pool for (pool,) in views.ask("select pool from pools_seen")} == {"sdxl", "wan"}


@pytest.mark.parametrize(
    "said",
    [
        {"pools": ("sdxl",) * 33},
        {"pools": ("SDXL; drop table",)},
        {"device": "x" * 121},
        {"device": "two\nlines"},
        {"up_s": float("inf")},
        {"up_s": -1.0},
        {"up_s": 1e12},
        {"idle_s": float("nan")},
        {"job_id": str(uuid4())},
        {"models": ({"name": "x" * 200, "loaded": True},)},
    ],
)
def test_an_announcement_has_bounds(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        announcement(**said)


async def test_what_cannot_be_understood_is_not_kept_and_harms_nobody(
    database: Database, broker: Broker, roll_call: RollCall
) -> None:
    async with running(roll_call.run):
        await settled(broker.client)
        for content in (b"", b"{}", b"\xff" * 10, b"x" * (ANNOUNCEMENT_BYTES_MAX + 1)):
            await broker.client.publish(announce_subject(WORKER), content)
        answered = await broker.client.request(
            announce_subject("gpu-2"), announcement().model_dump_json().encode(), timeout=WAIT_S_MAX
        )
    assert AnnouncementReply.model_validate_json(answered.data) == AnnouncementReply()
    with database.connection() as connection:
        assert [row.name for row in read_workers(connection)] == ["gpu-2"]


def test_who_is_held_back_hears_it_and_is_shown_also_when_nobody_heard_of_it(
    database: Database, story: Story, views: Views, roll_call: RollCall
) -> None:
    story.hold(1, DRAIN, "a new card")  # the worker gpu-1
    story.hold(3, PAUSE)
    story.hold(2, PAUSE, "no power")  # the pool gpu-2
    story.hold(4, PAUSE)
    story.hold(4, RESUME)
    views.catch_up()
    assert roll_call.hear("gpu-1", announcement()) == AnnouncementReply(hold="drained", reason="a new card")
    assert roll_call.hear("gpu-9", announcement()) == AnnouncementReply()
    with database.connection() as connection:
        shown = {row.name: (row.hold, row.heard_at is None) for row in read_workers(connection)}
        held = [(one.kind, one.name, one.hold, one.reason, one.actor) for one in read_holds(connection)]
        (sdxl,) = read_pools(connection, ["sdxl"])
    assert shown == {"gpu-1": ("drained", False), "gpu-3": ("paused", True), "gpu-9": (None, False)}
    assert held == [
        ("pool", "gpu-2", "paused", "no power", "admin"),
        ("worker", "gpu-1", "drained", "a new card", "admin"),
        ("worker", "gpu-3", "paused", None, "admin"),
    ]
    assert sdxl.workers == 1  # gpu-1 takes no job
    story.hold(1, RESUME)
    views.catch_up()
    assert roll_call.hear("gpu-1", announcement()) == AnnouncementReply()


# What is held back is not handed out, and not started.


async def test_a_paused_pool_hands_out_nothing_until_it_is_resumed(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    dispatcher = Dispatcher(database, ledger, broker, ["gpu-0", "sdxl"])
    waiting, other = story.submit(1, pool="gpu-0"), story.submit(1)
    story.hold(0, PAUSE)
    views.catch_up()
    async with workers(broker, 1, "gpu-0"), workers(broker, 1, "sdxl"):
        await dispatcher.step()
        assert await work(broker) == {(other, 1)}
        story.hold(0, RESUME)
        views.catch_up()
        await dispatcher.step()
        assert await work(broker) == {(waiting, 1), (other, 1)}


def test_an_order_of_a_paused_pool_is_not_started_and_what_runs_goes_on(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    running, handed_out = story.submit(1, pool="gpu-0"), story.submit(1, pool="gpu-0")
    recorder = ReportHandler(database, ledger, broker, LEASE_S)
    assert recorder.record(StartedReport(job_id=running, attempt=1), WORKER).accepted
    story.hold(0, PAUSE)
    views.catch_up()
    recorder = ReportHandler(database, ledger, broker, LEASE_S)  # as after a restart: nothing is remembered
    refused = recorder.record(StartedReport(job_id=handed_out, attempt=1), "gpu-2")
    assert (refused.accepted, refused.code) == (False, PoolHeld.code)
    assert recorder.record(StartedReport(job_id=running, attempt=1), WORKER).accepted  # the same one asks again
    story.tell(running, report_completed(0))
    story.hold(0, RESUME)
    views.catch_up()
    recorder = ReportHandler(database, ledger, broker, LEASE_S)
    assert recorder.record(StartedReport(job_id=handed_out, attempt=1), "gpu-2").accepted


def test_a_drained_worker_finishes_its_job_and_starts_no_other(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    first, second = story.submit(1), story.submit(1)
    recorder = ReportHandler(database, ledger, broker, LEASE_S)
    assert recorder.record(StartedReport(job_id=first, attempt=1), "gpu-1").accepted
    story.hold(1, DRAIN)
    views.catch_up()
    recorder = ReportHandler(database, ledger, broker, LEASE_S)
    refused = recorder.record(StartedReport(job_id=second, attempt=1), "gpu-1")
    assert (refused.accepted, refused.code) == (False, WorkerHeld.code)
    story.tell(first, release(1))
    assert recorder.record(StartedReport(job_id=second, attempt=1), "gpu-3").accepted


async def test_a_hold_is_heeded_within_a_moment_and_starts_cost_no_reading(
    database: Database, story: Story, views: Views
) -> None:
    holds = Holds(database)
    assert holds.now().pools == frozenset()
    story.hold(0, PAUSE)
    views.catch_up()
    await until(lambda: holds.now().pools == {"gpu-0"})
    read = holds.now()
    assert holds.now() is read
    assert HOLDS_S < 1
