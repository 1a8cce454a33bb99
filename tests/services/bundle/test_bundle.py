"""A bundle brings a job, a batch or everything to another installation, as it is."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.commands import RateAsset
from domain.recipes.recipe import asset_id
from services.bundle.errors import (
    BundleConflict,
    BundleRefused,
    FileExists,
    FileLost,
    FileUnusable,
    JobUnfinished,
    LedgerUnfit,
    NothingToExport,
)
from tests.databases import Databases
from tests.histories import append_raw
from tests.services.places import NOW, Place, opened
from tests.spec import CANCEL, recipe


@pytest.fixture
def here(databases: Databases, tmp_path: Path) -> Iterator[Place]:
    """Where the bundle comes from."""
    (tmp_path / "here").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "here") as place:
        yield place


@pytest.fixture
def there(databases: Databases, tmp_path: Path) -> Iterator[Place]:
    """Where it goes, with a history of its own: its positions are others."""
    (tmp_path / "there").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "there") as place:
        place.enhance()
        yield place


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Not written yet."""
    return tmp_path / "bundle.zip"


def of_job(place: Place, *jobs: UUID) -> set[UUID]:
    """The streams of these jobs and their assets."""
    quantities = {job_id: len(place.ledger.generation(job_id).assets) for job_id in jobs}
    return {*jobs, *(asset_id(job_id, index) for job_id in jobs for index in range(quantities[job_id]))}


def require_same(here: Place, there: Place, streams: set[UUID]) -> None:
    """These streams, and no others but the one that was there, are in both to the byte; the ledger there is sound."""
    ours, theirs = here.streams(), there.streams()
    assert {stream: theirs[stream] for stream in streams} == {stream: ours[stream] for stream in streams}
    assert len(theirs) == len(streams) + 1
    there.require_chain()
    assert there.views.catch_up().parked() == []


def test_a_job_arrives_with_its_ids_its_history_and_its_files(here: Place, there: Place, bundle: Path) -> None:
    job_id = here.finished(2)
    here.thumbnail(job_id, 1)
    here.story.curate(job_id, 0, RateAsset(4, NOW))
    here.finished()
    made = here.export(job_id, bundle)
    done = there.take_in(bundle)
    require_same(here, there, of_job(here, job_id))
    assert done.checksum == made.checksum
    assert (done.appended, done.files_written) == (made.events, made.files) == (9, 3)
    assert there.files().items() <= here.files().items()
    assert len(there.files()) == 3
    assert there.ledger.generation(job_id) == here.ledger.generation(job_id)


def test_a_job_brings_the_uploads_it_starts_from_and_the_jobs_that_made_its_inputs(
    here: Place, there: Place, bundle: Path
) -> None:
    photo = here.upload()
    first = here.finish(here.submit(here.from_upload(photo, quantity=3), uploads=[photo]))
    second = here.finish(here.submit(here.from_asset(first, 2)))
    third = here.finish(here.submit(here.from_asset(second, 0)))
    here.finish(here.submit(here.from_asset(third, 0)))  # starts from it, and stays
    here.upload(b"another photo")
    there_before = there.ledger.head()
    made = here.export(third, bundle)
    assert made.jobs == 3
    assert there.take_in(bundle).checksum == made.checksum
    require_same(here, there, of_job(here, first, second, third) | {photo})
    assert len(there.files()) == 6
    positions = [position for position, *_ in there.rows()]
    assert positions == list(range(1, there_before + made.events + 1))


def test_a_batch_brings_all_its_jobs_also_those_that_others_stand_for(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    batch_id, jobs = here.batch(3, base=photo)
    here.finish(jobs[0])
    for job_id in jobs[1:]:
        here.story.tell(job_id, CANCEL)
    again = here.finish(here.run_again(batch_id, 1, version=6))
    here.finished()
    made = here.export(batch_id, bundle)
    assert (made.what, made.id, made.jobs) == ("batch", batch_id, 4)
    assert there.take_in(bundle).checksum == made.checksum
    require_same(here, there, of_job(here, *jobs, again) | {batch_id, photo})
    opening = there.commits()[2]
    assert opening[1] - opening[0] + 1 == 5 + 3 * 2  # the batch, its items, and their jobs and assets landed together


def test_everything_gives_an_empty_installation_the_same_views(
    here: Place, databases: Databases, tmp_path: Path, bundle: Path
) -> None:
    photo = here.upload()
    here.delete_upload(here.upload(b"a mistake"))
    job_id = here.finish(here.submit(here.from_upload(photo), uploads=[photo]))
    here.thumbnail(job_id, 0)
    _, jobs = here.batch(2)
    for each in jobs:
        here.finish(each)
    here.finished(owner="bob")
    here.keep_prompt()
    here.enhance()
    made = here.export(None, bundle)
    assert (made.what, made.left_out.jobs, made.events) == ("all", 0, here.ledger.head())
    (tmp_path / "empty").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "empty") as empty:
        assert empty.take_in(bundle).checksum == made.checksum
        assert empty.rows() == here.rows()
        assert empty.commits() == here.commits()
        assert empty.files() == here.files()
        assert empty.checksums() == here.checksums()
        empty.require_chain()


def test_importing_twice_changes_nothing(here: Place, there: Place, bundle: Path) -> None:
    job_id = here.finished()
    here.export(job_id, bundle)
    first = there.take_in(bundle)
    before = there.rows(), there.files(), there.commits()
    second = there.take_in(bundle)
    assert (second.appended, second.files_written) == (0, 0)
    assert (second.checksum, second.position) == (first.checksum, first.position)
    assert (there.rows(), there.files(), there.commits()) == before
    there.story.curate(job_id, 0, RateAsset(5, NOW))  # what is here may go on
    assert there.take_in(bundle).appended == 0


def test_a_later_bundle_brings_what_was_added_since(here: Place, there: Place, bundle: Path) -> None:
    job_id = here.finished()
    here.export(job_id, bundle)
    there.take_in(bundle)
    here.thumbnail(job_id, 0)
    here.story.curate(job_id, 1, RateAsset(2, NOW))
    made = here.export(job_id, bundle, force=True)
    done = there.take_in(bundle)
    assert (done.appended, done.files_written, done.checksum) == (2, 1, made.checksum)
    require_same(here, there, of_job(here, job_id))


def test_one_commit_may_come_in_two_bundles(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    first, second = (
        here.finish(here.submit(here.from_upload(photo), uploads=[photo])) for _ in range(2)
    )  # fmt: skip
    here.export(second, bundle)
    there.take_in(bundle)  # the photo was first used in the commit that queued the first job
    made = here.export(first, bundle, force=True)
    assert there.take_in(bundle).checksum == made.checksum
    require_same(here, there, of_job(here, first, second) | {photo})


def test_a_batch_is_never_torn_apart(here: Place, there: Place, bundle: Path) -> None:
    batch_id, jobs = here.batch(2)
    for job_id in jobs:
        here.finish(job_id)
    child = here.finish(here.submit(here.from_asset(jobs[1], 0)))
    made = here.export(child, bundle)
    assert (made.what, made.id, made.jobs) == ("job", child, 3)
    there.take_in(bundle)
    require_same(here, there, of_job(here, child, *jobs) | {batch_id})
    here.export(batch_id, bundle, force=True)
    assert there.take_in(bundle).appended == 0


def test_a_stream_that_went_on_apart_refuses_the_whole_import(here: Place, there: Place, bundle: Path) -> None:
    job_id = here.finished(1)
    here.export(job_id, bundle)
    there.take_in(bundle)
    here.story.curate(job_id, 0, RateAsset(1, NOW))
    there.story.curate(job_id, 0, RateAsset(5, NOW))
    other = here.finished()
    here.export(None, bundle, force=True)
    before = there.rows(), there.files()
    with pytest.raises(BundleConflict, match=r"asset\.rated here and another asset\.rated in the bundle") as conflict:
        there.take_in(bundle)
    assert (conflict.value.stream_id, conflict.value.version) == (asset_id(job_id, 0), 3)
    assert (there.rows(), there.files()) == before
    assert other not in there.streams()


def test_what_is_written_meanwhile_is_seen_and_refuses_the_whole_import(
    here: Place, there: Place, bundle: Path
) -> None:
    job_id = here.finished(1)
    here.export(job_id, bundle)
    there.take_in(bundle)
    here.thumbnail(job_id, 0)
    here.finished()
    here.export(None, bundle, force=True)
    before = set(there.streams())

    def rate_there(what: str, *_: int) -> None:
        if what == "files written":  # compared already, not appended yet
            there.story.curate(job_id, 0, RateAsset(3, NOW))

    with pytest.raises(BundleConflict, match=r"asset\.rated here and another asset\.thumbnailed in the bundle"):
        there.take_in(bundle, rate_there)
    assert set(there.streams()) == before


def test_another_file_in_its_place_refuses_the_whole_import(here: Place, there: Place, bundle: Path) -> None:
    job_id = here.finished()
    path = sorted(here.files())[1]
    there.blobs.put_once(path, b"something else")
    here.export(job_id, bundle)
    before = there.rows(), there.files()
    with pytest.raises(BundleConflict, match="another file") as conflict:
        there.take_in(bundle)
    assert conflict.value.path == path
    assert (there.rows(), there.files()) == before


def test_an_upload_deleted_over_there_stays_deleted(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    made = here.export(None, bundle)
    there.take_in(bundle)
    there.delete_upload(photo)
    done = there.take_in(bundle)
    assert (done.appended, done.checksum) == (0, made.checksum)
    assert there.files() == {}


def test_a_deletion_takes_the_file_along(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    here.export(None, bundle)
    there.take_in(bundle)
    here.delete_upload(photo)
    made = here.export(None, bundle, force=True)
    assert made.files == 0
    assert there.take_in(bundle).checksum == made.checksum
    assert there.files() == {}


def test_a_deletion_whose_import_died_before_the_file_is_made_up_for(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    here.export(None, bundle)
    there.take_in(bundle)
    left = there.files()
    here.delete_upload(photo)
    here.export(None, bundle, force=True)
    there.take_in(bundle)
    for path, content in left.items():
        there.blobs.put_once(path, content)
    there.take_in(bundle)
    assert there.files() == {}


def test_an_upload_that_came_again_leaves_no_file_of_before(here: Place, there: Place, bundle: Path) -> None:
    photo = here.upload()
    here.export(None, bundle)
    there.take_in(bundle)
    here.delete_upload(photo)
    here.upload()
    here.export(None, bundle, force=True)
    there.take_in(bundle)
    assert there.files() == here.files()


def test_a_job_that_has_not_ended_is_not_exported(here: Place, bundle: Path) -> None:
    job_id = here.submit(recipe(2))
    batch_id, jobs = here.batch(2)
    here.finish(jobs[0])
    for identifier, unfinished in ((job_id, job_id), (batch_id, jobs[1])):
        with pytest.raises(JobUnfinished, match="would run twice") as refused:
            here.export(identifier, bundle)
        assert refused.value.job_id == unfinished
    here.begin(job_id)
    here.complete(job_id, 0)
    child = here.finish(here.submit(here.from_asset(job_id, 0)))
    with pytest.raises(JobUnfinished, match=str(job_id)):
        here.export(child, bundle)
    assert not bundle.exists()


def test_everything_leaves_out_what_hangs_on_unfinished_jobs(here: Place, there: Place, bundle: Path) -> None:
    kept = here.finished()
    kept_batch, kept_jobs = here.batch(1)
    here.finish(kept_jobs[0])
    running = here.submit(recipe(2))
    here.begin(running)
    here.complete(running, 0)
    child = here.finish(here.submit(here.from_asset(running, 0)))
    here.finish(here.submit(here.from_asset(child, 0)))
    _, jobs = here.batch(2)
    here.finish(jobs[0])
    made = here.export(None, bundle)
    assert (made.left_out.jobs, made.left_out.batches, made.unfinished) == (5, 1, 0)
    assert there.take_in(bundle).checksum == made.checksum
    require_same(here, there, of_job(here, kept, *kept_jobs) | {kept_batch})


def test_an_installation_moves_with_its_unfinished_jobs(
    here: Place, databases: Databases, tmp_path: Path, bundle: Path
) -> None:
    running = here.submit(recipe(2))
    here.begin(running)
    here.complete(running, 0)
    waiting = here.submit(recipe(1))
    made = here.export(None, bundle, unfinished=True)
    assert (made.unfinished, made.left_out.jobs) == (2, 0)
    (tmp_path / "empty").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "empty") as empty:
        assert empty.take_in(bundle).checksum == made.checksum
        assert empty.checksums() == here.checksums()
        empty.complete(running, 1)  # and they go on
        empty.finish(waiting)
        assert empty.views.catch_up().rows("queue") == []


def test_what_is_no_job_and_no_batch_has_no_bundle(here: Place, bundle: Path) -> None:
    job_id = here.finished()
    for identifier in (uuid4(), asset_id(job_id, 0), here.upload()):
        with pytest.raises(NothingToExport, match=str(identifier)):
            here.export(identifier, bundle)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_file_that_is_not_as_the_ledger_says_is_named_and_nothing_is_written(
    here: Place, bundle: Path, damage: str
) -> None:
    job_id = here.finished()
    path = next(path for path in here.files() if f"{job_id}_1" in path)
    here.blobs.delete(path)
    if damage == "changed":
        here.blobs.put_once(path, b"bit rot")
    with pytest.raises(FileLost, match=rf"asset {asset_id(job_id, 1)} at {path}"):
        here.export(job_id, bundle)
    assert list(bundle.parent.glob("bundle*")) == []


def test_a_file_is_replaced_only_when_asked_for(here: Place, bundle: Path) -> None:
    job_id = here.finished()
    bundle.write_text("something of mine")
    with pytest.raises(FileExists, match="--force"):
        here.export(job_id, bundle)
    assert bundle.read_text() == "something of mine"
    here.export(job_id, bundle, force=True)
    assert list(bundle.parent.glob("bundle*")) == [bundle]
    assert bundle.stat().st_mode & 0o077 == 0


def test_a_place_that_cannot_be_written_is_named(here: Place, tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match=r"no/bundle\.zip cannot be written: No such file or directory"):
        here.export(here.finished(), tmp_path / "no" / "bundle.zip")


def test_an_event_that_cannot_be_read_is_named(here: Place, bundle: Path) -> None:
    position = append_raw(here.recorder, uuid4(), 1, "job.teleported.v1", b"{}")
    with pytest.raises(LedgerUnfit, match=f"position {position} cannot be read"):
        here.export(None, bundle)
    assert not bundle.exists()


def test_every_refusal_has_a_code_of_its_own() -> None:
    refusals = BundleRefused.__subclasses__()
    assert len({refusal.code for refusal in refusals} | {BundleRefused.code}) == len(refusals) + 1
