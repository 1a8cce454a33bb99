"""What nobody works on any more is ended: by Postgres' clock, with patience, and never twice."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from domain.aggregates.asset import status_of as asset_status
from domain.aggregates.job import Finished, Waiting, status_of
from domain.errors import AttemptSuperseded
from domain.events import ErrorClass, JobFailed
from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.messaging.broker import Broker
from services.messaging.wire import HeartbeatReport, StartedReport
from services.queue import reaper as reapers
from services.queue.reaper import Reaper
from services.queue.report_handler import ReportHandler
from tests.histories import Story, Views, append_raw
from tests.services.beside import OwnNats, opened, running, until
from tests.services.commits import eventually
from tests.spec import CANCEL, WORKER, release, report_completed, start

LEASE_S = 1.0
HOUR = timedelta(hours=1)


@pytest.fixture
def reaper(database: Database, ledger: Ledger, broker: Broker) -> Reaper:
    """With short leases."""
    return Reaper(database, ledger, broker, LEASE_S)


@pytest.fixture
def take(database: Database, ledger: Ledger, broker: Broker, views: Views) -> Callable[..., None]:
    """A worker takes a job through a recorder, with a lease; the views see it."""
    recorder = ReportHandler(database, ledger, broker, LEASE_S)

    def take(job_id: UUID, attempt: int = 1) -> None:
        assert recorder.record(StartedReport(job_id=job_id, attempt=attempt), WORKER).accepted
        views.catch_up()

    return take


def lose(views: Views) -> None:
    """Let every lease have run out."""
    views.ask("update leases set expires_at = clock_timestamp() - interval '1 ms'")


def long_ago(ledger: Ledger) -> Story:
    """The story as it was an hour ago."""
    return Story(ledger, lambda: datetime.now(UTC) - HOUR)


def status(ledger: Ledger, job_id: UUID) -> str:
    """How the job stands."""
    return status_of(ledger.generation(job_id).job)


# Leases.


def test_a_job_whose_worker_went_silent_waits_again(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(1)
    take(job_id)
    assert reaper.expire_leases() == []
    eventually(lambda: job_id in reaper.expire_leases())  # after a lease, by Postgres' clock
    job = ledger.generation(job_id).job
    assert isinstance(job, Waiting)
    assert (job.tries.attempt, job.tries.workers_lost) == (1, 1)
    assert reaper.expire_leases() == []


def test_reports_of_the_lost_attempt_are_refused(
    story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(1)
    take(job_id)
    lose(views)
    assert reaper.expire_leases() == [job_id]
    with pytest.raises(AttemptSuperseded):
        story.tell(job_id, report_completed(0, attempt=1))
    views.catch_up()
    take(job_id, 2)
    with pytest.raises(AttemptSuperseded):
        story.tell(job_id, report_completed(0, attempt=1))
    story.tell(job_id, report_completed(0, attempt=2))


def test_without_a_lease_the_start_counts(ledger: Ledger, story: Story, views: Views, reaper: Reaper) -> None:
    old, new = long_ago(ledger).submit(1), story.submit(1)
    long_ago(ledger).tell(old, start(1))
    story.tell(new, start(1))
    views.catch_up()
    assert reaper.expire_leases() == [old]


def test_a_lease_of_an_earlier_attempt_does_not_count(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(1)
    take(job_id)
    story.tell(job_id, release(1), start(2))
    views.catch_up()
    lose(views)
    assert reaper.expire_leases() == []  # attempt 2 has just begun
    assert status(ledger, job_id) == "processing"


def test_a_renewed_lease_is_left_alone(
    database: Database, ledger: Ledger, views: Views, broker: Broker, reaper: Reaper
) -> None:
    job_id = long_ago(ledger).submit(1)
    long_ago(ledger).tell(job_id, start(1))
    views.catch_up()
    heartbeat = HeartbeatReport(job_id=job_id, attempt=1)
    assert ReportHandler(database, ledger, broker, 600.0).record(heartbeat, WORKER).accepted
    assert reaper.expire_leases() == []
    assert status(ledger, job_id) == "processing"


def test_a_job_that_lost_two_workers_is_given_up(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(3)
    for attempt in (1, 2):
        take(job_id, attempt)
        lose(views)
        assert reaper.expire_leases() == [job_id]
        views.catch_up()
    generation = ledger.generation(job_id)
    assert isinstance(generation.job, Finished)
    assert isinstance(generation.job.ending, JobFailed)
    assert generation.job.ending.error.error_class is ErrorClass.WORKER_LOST
    assert [asset_status(asset) for asset in generation.assets] == ["failed"] * 3


def test_a_job_that_was_to_be_canceled_is_canceled_when_its_worker_is_lost(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(3)
    take(job_id)
    story.tell(job_id, report_completed(1), CANCEL)
    lose(views)
    assert reaper.expire_leases() == [job_id]
    assert status(ledger, job_id) == "canceled"
    statuses = [asset_status(asset) for asset in ledger.generation(job_id).assets]
    assert statuses == ["canceled", "completed", "canceled"]


def test_a_job_that_ended_while_the_view_was_behind_is_left_alone(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    job_id = story.submit(1)
    take(job_id)
    story.tell(job_id, report_completed(0))
    lose(views)
    assert reaper.expire_leases() == []
    assert status(ledger, job_id) == "succeeded"


def test_a_job_that_cannot_be_read_holds_up_no_other(
    ledger: Ledger, views: Views, reaper: Reaper, recorder: PostgresRecorder
) -> None:
    past = long_ago(ledger)
    unreadable, lost = past.submit(1), past.submit(1)
    for job_id in (unreadable, lost):
        past.tell(job_id, start(1))
    append_raw(recorder, unreadable, 3, "job.paused.v9", b"{}")
    views.catch_up()
    assert reaper.expire_leases() == [lost]


def test_leases_that_nobody_needs_are_swept(
    story: Story, views: Views, reaper: Reaper, take: Callable[..., None]
) -> None:
    ended, runs = story.submit(1), story.submit(1)
    for job_id in (ended, runs):
        take(job_id)
    story.tell(ended, release(1))
    views.catch_up()
    views.ask("update leases set expires_at = clock_timestamp() - interval '2 hours' where job_id = %s", ended)
    reaper.expire_leases()
    assert views.ask("select job_id from leases") == [(runs,)]


# Deadlines.


def test_a_job_past_its_deadline_is_aborted(ledger: Ledger, story: Story, views: Views, reaper: Reaper) -> None:
    now = datetime.now(UTC)
    overdue, in_time = story.submit(1, deadline=now - HOUR), story.submit(1, deadline=now + HOUR)
    views.catch_up()
    assert reaper.abort_overdue() == [overdue]
    assert (status(ledger, overdue), status(ledger, in_time)) == ("aborted", "queued")
    assert reaper.abort_overdue() == []  # though the view has not seen it yet


def test_a_job_that_ran_once_is_not_aborted_and_holds_up_no_other(
    ledger: Ledger, story: Story, views: Views, reaper: Reaper
) -> None:
    deadline = datetime.now(UTC) - HOUR / 2
    ran = long_ago(ledger).submit(1, deadline=deadline)
    long_ago(ledger).tell(ran, start(1), release(1))
    overdue = story.submit(1, deadline=deadline)
    views.catch_up()
    assert views.ask(reapers.SQL["overdue"]) == [(overdue,)]
    assert reaper.abort_overdue() == [overdue]
    assert status(ledger, ran) == "queued"


# Patience.


async def test_for_a_whole_lease_after_its_start_it_declares_nobody_lost(
    ledger: Ledger, views: Views, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reapers, "LOOK_S", 0.02)
    began = time.monotonic()
    job_id = _lost_long_ago(ledger, views)
    async with running(reaper.run):
        await until(lambda: status(ledger, job_id) == "queued")
    assert time.monotonic() - began > LEASE_S * 0.9  # its start was a moment before


async def test_while_nats_is_gone_and_for_a_lease_after_it_declares_nobody_lost(
    database: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    own_nats: OwnNats,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reapers, "LOOK_S", 0.02)
    own_nats.start()
    async with opened(own_nats.url) as broker, running(Reaper(database, ledger, broker, LEASE_S).run):
        own_nats.kill()
        await until(lambda: not broker.connected)
        gone_at = time.monotonic()
        job_id = _lost_long_ago(ledger, views)
        while time.monotonic() - gone_at < 1.3 * LEASE_S:  # it looks all the while: what is overdue is aborted
            overdue = story.submit(1, deadline=datetime.now(UTC) - HOUR)
            await asyncio.to_thread(views.catch_up)
            await until(partial(_is_aborted, ledger, overdue))
        assert status(ledger, job_id) == "processing"
        own_nats.start()
        await until(lambda: broker.connected)
        back_at = time.monotonic()
        await until(lambda: status(ledger, job_id) == "queued")
        assert time.monotonic() - back_at > LEASE_S * 0.5


def _is_aborted(ledger: Ledger, job_id: UUID) -> bool:
    return status(ledger, job_id) == "aborted"


def _lost_long_ago(ledger: Ledger, views: Views) -> UUID:
    job_id = long_ago(ledger).submit(1)
    long_ago(ledger).tell(job_id, start(1))
    views.catch_up()
    return job_id
