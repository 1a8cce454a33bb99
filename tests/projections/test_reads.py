"""The typed queries by themselves: rows in the views, answers out."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain.events import JobWarned
from domain.recipes.recipe import Kind, asset_id
from projections import ALL
from projections.jobs import JOBS
from projections.reads import as_of
from projections.reads import jobs as reads
from projections.reads.jobs import EverybodysFilter, JobFilter, LibraryFilter, Seconds
from services.database import Database
from services.ledger import JOB, Context, Ledger
from services.views.owned_views import OwnedViews
from services.views.projector import Projector
from services.views.rebuild import rebuild_as_of
from tests import spec

WORKER = Context(actor="gpu-1")


@pytest.fixture
def submitted(database: Database, ledger: Ledger) -> list[UUID]:
    """Five jobs of one owner, the oldest first; the third is urgent, the first is running."""
    jobs = [uuid4() for _ in range(5)]
    for number, job_id in enumerate(jobs):
        command = replace(
            spec.submit(), job_id=job_id, priority=5 if number == 2 else 0, request_sha256=None, expected_s=12.0
        )
        ledger.execute(JOB, job_id, command, Context(actor=spec.OWNER, owner=spec.OWNER))
    ledger.execute(JOB, jobs[0], spec.start(1, now=spec.after(4)), WORKER)
    project(database, ledger)
    return jobs


def project(database: Database, ledger: Ledger) -> None:
    """Bring the views to the ledger's end."""
    projector = Projector(database, ledger, ALL)
    while projector.step():
        pass


def test_jobs_come_newest_first_below_a_position(database: Database, submitted: list[UUID]) -> None:
    with database.connection() as connection:
        rows = reads.list_jobs(connection, spec.OWNER, JobFilter(), before=None, limit=3)
        rest = reads.list_jobs(connection, spec.OWNER, JobFilter(), before=rows[-1].queued_position, limit=3)
        running = reads.list_jobs(connection, spec.OWNER, JobFilter(status="processing"), before=None, limit=9)
        nobody = reads.list_jobs(connection, "eve", JobFilter(), before=None, limit=9)
    assert [row.job_id for row in rows + rest] == submitted[::-1]
    assert [(row.job_id, row.attempt) for row in running] == [(submitted[0], 1)]
    assert nobody == []


def test_every_list_of_jobs_has_the_warnings_of_workers(
    database: Database, owned_views: OwnedViews, ledger: Ledger
) -> None:
    asked = replace(spec.submit(1), tags=("fog",))
    ledger.execute(JOB, asked.job_id, asked, Context(actor=spec.OWNER, owner=spec.OWNER))
    warned = JobWarned(attempt=1, code="sound_lost", detail="The sound is gone.")
    for command in (spec.start(1), spec.note(warned)):
        ledger.execute(JOB, asked.job_id, command, WORKER)
    project(database, ledger)
    rebuild_as_of(database, ledger, JOBS, ledger.head())
    with owned_views.of(spec.OWNER) as connection:
        rows = reads.list_jobs(connection, spec.OWNER, JobFilter(), before=None, limit=9)
        rows += reads.list_jobs(connection, spec.OWNER, JobFilter(tag="fog"), before=None, limit=9)
    with database.connection() as connection:
        rows += reads.list_everybodys_jobs(connection, EverybodysFilter(), before=None, limit=9)
        rows += as_of.list_jobs(connection, spec.OWNER, JobFilter(), limit=9)
        one = reads.find_anybodys_job(connection, asked.job_id)
    assert one is not None
    assert [row.warnings for row in (*rows, one)] == [[{"code": warned.code, "detail": warned.detail}]] * 5


def test_times_are_utc_whatever_the_session_says(database: Database, submitted: list[UUID]) -> None:
    with database.connection() as connection:
        connection.execute("set timezone to 'Asia/Kolkata'")
        row = reads.find_job(connection, spec.OWNER, submitted[0])
        connection.execute("reset timezone")
    assert row is not None
    assert row.created_at is not None
    assert (row.created_at, row.created_at.utcoffset()) == (spec.NOW, timedelta(0))
    assert row.started_at == spec.after(4)


def test_somebody_elses_row_is_not_there(database: Database, submitted: list[UUID]) -> None:
    with database.connection() as connection:
        assert reads.find_job(connection, "eve", submitted[0]) is None
        assert reads.find_asset(connection, "eve", asset_id(submitted[0], 0)) is None
        streams = [submitted[0]]
        assert reads.history_of_streams(connection, "eve", streams, after=0, limit=9) == []
        assert reads.history_of_owner(connection, "eve", after=0, upto=99, limit=9) == []


def test_the_ratio_of_actual_to_expected_seconds_is_learned_by_type(
    database: Database, ledger: Ledger, submitted: list[UUID]
) -> None:
    for index in range(3):
        command = replace(spec.report_completed(index), now=spec.after(4 + 2 * (index + 1)))
        ledger.execute(JOB, submitted[0], command, WORKER)
    project(database, ledger)
    with database.connection() as connection:
        assert reads.recent_ratios_of_types(connection) == {"sdxl_image_fast": Seconds(0.5, 0.5)}
        (queue,) = reads.queues(connection, ["sdxl"], spec.after(60))
        (later,) = reads.queues(connection, ["sdxl"], spec.after(3 * 3600))
    assert (queue.waiting, queue.running, queue.wait_p50_s, queue.ended_last_hour) == (4, 0, 4.0, 1)
    assert (queue.error_rate, queue.oldest_waiting_s) == (0.0, 60.0)
    assert (later.ended_last_hour, later.error_rate, later.wait_p50_s) == (0, None, None)


def test_the_workspace_goes_by_job_then_index(database: Database, submitted: list[UUID]) -> None:
    with database.connection() as connection:
        first = reads.list_workspace(connection, spec.OWNER, before=None, after_index=0, limit=4)
        last = first[-1]
        rest = reads.list_workspace(connection, spec.OWNER, before=last.list_position, after_index=last.index, limit=99)
    expected = [asset_id(job_id, index) for job_id in submitted[::-1] for index in range(3)]
    assert [row.asset_id for row in first + rest] == expected


def test_the_library_holds_completed_assets_alone(
    database: Database, owned_views: OwnedViews, ledger: Ledger, submitted: list[UUID]
) -> None:
    ledger.execute(JOB, submitted[0], spec.report_completed(1), WORKER)
    project(database, ledger)
    with owned_views.of(spec.OWNER) as connection:
        (row,) = reads.list_library(connection, spec.OWNER, LibraryFilter(), before=None, limit=9)
        wanted = LibraryFilter(kind="image", words="lighthouse -ship", model="sdxl-demo", saved=False)
        assert reads.list_library(connection, spec.OWNER, wanted, before=None, limit=9) == [row]
        other = LibraryFilter(words="ship")
        assert reads.list_library(connection, spec.OWNER, other, before=None, limit=9) == []
    assert (row.asset_id, row.kind, row.prompt) == (asset_id(submitted[0], 1), Kind.IMAGE, "a lighthouse in fog")


def test_history_of_an_owner_is_bounded_on_both_sides(database: Database, submitted: list[UUID]) -> None:
    with database.connection() as connection:
        rows = reads.history_of_owner(connection, spec.OWNER, after=3, upto=7, limit=99)
        page = reads.history_of_owner(connection, spec.OWNER, after=3, upto=7, limit=2)
        assert reads.ledger_head(connection) == 21
        assert set(reads.view_positions(connection).values()) == {21}
    assert [row.position for row in rows] == [4, 5, 6, 7]
    assert page == rows[:2]
    assert len(submitted) == 5
