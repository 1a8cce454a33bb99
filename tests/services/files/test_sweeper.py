"""Files of assets that ended without one go; a file that anybody has or may want stays. Whatever crashes in between."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from domain.aggregates.asset import UnknownAsset
from domain.recipes.recipe import asset_id
from services.database import Database
from services.files.blobs import Blobs, BlobStoreUnavailable
from services.files.sweeper import Sweeper
from services.ledger import Ledger
from services.messaging.wire import AssetCompletedReport
from services.observability.parking import parked
from services.queue.report_handler import ReportHandler
from tests.histories import Story
from tests.services.beside import opened, running
from tests.services.commits import WAIT_S_MAX
from tests.spec import CANCEL, INVALID_INPUT, WORKER, confirm, fail, file_of, release, report_completed, start


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty folder."""
    return Blobs((tmp_path / "blobs").as_uri())


@pytest.fixture
def sweeper(database: Database, ledger: Ledger, blobs: Blobs) -> Sweeper:
    """One that looks at once."""
    return Sweeper(database, ledger, blobs, after_s=(0.0,))


def path_of(ledger: Ledger, job_id: UUID, index: int) -> str:
    """Where the file of an asset belongs."""
    asset = ledger.asset(asset_id(job_id, index))
    assert not isinstance(asset, UnknownAsset)
    return asset.reservation.path


def write_all(ledger: Ledger, blobs: Blobs, job_id: UUID, quantity: int) -> list[str]:
    """A worker wrote every file of the job, and reported none; where."""
    paths = [path_of(ledger, job_id, index) for index in range(quantity)]
    for path in paths:
        blobs.put_once(path, b"pixels")
    return paths


def sweep(sweeper: Sweeper) -> None:
    """To the ledger's end."""
    while sweeper.step():
        pass


async def there(blobs: Blobs, paths: list[str]) -> list[bool]:
    """Whether each has a file."""
    return [await blobs.exists(path) for path in paths]


async def test_files_of_a_canceled_attempt_go_and_those_of_completed_assets_stay(
    ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper
) -> None:
    job_id = story.submit(3)
    paths = write_all(ledger, blobs, job_id, 3)
    story.tell(job_id, start(1), report_completed(1), CANCEL, confirm(1))
    sweep(sweeper)
    assert await there(blobs, paths) == [False, True, False]


async def test_files_of_assets_that_failed_go(ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper) -> None:
    job_id = story.submit(2)
    paths = write_all(ledger, blobs, job_id, 2)
    story.tell(job_id, start(1), report_completed(0), fail(1, INVALID_INPUT))
    sweep(sweeper)
    assert await there(blobs, paths) == [True, False]


async def test_a_file_of_a_requeued_attempt_stays_for_the_next_one(
    ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper
) -> None:
    job_id = story.submit(1)
    paths = write_all(ledger, blobs, job_id, 1)
    story.tell(job_id, start(1), release(1))
    sweep(sweeper)
    assert await there(blobs, paths) == [True]
    story.tell(job_id, start(2))
    sweep(sweeper)
    assert await there(blobs, paths) == [True]
    story.tell(job_id, report_completed(0, attempt=2))
    sweep(sweeper)
    assert await there(blobs, paths) == [True]


async def test_a_sweep_that_is_cut_off_begins_again(
    ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = story.submit(2)
    paths = write_all(ledger, blobs, job_id, 2)
    story.tell(job_id, CANCEL)
    delete, deleted = blobs.delete, []

    def dies(path: str) -> None:
        if deleted:
            raise BlobStoreUnavailable("The object store could not delete it.")
        deleted.append(path)
        delete(path)

    monkeypatch.setattr(blobs, "delete", dies)
    with pytest.raises(BlobStoreUnavailable):
        sweep(sweeper)
    monkeypatch.undo()
    assert sorted(await there(blobs, paths)) == [False, True]
    sweep(sweeper)
    assert await there(blobs, paths) == [False, False]


async def test_a_file_that_cannot_be_deleted_holds_up_no_other(
    ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper, tmp_path: Path
) -> None:
    first, second = story.submit(1), story.submit(2)
    stubborn = tmp_path / "blobs" / path_of(ledger, first, 0)
    (stubborn / "within").mkdir(parents=True)
    paths = write_all(ledger, blobs, second, 2)
    story.tell(first, CANCEL)
    story.tell(second, CANCEL)
    sweep(sweeper)
    assert await there(blobs, paths) == [False, False]
    assert stubborn.is_dir()
    assert asset_id(first, 0) in [one.item for one in parked("sweeper")]


async def test_a_file_that_is_written_after_the_first_look_goes_in_the_second(
    database: Database, ledger: Ledger, story: Story, blobs: Blobs
) -> None:
    job_id = story.submit(1)
    story.tell(job_id, CANCEL)
    sweep(Sweeper(database, ledger, blobs, after_s=(0.0, 3600.0)))
    paths = write_all(ledger, blobs, job_id, 1)
    sweep(Sweeper(database, ledger, blobs, after_s=(0.0, 3600.0)))
    assert await there(blobs, paths) == [True]  # the second look is not due
    sweep(Sweeper(database, ledger, blobs, after_s=(0.0, 0.0)))
    assert await there(blobs, paths) == [False]


async def test_nothing_is_looked_at_before_its_time(
    database: Database, ledger: Ledger, story: Story, blobs: Blobs
) -> None:
    job_id = story.submit(1)
    paths = write_all(ledger, blobs, job_id, 1)
    story.tell(job_id, CANCEL)
    assert Sweeper(database, ledger, blobs, after_s=(3600.0,)).step() == 0
    assert await there(blobs, paths) == [True]


async def test_a_late_worker_learns_that_its_file_is_not_wanted(
    database: Database, ledger: Ledger, story: Story, nats_url: str
) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1), CANCEL, confirm(1))
    report = AssetCompletedReport(job_id=job_id, attempt=1, index=0, completed=file_of(0, 1))
    async with opened(nats_url) as broker:
        reply = ReportHandler(database, ledger, broker, lease_s=30).record(report, WORKER)
    assert (reply.accepted, reply.code) == (False, "asset_ended")


async def test_it_sweeps_until_it_is_stopped(ledger: Ledger, story: Story, blobs: Blobs, sweeper: Sweeper) -> None:
    job_id = story.submit(1)
    paths = write_all(ledger, blobs, job_id, 1)
    story.tell(job_id, CANCEL)
    async with running(sweeper.run):
        async with asyncio.timeout(WAIT_S_MAX):
            while await blobs.exists(paths[0]):  # noqa: ASYNC110 - an object store tells nobody
                await asyncio.sleep(0.01)
