"""What jobs took next to what was expected, however they went."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from domain.commands import JobCommand, ReportAssetCompleted
from projections import performance
from projections.reads import jobs as reads
from projections.reads.jobs import EndedRow
from services.database import Database
from services.ledger import JOB, Context, Ledger
from services.views.rebuild import rebuild
from tests.conftest import Clock
from tests.histories import Row, Story, Views
from tests.spec import (
    CANCEL,
    OUT_OF_MEMORY,
    OWNER,
    abort,
    confirm,
    expire,
    file_of,
    recipe,
    release,
    report_completed,
    report_failed,
    start,
    submit,
)

MIB = 1024**2


@pytest.fixture(params=["command by command", "in one batch"])
def story(request: pytest.FixtureRequest, ledger: Ledger, clock: Clock, views: Views) -> Story:
    """Seen by the views at once, or only when somebody looks. Every command comes a second after the one before."""
    return Story(ledger, clock.tick, views.catch_up if request.param == "command by command" else lambda: None)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[TupleRow]]:
    """Where a query runs."""
    with database.connection() as checked_out:
        yield checked_out


def expecting(story: Story, clock: Clock, quantity: int, expected_s: float | None) -> UUID:
    """A new job that is expected to take so long."""
    job_id = uuid4()
    asked = replace(submit(quantity, job_id=job_id, request_sha256=None), expected_s=expected_s, now=clock.tick())
    story.ledger.execute(JOB, job_id, asked, Context(OWNER, OWNER))
    return job_id


def with_peak(index: int, mib: int | None, attempt: int = 1) -> ReportAssetCompleted:
    """A file that took so much memory to make."""
    peak = None if mib is None else mib * MIB
    completed = file_of(index, attempt).model_copy(update={"peak_memory_bytes": peak})
    return replace(report_completed(index, attempt), completed=completed)


def figures(views: Views, *columns: str) -> tuple[Any, ...]:
    """These columns of the only row."""
    (row,) = views.catch_up().rows("performance")
    assert views.parked() == []
    return tuple(row[column] for column in columns)


def test_a_job_that_succeeded_has_its_seconds_next_to_the_expected_ones(
    story: Story, views: Views, clock: Clock
) -> None:
    job_id = expecting(story, clock, 3, expected_s=12)
    queued_at = clock.now
    clock.tick(4)
    story.tell(job_id, start(1), with_peak(0, 900), with_peak(2, 700), with_peak(1, None))
    (row,) = views.catch_up().rows("performance")
    expected: Row = {
        "job_id": job_id,
        "owner": OWNER,
        "job_type": "sdxl_image_fast",
        "model": "sdxl-demo",
        "pool": "sdxl",
        "quantity": 3,
        "status": "succeeded",
        "attempts": 1,
        "oldest_attempt": 1,
        "queued_at": queued_at,
        "started_at": queued_at + timedelta(seconds=5),
        "last_started_at": queued_at + timedelta(seconds=5),
        "finished_at": queued_at + timedelta(seconds=8),
        "expected_s": 12,
        "peak_memory_bytes": 900 * MIB,
        "wait_s": 5,
        "actual_s": 3,
        "ratio": 0.25,
    }
    assert row == expected


def test_a_job_that_runs_has_waited_and_took_nothing_yet(story: Story, views: Views) -> None:
    job_id = story.submit(1)
    assert figures(views, "status", "wait_s", "attempts") == ("queued", None, 0)
    story.tell(job_id, start(1))
    assert figures(views, "status", "wait_s", "attempts") == ("processing", 1, 1)
    assert figures(views, "finished_at", "actual_s", "ratio", "peak_memory_bytes") == (None, None, None, None)


def test_waiting_ends_with_the_first_start_and_work_begins_with_the_last(
    story: Story, views: Views, clock: Clock
) -> None:
    job_id = expecting(story, clock, 1, expected_s=4)
    story.tell(job_id, start(1), expire(1))
    clock.tick(30)
    story.tell(job_id, start(2), report_completed(0, 2))
    assert figures(views, "attempts", "wait_s", "actual_s", "ratio") == (2, 1, 1, 0.25)


def test_a_job_that_was_made_in_parts_has_no_ratio(story: Story, views: Views, clock: Clock) -> None:
    job_id = expecting(story, clock, 3, expected_s=12)
    story.tell(job_id, start(1), with_peak(0, 900), release(1))
    story.tell(job_id, start(2), with_peak(1, 500, 2), with_peak(2, 500, 2))
    assert figures(views, "status", "attempts", "oldest_attempt") == ("succeeded", 2, 1)
    assert figures(views, "actual_s", "ratio", "peak_memory_bytes") == (2, None, 900 * MIB)


@pytest.mark.parametrize(
    ("commands", "status", "wait_s", "actual_s"),
    [
        ((CANCEL,), "canceled", None, None),
        ((start(1), release(1), CANCEL), "canceled", 1, None),
        ((start(1), CANCEL, confirm(1)), "canceled", 1, 2),
        ((abort(),), "aborted", None, None),
        ((start(1), report_failed(0), report_failed(1, error=OUT_OF_MEMORY)), "failed", 1, 2),
        ((start(1), report_completed(0), report_failed(1)), "partially_succeeded", 1, 2),
    ],
)
def test_a_job_that_did_not_succeed_has_seconds_where_it_ran_and_never_a_ratio(
    story: Story,
    views: Views,
    clock: Clock,
    commands: tuple[JobCommand, ...],
    status: str,
    wait_s: float | None,
    actual_s: float | None,
) -> None:
    job_id = story.submit(2, deadline=clock.now if status == "aborted" else None)
    story.tell(job_id, *commands)
    assert figures(views, "status", "wait_s", "actual_s", "ratio") == (status, wait_s, actual_s, None)
    assert figures(views, "finished_at") == (clock.now,)


def test_a_job_from_before_anything_was_expected_has_no_ratio(story: Story, views: Views, clock: Clock) -> None:
    job_id = expecting(story, clock, 1, expected_s=None)
    story.tell(job_id, start(1), report_completed(0))
    assert figures(views, "status", "expected_s", "actual_s", "ratio") == ("succeeded", None, 1, None)


def test_a_rebuild_gives_the_same_figures(story: Story, views: Views, database: Database, clock: Clock) -> None:
    for quantity in (1, 3):
        job_id = expecting(story, clock, quantity, expected_s=4.0 * quantity)
        story.tell(job_id, start(1), *(with_peak(index, 100 + index) for index in range(quantity)))
    before = views.catch_up().rows("performance")
    assert rebuild(database, story.ledger, performance.PERFORMANCE).same
    assert views.rows("performance") == before
    assert sorted(row["ratio"] for row in before) == [0.25, 0.25]


def test_the_last_hour_by_job_type_and_everything_that_ever_ended(
    story: Story, views: Views, clock: Clock, connection: Connection[TupleRow]
) -> None:
    old = expecting(story, clock, 1, expected_s=4)
    story.tell(old, start(1), with_peak(0, 9_000))
    clock.tick(3_600)
    for expected_s in (4.0, 2.0, 1.0):
        job_id = expecting(story, clock, 1, expected_s)
        story.tell(job_id, start(1), with_peak(0, 500))
    never_ran = story.submit(1)
    story.tell(never_ran, CANCEL)
    story.submit(1)
    views.catch_up()
    (hour,) = reads.performance(connection, clock.now)
    assert (hour.job_type, hour.model, hour.jobs, hour.actual_s) == ("sdxl_image_fast", recipe().model, 4, 1)
    assert (hour.ratio_p50, hour.ratio_mean, hour.peak_memory_bytes) == (0.5, pytest.approx(1.75 / 3), 500 * MIB)
    assert hour.ratio_p90 == pytest.approx(0.9)
    canceled, succeeded = reads.ended_jobs(connection)
    assert canceled == EndedRow("sdxl", "sdxl_image_fast", "canceled", jobs=1, waits=0, wait_s=0, runs=0, actual_s=0)
    assert succeeded == EndedRow("sdxl", "sdxl_image_fast", "succeeded", jobs=4, waits=4, wait_s=4, runs=4, actual_s=4)
    assert reads.queued_jobs(connection) == {("sdxl", "waiting"): 1}
