"""What workers had in hand when an older backup was put back and what it lacked was discarded."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from domain.aggregates.job import Running, Waiting, status_of
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.messaging.wire import AssetCompletedReport, HeartbeatReport, StartedReport
from services.migrate import migrate
from services.queue.dispatcher import Dispatcher
from services.queue.reaper import Reaper
from services.queue.report_handler import ReportHandler
from services.restore.command import restored
from tests.histories import Story, Views
from tests.services.older_backup import backup_of
from tests.services.queue.test_dispatcher import POOL, order_in, work, workers
from tests.services.restore.test_restored import publish
from tests.spec import WORKER, file_of

LEASE_S = 1.0
OTHER = "worker.other"


@pytest.fixture
def dsn(empty_dsn: str) -> str:
    """A migrated database that may be dropped and made again."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate(connection)
    return empty_dsn


@pytest.fixture
def recorder_of_reports(database: Database, ledger: Ledger, broker: Broker) -> ReportHandler:
    """Who takes the workers' reports."""
    return ReportHandler(database, ledger, broker, LEASE_S)


@pytest.fixture
def discard(dsn: str, nats_url: str, tmp_path: Path) -> Callable[[], None]:
    """`darkroom restored --discard`."""

    def run() -> None:
        blobs = Blobs((tmp_path / "blobs").as_uri())
        report = restored(dsn, nats_url, blobs, tmp_path / "data", discard=True, declare=False, dry_run=False)
        assert report.plan is not None
        assert report.plan.how == "discarded"

    return run


async def test_orders_of_lost_jobs_are_gone_and_those_of_others_are_handed_out(
    dsn: str,
    nats_url: str,
    database: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    recorder_of_reports: ReportHandler,
    discard: Callable[[], None],
) -> None:
    dispatcher = Dispatcher(database, ledger, broker, [POOL])
    kept = story.submit(1)
    views.catch_up()
    with backup_of(dsn) as backup:
        lost = [story.submit(1) for _ in range(2)]
        views.catch_up()
        async with workers(broker, 2) as pulls:
            assert await dispatcher.step() == 3
            orders = [order_in(one) for one in await asyncio.gather(*pulls)]
            await asyncio.to_thread(publish, ledger, nats_url)
            await asyncio.to_thread(backup.restore)
            await asyncio.to_thread(discard)
            views.catch_up()
            replies = [recorder_of_reports.record(StartedReport(job_id=one, attempt=1), WORKER) for one in lost]
            assert [(one.accepted, one.code) for one in replies] == [(False, "not_found")] * 2
            assert {order.job_id for order in orders} <= {kept, *lost}
        assert await work(broker) <= {(kept, 1)}  # no order of a job that is no more
        async with workers(broker, 1) as pulls:
            await dispatcher.step()
            (order,) = [order_in(one) for one in await asyncio.gather(*pulls)]
            assert order.job_id == kept
    assert recorder_of_reports.record(StartedReport(job_id=kept, attempt=1), WORKER).accepted


async def test_a_job_that_ended_in_what_was_lost_loses_its_lease_and_runs_again(
    dsn: str,
    nats_url: str,
    database: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    recorder_of_reports: ReportHandler,
    discard: Callable[[], None],
) -> None:
    """Its lease is that of the backup; the worker that had it is done and says nothing more."""

    def started(job_id: UUID, attempt: int, worker: str) -> bool:
        return recorder_of_reports.record(StartedReport(job_id=job_id, attempt=attempt), worker).accepted

    ended, lives = story.submit(1), story.submit(1)
    assert started(ended, 1, WORKER)
    assert started(lives, 1, OTHER)
    views.catch_up()
    with backup_of(dsn) as backup:
        completed = AssetCompletedReport(job_id=ended, attempt=1, index=0, completed=file_of(0, 1))
        assert recorder_of_reports.record(completed, WORKER).accepted
        assert status_of(ledger.generation(ended).job) == "succeeded"
        await asyncio.to_thread(publish, ledger, nats_url)
        await asyncio.to_thread(backup.restore)
        await asyncio.to_thread(discard)
    views.catch_up()
    assert isinstance(ledger.generation(ended).job, Running)  # as the backup has it
    views.ask("update leases set expires_at = clock_timestamp() - interval '1 ms'")
    heartbeat = HeartbeatReport(job_id=lives, attempt=1)
    assert recorder_of_reports.record(heartbeat, OTHER).accepted  # who lives goes on as if nothing had been
    reaper = Reaper(database, ledger, broker, LEASE_S)
    assert reaper.expire_leases() == [ended]
    assert isinstance(ledger.generation(ended).job, Waiting)
    assert isinstance(ledger.generation(lives).job, Running)
    views.catch_up()
    late = recorder_of_reports.record(completed, WORKER)
    assert (late.accepted, late.code) == (False, "attempt_superseded")
