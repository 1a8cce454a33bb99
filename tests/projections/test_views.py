"""What each view shows after what people and workers did."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from domain.codec import CURRENT, of_kinds
from domain.commands import (
    DismissAsset,
    JobCommand,
    RateAsset,
    RestoreAsset,
    SaveAsset,
    TagAsset,
    ThumbnailAsset,
    TitleAsset,
    TrashAsset,
    UnsaveAsset,
)
from domain.recipes.recipe import asset_id
from projections import ALL
from projections.reads.jobs import (
    LibraryFilter,
    ListedAssetRow,
    assets_of_jobs,
    history_of_owner,
    list_library,
    list_workspace,
)
from services.database import Database
from services.ledger import Ledger
from tests.conftest import Clock
from tests.histories import Story, Views
from tests.spec import (
    CANCEL,
    DEADLINE,
    NOW,
    OUT_OF_MEMORY,
    OWNER,
    SEED,
    TRANSIENT,
    WORKER,
    abort,
    confirm,
    expire,
    fail,
    file_of,
    release,
    report_completed,
    report_failed,
    start,
    thumbnail_of,
)

BEGINNING = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(params=["command by command", "in one batch"])
def story(request: pytest.FixtureRequest, ledger: Ledger, clock: Clock, views: Views) -> Story:
    """Seen by the views at once, or only when somebody looks."""
    return Story(ledger, clock.tick, views.catch_up if request.param == "command by command" else lambda: None)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[TupleRow]]:
    """Where a person's queries run; the library's are for the owner alone."""
    with database.connection() as checked_out:
        checked_out.execute("select set_config('darkroom.owner', %s, false)", (OWNER,))
        yield checked_out


def workspace(views: Views, connection: Connection[TupleRow], owner: str = OWNER) -> list[ListedAssetRow]:
    """What a person sees there, after the views caught up."""
    views.catch_up()
    return list_workspace(connection, owner, before=None, after_index=-1, limit=100)


def library(views: Views, connection: Connection[TupleRow], **wanted: Any) -> list[ListedAssetRow]:
    """What a person sees there, after the views caught up."""
    views.catch_up()
    return list_library(connection, OWNER, LibraryFilter(**wanted), before=None, limit=100)


# Workspace.


@pytest.mark.parametrize("quantity", [1, 3, 6])
def test_the_workspace_shows_each_owed_asset_at_once(
    story: Story, views: Views, connection: Connection[TupleRow], quantity: int
) -> None:
    job_id = story.submit(quantity, prompt="two foxes")
    shown = workspace(views, connection)
    assert [(row.index, row.seed, row.status) for row in shown] == [
        (index, SEED + index, "reserved") for index in range(quantity)
    ]
    assert {row.asset_id for row in shown} == {asset_id(job_id, index) for index in range(quantity)}
    assert {(row.prompt, row.job_type, row.task) for row in shown} == {("two foxes", "sdxl_image_fast", "t2i")}


def test_the_workspace_shows_newest_jobs_first_and_only_the_owners(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    first, theirs, last = story.submit(1), story.submit(1, owner="bob"), story.submit(3)
    assert [(row.job_id, row.index) for row in workspace(views, connection)] == [
        (last, 0), (last, 1), (last, 2), (first, 0),
    ]  # fmt: skip
    assert [row.job_id for row in workspace(views, connection, "bob")] == [theirs]


def test_the_workspace_shows_files_and_errors_side_by_side_and_nothing_canceled(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    job_id = story.submit(3)
    story.tell(job_id, start(1), report_completed(0), report_failed(1, error=TRANSIENT), CANCEL, confirm(1))
    completed, failed = workspace(views, connection)
    file = file_of(0, 1)
    assert (completed.index, completed.sha256, completed.bytes, completed.width) == (0, file.sha256, file.bytes, 256)
    assert completed.completed_at == BEGINNING + timedelta(seconds=3)
    assert (failed.index, failed.sha256, failed.error) == (1, None, TRANSIENT.model_dump(mode="json"))


def test_the_workspace_forgets_dismissed_and_trashed_assets_until_restored(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    job_id = story.finished(3)
    story.curate(job_id, 0, DismissAsset(NOW))
    story.curate(job_id, 1, RateAsset(5, NOW), TrashAsset(NOW))
    assert [row.index for row in workspace(views, connection)] == [2]
    story.curate(job_id, 1, RestoreAsset(NOW))
    assert [(row.index, row.rating) for row in workspace(views, connection)] == [(1, 5), (2, None)]


def test_the_workspace_shows_what_the_owner_made_of_an_asset(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    job_id = story.finished(1)
    story.curate(job_id, 0, RateAsset(2, NOW), RateAsset(4, NOW), TitleAsset("Fog", NOW), TagAsset(("b", "a"), NOW))
    story.curate(job_id, 0, SaveAsset(NOW))
    (row,) = workspace(views, connection)
    assert (row.rating, row.title, row.tags, row.saved) == (4, "Fog", ["a", "b"], True)
    story.curate(job_id, 0, TitleAsset(None, NOW), TagAsset((), NOW), UnsaveAsset(NOW))
    (row,) = workspace(views, connection)
    assert (row.rating, row.title, row.tags, row.saved) == (4, None, [], False)


def test_a_thumbnail_is_in_every_list_and_changes_nothing_else(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    job_id = story.finished(2)
    story.curate(job_id, 0, RateAsset(4, NOW), ThumbnailAsset(thumbnail_of(0), NOW))
    made = thumbnail_of(0)
    for rows in (
        workspace(views, connection),
        library(views, connection),
        assets_of_jobs(connection, [job_id])[job_id],
    ):
        shown, without = sorted(rows, key=lambda row: row.index)
        assert (shown.thumbnail_sha256, shown.thumbnail_path, shown.thumbnail_bytes) == (
            made.sha256, made.path, made.bytes,
        )  # fmt: skip
        assert (shown.sha256, shown.rating, shown.status) == (file_of(0, 1).sha256, 4, "completed")
        assert (without.thumbnail_sha256, without.thumbnail_path, without.thumbnail_bytes) == (None, None, None)


# Library.


def test_the_library_shows_completed_assets_newest_first(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    one, other = story.submit(3), story.submit(1)
    story.tell(one, start(1), report_completed(2))
    story.tell(other, start(1), report_completed(0))
    story.tell(one, report_completed(0), report_failed(1))
    assert [(row.job_id, row.index) for row in library(views, connection)] == [(one, 0), (other, 0), (one, 2)]
    assert [row["index"] for row in views.rows("library") if row["status"] != "completed"] == []


def test_the_library_hides_what_is_in_the_trash(story: Story, views: Views, connection: Connection[TupleRow]) -> None:
    job_id = story.finished(1)
    story.curate(job_id, 0, TrashAsset(NOW))
    assert library(views, connection) == []
    story.curate(job_id, 0, RestoreAsset(NOW))
    assert [row.job_id for row in library(views, connection)] == [job_id]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [2, 1, 0]),
        ({"saved": True}, [0]),
        ({"tag": "sea"}, [1]),
        ({"words": "harbour"}, [2]),
        ({"words": "lighthouse -harbour"}, [1, 0]),
        ({"min_score": 3}, [1, 0]),
        ({"min_score": 3, "saved": False}, [1]),
        ({"kind": "video"}, []),
        ({"model": "sdxl-demo"}, [2, 1, 0]),
    ],
)
def test_the_library_is_searched_by_what_the_owner_made_of_it(
    story: Story, views: Views, connection: Connection[TupleRow], wanted: dict[str, Any], found: list[int]
) -> None:
    job_id = story.finished(3)
    story.curate(job_id, 0, SaveAsset(NOW), RateAsset(5, NOW))
    story.curate(job_id, 1, TagAsset(("sea", "fog"), NOW), RateAsset(3, NOW))
    story.curate(job_id, 2, TitleAsset("The old harbour", NOW), RateAsset(1, NOW))
    assert [row.index for row in library(views, connection, **wanted)] == found


# History.


def test_history_holds_every_event_once_with_who_when_and_why(
    story: Story, views: Views, connection: Connection[TupleRow], clock: Clock
) -> None:
    job_id = story.finished(1)
    story.curate(job_id, 0, RateAsset(4, NOW))
    views.catch_up()
    rows = history_of_owner(connection, OWNER, after=0, upto=100, limit=100)
    asset = asset_id(job_id, 0)
    assert [(row.position, row.type, row.stream_id, row.version, row.actor) for row in rows] == [
        (1, "job.queued", job_id, 1, OWNER),
        (2, "asset.reserved", asset, 1, OWNER),
        (3, "job.started", job_id, 2, WORKER),
        (4, "asset.completed", asset, 2, WORKER),
        (5, "job.succeeded", job_id, 3, WORKER),
        (6, "asset.rated", asset, 3, OWNER),
    ]
    assert {row.correlation_id for row in rows} == {job_id}
    assert rows[2].data == {"attempt": 1, "worker": WORKER}
    assert rows[-1].at == clock.now


def test_history_holds_an_upload_and_no_other_view_does(
    story: Story, views: Views, connection: Connection[TupleRow]
) -> None:
    media = story.upload(7)
    views.catch_up()
    [row] = history_of_owner(connection, OWNER, after=0, upto=100, limit=100)
    assert (row.position, row.type, row.stream_id, row.correlation_id) == (1, "media.uploaded", media, media)
    assert row.data["path"] == f"uploads/{OWNER}/{7:064x}.png"
    assert history_of_owner(connection, "bob", after=0, upto=100, limit=100) == []
    assert {table for table, rows in views.all_rows().items() if rows} == {"history"}
    assert views.parked() == []
    assert set(views.positions().values()) == {1}


# Queue.


def queue(views: Views) -> list[tuple[Any, ...]]:
    """Status, attempt, worker and whether stopping it was asked for."""
    shown = ("status", "attempt", "worker", "cancel_requested")
    return [tuple(row[column] for column in shown) for row in views.catch_up().rows("queue")]


def test_the_queue_holds_a_job_until_it_ends(story: Story, views: Views) -> None:
    job_id = story.submit(1, priority=3)
    assert queue(views) == [("waiting", 0, None, False)]
    story.tell(job_id, start(1))
    assert queue(views) == [("running", 1, WORKER, False)]
    story.tell(job_id, release(1))
    assert queue(views) == [("waiting", 1, None, False)]
    story.tell(job_id, start(2, "gpu-2"))
    story.tell(job_id, CANCEL)
    assert queue(views) == [("running", 2, "gpu-2", True)]
    story.tell(job_id, confirm(2))
    assert queue(views) == []


def test_the_queue_knows_before_when_a_job_must_not_start_again(story: Story, views: Views, clock: Clock) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1), fail(1, TRANSIENT, jitter=0.5))
    (row,) = views.catch_up().rows("queue")
    assert row["not_before"] == clock.now + timedelta(seconds=1)
    assert (row["priority"], row["queued_position"], row["queued_at"]) == (0, 1, BEGINNING + timedelta(seconds=1))


# Jobs.

ENDINGS: dict[str, tuple[JobCommand, ...]] = {
    "queued": (start(1), release(1)),
    "processing": (start(1), report_completed(0)),
    "succeeded": (start(1), report_completed(0), report_completed(2), report_completed(1)),
    "partially_succeeded": (start(1), report_completed(0), report_failed(1), report_failed(2)),
    "failed": (start(1), report_failed(0), report_failed(1), report_failed(2, error=OUT_OF_MEMORY)),
    "canceled": (CANCEL,),
    "aborted": (abort(now=DEADLINE),),
}


@pytest.mark.parametrize("status", ENDINGS)
def test_jobs_shows_how_a_job_stands(story: Story, views: Views, clock: Clock, status: str) -> None:
    job_id = story.submit(3, deadline=clock.now if status == "aborted" else None)
    story.tell(job_id, *ENDINGS[status])
    (row,) = views.catch_up().rows("jobs")
    assert (row["job_id"], row["status"], row["queued_position"]) == (job_id, status, 1)
    assert row["finished_at"] == (None if status in {"queued", "processing"} else clock.now)
    assert row["error"] == (OUT_OF_MEMORY.model_dump(mode="json") if status == "failed" else None)
    assert row["attempt"] == (0 if status in {"canceled", "aborted"} else 1)


def test_jobs_keeps_the_first_start_and_forgets_the_error_of_an_earlier_attempt(story: Story, views: Views) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1), expire(1))
    (row,) = views.catch_up().rows("jobs")
    assert (row["status"], row["error"]["error_class"]) == ("queued", "worker_lost")
    story.tell(job_id, start(2))
    (row,) = views.catch_up().rows("jobs")
    assert (row["status"], row["attempt"], row["error"]) == ("processing", 2, None)
    assert row["started_at"] == BEGINNING + timedelta(seconds=2)


def test_jobs_shows_each_asset_whatever_became_of_it(story: Story, views: Views) -> None:
    job_id: UUID = story.submit(3)
    story.tell(job_id, start(1), report_completed(0), report_failed(1, error=TRANSIENT), CANCEL, confirm(1))
    story.curate(job_id, 0, RateAsset(5, NOW), TrashAsset(NOW))
    rows = sorted(views.catch_up().rows("assets"), key=lambda row: row["index"])
    assert [(row["status"], row["rating"], row["trashed"]) for row in rows] == [
        ("completed", 5, True),
        ("failed", None, False),
        ("canceled", None, False),
    ]
    assert [row["path"] for row in rows] == [f"sdxl_image_fast/{OWNER}/{job_id}_{index}.png" for index in range(3)]


def test_there_is_whatever_a_view_says_that_it_takes() -> None:
    kinds = {kind for view in ALL for kind in view.kinds}
    assert {kind for kind in kinds if not any(of_kinds(topic, (kind,)) for topic in CURRENT)} == set()
