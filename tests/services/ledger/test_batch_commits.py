"""A batch and its jobs land together or not at all."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domain.aggregates.batch import Opened, item_job_id
from domain.aggregates.media import media_id
from domain.commands import DeleteMedia, NewItem, OpenBatch, RunItemsAgain, SubmitJob, UploadMedia
from domain.envelope import Recorded
from domain.errors import BatchMovedOn, NotFound
from services.database import Database, Unavailable
from services.ledger import BATCH, JOB, MEDIA, Context, Ledger
from tests.spec import NOW, OWNER, REQUEST_SHA256, SUBMIT, recipe, report_failed, start

BATCH_ID = UUID("0b7a5a3e-54a5-4b6f-8a62-3f1d6d8b7c90")
ADA = Context(OWNER, OWNER)
SHA256 = "ab" * 32
MEDIA_ID = media_id(OWNER, SHA256)


def jobs_of(*quantities: int, uploads: tuple[UUID, ...] = ()) -> list[SubmitJob]:
    """A job for each item."""
    return [
        replace(
            SUBMIT, job_id=item_job_id(BATCH_ID, index), batch_id=BATCH_ID, recipe=recipe(quantity), uploads=uploads
        )
        for index, quantity in enumerate(quantities)
    ]


def opening(jobs: Sequence[SubmitJob]) -> OpenBatch:
    """The batch of these jobs."""
    items = tuple(NewItem(index, None, job.job_id) for index, job in enumerate(jobs))
    return OpenBatch(owner=OWNER, kind="batch", name="Foxes", items=items, now=NOW, request_sha256=REQUEST_SHA256)


def names(ledger: Ledger) -> list[str]:
    """Every event by name, in ledger order."""
    return [event.name for event in ledger.read(0, 1_000) if isinstance(event, Recorded)]


def upload(ledger: Ledger) -> None:
    """A picture of the owner."""
    ledger.execute(MEDIA, MEDIA_ID, UploadMedia(OWNER, "image", "image/png", 9, SHA256, NOW), ADA)


def test_a_batch_and_all_its_jobs_are_one_commit(ledger: Ledger, database: Database) -> None:
    upload(ledger)
    jobs = jobs_of(2, 1, uploads=(MEDIA_ID,))
    executed = ledger.execute(BATCH, BATCH_ID, opening(jobs), ADA, jobs)
    queued = ["job.queued", "asset.reserved"]
    items = ["batch.opened", "batch.item_added", "batch.item_added"]
    expected = ["media.uploaded", *items, *queued, "asset.reserved", *queued, "media.used"]
    assert names(ledger) == expected
    assert executed.position == ledger.head() == len(expected)
    with database.connection() as connection:
        spans = connection.execute("select first_position, last_position from ledger_commands order by 1").fetchall()
    assert spans == [(1, 1), (2, len(expected))]
    assert [ledger.generation(job.job_id, owner=OWNER).assets != () for job in jobs] == [True, True]


def test_a_file_that_was_deleted_meanwhile_leaves_nothing_half_written(ledger: Ledger) -> None:
    upload(ledger)
    ledger.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADA)
    jobs = jobs_of(1, 1)
    with_file = [jobs[0], replace(jobs[1], uploads=(MEDIA_ID,))]
    with pytest.raises(NotFound):
        ledger.execute(BATCH, BATCH_ID, opening(with_file), ADA, with_file)
    assert names(ledger) == ["media.uploaded", "media.deleted"]


def test_a_job_whose_id_is_taken_leaves_nothing_half_written(ledger: Ledger) -> None:
    first, second = jobs_of(1, 1)
    ledger.execute(JOB, second.job_id, second, ADA)
    with pytest.raises(Unavailable):
        ledger.execute(BATCH, BATCH_ID, opening([first, second]), ADA, [first, second])
    assert names(ledger) == ["job.queued", "asset.reserved"]
    with pytest.raises(NotFound):
        ledger.batch(BATCH_ID)


def test_the_same_batch_opened_at_once_is_one(ledger: Ledger) -> None:
    jobs = jobs_of(1, 1, 1)
    with ThreadPoolExecutor(max_workers=4) as threads:
        opened = list(threads.map(lambda _: ledger.execute(BATCH, BATCH_ID, opening(jobs), ADA, jobs), range(8)))
    assert sorted(len(executed.decision) for executed in opened) == [0] * 7 + [4]
    assert len(names(ledger)) == 4 + 6


def test_an_item_is_run_again_by_one_of_those_who_try_at_once(ledger: Ledger) -> None:
    (job,) = jobs = jobs_of(1)
    ledger.execute(BATCH, BATCH_ID, opening(jobs), ADA, jobs)
    for command in (start(1), report_failed(0)):
        ledger.execute(JOB, job.job_id, command, Context("gpu-1"))

    def again(_: int) -> bool:
        successor = replace(job, job_id=uuid4())
        item = NewItem(0, None, successor.job_id, instead_of=job.job_id)
        try:
            return bool(ledger.execute(BATCH, BATCH_ID, RunItemsAgain((item,), NOW), ADA, [successor]).decision)
        except BatchMovedOn:
            return False

    with ThreadPoolExecutor(max_workers=4) as threads:
        assert sorted(threads.map(again, range(6))) == [False] * 5 + [True]
    batch, _ = ledger.batch(BATCH_ID, owner=OWNER)
    assert isinstance(batch, Opened)
    assert len(batch.items[0].jobs) == 2
    assert names(ledger).count("job.queued") == 2


def test_somebody_elses_batch_is_as_unknown_as_one_that_never_was(memory_ledger: Ledger) -> None:
    jobs = jobs_of(1)
    memory_ledger.execute(BATCH, BATCH_ID, opening(jobs), ADA, jobs)
    bob = Context("bob", "bob")
    for batch in (BATCH_ID, uuid4()):
        with pytest.raises(NotFound) as caught:
            memory_ledger.batch(batch, owner="bob")
        assert str(caught.value) == f"There is no batch {batch}."
        with pytest.raises(NotFound):
            memory_ledger.execute(BATCH, batch, RunItemsAgain((), NOW), bob)
