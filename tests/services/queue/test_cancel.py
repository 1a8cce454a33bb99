"""Canceling at every stage, and in races with all else that ends a job: one ending each, and no file left over."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from domain.aggregates.asset import Completed, Reserved, UnknownAsset
from domain.aggregates.job import status_of
from domain.commands import JobCommand
from domain.envelope import Recorded
from domain.errors import AssetEnded, Refused
from domain.recipes.recipe import asset_id
from services.database import Database
from services.files.blobs import Blobs
from services.files.sweeper import Sweeper
from services.ledger import JOB, Context, Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.messaging.wire import StartedReport
from services.queue.dispatcher import Dispatcher
from services.queue.report_handler import ReportHandler
from tests.histories import Story, Views
from tests.services.ledger.test_ledger import ASSET_ENDINGS, JOB_ENDINGS
from tests.services.queue.test_dispatcher import POOL, order_in, work, workers
from tests.spec import CANCEL, WORKER, confirm, expire, release, report_completed, start, submit

ROUNDS = 150
QUANTITY = 3
ADA = Context("ada", "ada")
SERVICE = Context(WORKER)


# Stage by stage.


async def test_a_job_that_is_handed_out_but_not_started_is_canceled_exactly(
    database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    job_id = story.submit(1)
    views.catch_up()
    async with workers(broker, 1) as (pull,):
        await Dispatcher(database, ledger, broker, [POOL]).step()
        order = order_in(await pull)
        assert await work(broker) == {(job_id, 1)}
        story.tell(job_id, CANCEL)
        recorder = ReportHandler(database, ledger, broker, lease_s=30)
        reply = recorder.record(StartedReport(job_id=order.job_id, attempt=order.attempt), WORKER)
    assert (reply.accepted, reply.code) == (False, "job_not_startable")
    assert "job.started" not in names(ledger, job_id)


@pytest.mark.parametrize(
    ("before", "ending"),
    [
        pytest.param([CANCEL], "canceled", id="waiting"),
        pytest.param([start(1), CANCEL, confirm(1)], "canceled", id="confirmed between steps"),
        pytest.param([start(1), CANCEL, release(1)], "canceled", id="its worker was asked to end"),
        pytest.param([start(1), CANCEL, expire(1)], "canceled", id="its worker was lost"),
        pytest.param([start(1), release(1), CANCEL], "canceled", id="waiting again"),
        pytest.param([start(1), CANCEL, *map(report_completed, range(QUANTITY))], "succeeded", id="finished before"),
        pytest.param([start(1), *map(report_completed, range(QUANTITY)), CANCEL], "succeeded", id="after the end"),
    ],
)
def test_a_job_ends_once_whenever_it_is_canceled_and_canceling_again_does_nothing(
    ledger: Ledger, story: Story, before: list[JobCommand], ending: str
) -> None:
    job_id = story.submit(QUANTITY)
    story.tell(job_id, *before)
    head = ledger.head()
    assert not story.tell(job_id, CANCEL, CANCEL).decision
    assert ledger.head() == head
    assert status_of(ledger.generation(job_id).job) == ending
    one_ending_each(ledger, job_id)


# In a race.


def names(ledger: Ledger, stream: UUID) -> list[str]:
    """What happened to it."""
    return [event.name for event in ledger.stream(stream) if isinstance(event, Recorded)]


def one_ending_each(ledger: Ledger, job_id: UUID) -> None:
    """The job and each of its assets ended exactly once."""
    assert sum(name in JOB_ENDINGS for name in names(ledger, job_id)) == 1
    for index in range(QUANTITY):
        assert sum(name in ASSET_ENDINGS for name in names(ledger, asset_id(job_id, index))) == 1


def at_once(*calls: Callable[[], object]) -> list[BaseException | None]:
    """Call them all at the same moment; what each raised."""
    ready = Barrier(len(calls))

    def go(call: Callable[[], object]) -> None:
        ready.wait(timeout=30)
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(go, call) for call in calls]
    return [one.exception() for one in running]


class Races:
    """A worker, its owner, the reaper and the sweeper, each with connections of its own, on one job after the other."""

    def __init__(self, ledgers: list[Ledger], blobs: Blobs, sweeper: Sweeper) -> None:
        self._ledgers = ledgers
        self._blobs = blobs
        self.sweeper = sweeper

    def path(self, job_id: UUID, index: int) -> str:
        """Where the file belongs."""
        asset = self._ledgers[0].asset(asset_id(job_id, index))
        assert not isinstance(asset, UnknownAsset)
        return asset.reservation.path

    def deliver(self, job_id: UUID, index: int) -> None:
        """As a worker: the file first, then the report; and what the ledger says of a file that came too late."""
        path = self.path(job_id, index)
        self._blobs.put_once(path, b"pixels")
        try:
            self._ledgers[0].execute(JOB, job_id, report_completed(index), SERVICE)
        except AssetEnded:
            self._blobs.delete(path)

    def tell(self, number: int, job_id: UUID, command: JobCommand, who: Context = SERVICE) -> None:
        """As somebody else."""
        self._ledgers[number].execute(JOB, job_id, command, who)


@pytest.fixture
def races(dsn: str, database: Database, tmp_path: Path) -> Iterator["Races"]:
    """Two ledgers on one database, as two processes have, and files in a folder."""
    with Database(dsn) as a, Database(dsn) as b, Flusher(dsn) as one, Flusher(dsn) as other:
        ledgers = [Ledger(PostgresRecorder(a, one)), Ledger(PostgresRecorder(b, other))]
        blobs = Blobs((tmp_path / "blobs").as_uri())
        yield Races(ledgers, blobs, Sweeper(database, ledgers[1], blobs, after_s=(0.0,)))


async def test_cancel_completion_and_a_lost_worker_that_race_end_everything_once_and_leave_no_file(
    ledger: Ledger, races: Races, tmp_path: Path
) -> None:
    chance = random.Random(7)
    seen: set[tuple[str, ...]] = set()
    blobs = Blobs((tmp_path / "blobs").as_uri())
    for _ in range(ROUNDS):
        job_id = uuid4()
        ledger.execute(JOB, job_id, submit(QUANTITY, job_id=job_id, request_sha256=None), ADA)
        ledger.execute(JOB, job_id, start(1), SERVICE)

        def cancel(job_id: UUID = job_id) -> None:
            races.tell(1, job_id, CANCEL, ADA)
            races.tell(1, job_id, confirm(1))

        calls: list[Callable[[], object]] = [
            *(lambda job_id=job_id, index=index: races.deliver(job_id, index) for index in range(QUANTITY)),  # type: ignore[misc]
            cancel,
            lambda job_id=job_id: races.tell(1, job_id, CANCEL, ADA),  # type: ignore[misc]
            lambda job_id=job_id: races.tell(0, job_id, expire(1)),  # type: ignore[misc]
            races.sweeper.step,
        ]
        chance.shuffle(calls)
        errors = at_once(*calls)
        assert all(error is None or isinstance(error, Refused) for error in errors), errors
        ledger.execute(JOB, job_id, CANCEL, ADA)  # where the lease ran out first, it waits again
        one_ending_each(ledger, job_id)
        seen.add(tuple(names(ledger, asset_id(job_id, index))[-1] for index in range(QUANTITY)))
        while races.sweeper.step():
            pass
        for index in range(QUANTITY):
            asset = ledger.asset(asset_id(job_id, index))
            assert not isinstance(asset, Reserved)
            assert await blobs.exists(races.path(job_id, index)) == isinstance(asset, Completed)
    assert len(seen) > 1  # the races went this way and that
