"""A clock that jumps is no worker that died: real leases and heartbeats, by a clock that the test can move."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from domain.aggregates.job import status_of
from services.database import Database
from services.ledger import Ledger
from services.messaging.broker import Broker
from services.messaging.wire import HeartbeatReport, StartedReport
from services.observability import progress
from services.queue import reaper as reapers
from services.queue.reaper import Jumps, Reaper
from services.queue.report_handler import ReportHandler
from tests.histories import Story, Views
from tests.services.beside import running, until
from tests.spec import WORKER

LEASE_S = 3.0
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

CLOCK = """
create schema moved;
create table moved.clock (seconds float not null);
insert into moved.clock values (0);
create function moved.clock_timestamp() returns timestamptz language sql volatile as
  'select pg_catalog.clock_timestamp() + make_interval(secs => seconds) from moved.clock'
"""


class MovedClock:
    """Postgres' clock, as everybody on `database` reads it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(CLOCK.encode())
        self.dsn = make_conninfo(dsn, options="-c search_path=moved,pg_catalog,public")

    def jump(self, seconds: float) -> None:
        """At once, for everybody."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("update moved.clock set seconds = seconds + %s", (seconds,))


@pytest.fixture
def clock(dsn: str) -> MovedClock:
    """That of the fresh database."""
    return MovedClock(dsn)


@pytest.fixture
def moved(clock: MovedClock) -> Iterator[Database]:
    """Connections that read the clock that can be moved."""
    with Database(clock.dsn) as opened:
        yield opened


@pytest.fixture
def recorder_of_reports(moved: Database, ledger: Ledger, broker: Broker) -> ReportHandler:
    """Grants leases by the moved clock."""
    return ReportHandler(moved, ledger, broker, LEASE_S)


@contextmanager
def beating(recorder: ReportHandler, jobs: Sequence[UUID]) -> Iterator[None]:
    """Each job has a worker that renews its lease three times within one."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(LEASE_S / 6):
            for job_id in jobs:
                recorder.record(HeartbeatReport(job_id=job_id, attempt=1), WORKER)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def started(recorder: ReportHandler, story: Story, views: Views, jobs: int) -> list[UUID]:
    """So many jobs that run."""
    ids = [story.submit(1) for _ in range(jobs)]
    for job_id in ids:
        assert recorder.record(StartedReport(job_id=job_id, attempt=1), WORKER).accepted
    views.catch_up()
    return ids


def statuses(ledger: Ledger, jobs: Sequence[UUID]) -> set[str]:
    return {status_of(ledger.generation(job_id).job) for job_id in jobs}


class Looks:
    """Counts the looks of a reaper, and says when it is patient no longer."""

    def __init__(self, reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        self._reaper = reaper
        look = reaper.look

        def counted() -> None:
            look()
            self.done += 1

        monkeypatch.setattr(reaper, "look", counted)

    async def some_more(self, looks: int = 5) -> None:
        seen = self.done
        await until(lambda: self.done >= seen + looks)

    async def until_patience_ends(self) -> None:
        await until(lambda: time.monotonic() > self._reaper._patient_until)
        await self.some_more()


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY, -MINUTE, -HOUR, -DAY])
async def test_a_jump_of_postgres_clock_costs_no_running_job_and_a_dead_worker_is_still_found(
    seconds: float,
    clock: MovedClock,
    moved: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    recorder_of_reports: ReportHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reapers, "LOOK_S", 0.05)
    jobs = await asyncio.to_thread(started, recorder_of_reports, story, views, 5)
    dies, lives = jobs[:1], jobs[1:]
    reaper = Reaper(moved, ledger, broker, LEASE_S)
    looks = Looks(reaper, monkeypatch)
    with beating(recorder_of_reports, lives):
        with beating(recorder_of_reports, dies):
            async with running(reaper.run):
                await looks.until_patience_ends()
                clock.jump(seconds)
                await looks.some_more()
                assert progress.of("reaper").waiting is not None
                await looks.until_patience_ends()
                assert statuses(ledger, jobs) == {"processing"}
        async with running(reaper.run):  # that worker is dead now, and by whatever clock it is found
            await until(lambda: statuses(ledger, dies) == {"queued"})
        assert statuses(ledger, lives) == {"processing"}


async def test_jobs_that_are_overdue_by_a_jumping_clock_alone_are_not_aborted_at_once(
    clock: MovedClock, moved: Database, ledger: Ledger, broker: Broker
) -> None:
    reaper = Reaper(moved, ledger, broker, LEASE_S)
    asked: list[float] = []

    def asked_for() -> list[UUID]:
        asked.append(time.monotonic())
        return []

    reaper.abort_overdue = asked_for  # type: ignore[method-assign]
    reaper.look()
    assert len(asked) == 1
    clock.jump(DAY)
    reaper.look()
    assert len(asked) == 1
    clock.jump(-DAY)  # and right again
    reaper.look()
    assert len(asked) == 1


@pytest.mark.parametrize(("jobs", "silent", "waits"), [(5, 5, True), (5, 3, True), (8, 3, False), (2, 2, False)])
def test_many_losses_in_one_moment_are_given_one_more_lease(
    jobs: int,
    silent: int,
    waits: bool,
    moved: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    recorder_of_reports: ReportHandler,
) -> None:
    ids = started(recorder_of_reports, story, views, jobs)
    reaper = Reaper(moved, ledger, broker, LEASE_S)
    reaper._patient_until = 0.0
    views.ask("update leases set expires_at = clock_timestamp() - interval '1 s' where job_id = any(%s)", ids[:silent])
    reaper.look()
    assert statuses(ledger, ids[:silent]) == {"processing" if waits else "queued"}
    reaper._patient_until = 0.0  # the lease is over, and nothing was heard of them
    views.catch_up()
    reaper.look()
    assert statuses(ledger, ids[:silent]) == {"queued"}


def test_after_that_lease_those_that_were_heard_of_go_on(
    moved: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    recorder_of_reports: ReportHandler,
) -> None:
    ids = started(recorder_of_reports, story, views, 4)
    reaper = Reaper(moved, ledger, broker, LEASE_S)
    reaper._patient_until = 0.0
    views.ask("update leases set expires_at = clock_timestamp() - interval '1 s'")
    reaper.look()
    for job_id in ids[1:]:
        assert (
            ReportHandler(moved, ledger, broker, 600.0)
            .record(HeartbeatReport(job_id=job_id, attempt=1), WORKER)
            .accepted
        )
    reaper._patient_until = 0.0
    reaper.look()
    assert statuses(ledger, ids[:1]) == {"queued"}
    assert statuses(ledger, ids[1:]) == {"processing"}


@given(
    steps=st.lists(st.tuples(st.floats(0, 600), st.floats(0, 60), st.floats(0, 1)), min_size=2, max_size=20),
    start=st.floats(-1e9, 1e9),
)
def test_a_slow_answer_or_a_process_that_was_stopped_is_no_jump(
    steps: list[tuple[float, float, float]], start: float
) -> None:
    jumps = Jumps(30.0)
    now = 0.0
    for pause_s, took_s, share in steps:
        asked = now + pause_s
        now = asked + took_s
        assert jumps.since(asked, start + asked + share * took_s, now) == 0.0


@given(jump=st.floats(5.1, 1e6), sign=st.sampled_from([1, -1]), pause_s=st.floats(0.01, 20), took_s=st.floats(0, 0.05))
def test_a_jump_is_seen_however_long_the_pause_and_seen_once(
    jump: float, sign: int, pause_s: float, took_s: float
) -> None:
    jumps = Jumps(30.0)
    jumped = sign * (jump + 2 * took_s)
    assert jumps.since(0.0, 1_000.0, took_s) == 0.0
    at = took_s + pause_s
    assert jumps.since(at, 1_000.0 + at + jumped, at + took_s) == pytest.approx(jumped, abs=2 * took_s + 1e-3)
    assert jumps.since(at + 1, 1_001.0 + at + jumped, at + 1 + took_s) == 0.0


def test_many_small_jumps_within_a_lease_are_one() -> None:
    jumps = Jumps(30.0)
    found = [jumps.since(float(second), 1_000.0 + 5 * second, float(second)) for second in range(10)]
    assert sum(map(bool, found)) >= 3
