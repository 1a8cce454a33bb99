"""Load, decide and append, with 8 threads in one process: what every report of a worker and every click costs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeVar
from uuid import UUID, uuid4

from benchmarks.contest import Contest, Row, Target
from benchmarks.histories import BUCKET, COMPLETED, OWNER, STARTED, recipe
from benchmarks.library_app import Asset, Job, Jobs, library_app, submitted
from benchmarks.recorders import NOW, our_recorder
from benchmarks.stage import Stage
from domain.commands import RateAsset, ReportAssetCompleted, StartAttempt, SubmitJob
from domain.recipes.recipe import Kind, asset_id
from services.ledger import ASSET, JOB, Context, Ledger

PEER = "eventsourcing Application"
THREADS: Final = 8
SYSTEM: Final = Context(STARTED.worker)
PERSON: Final = Context(OWNER, OWNER)

T = TypeVar("T")


@dataclass
class Both:
    """Darkroom's ledger and the library's application, with how many jobs a measurement takes through their lives."""

    ledger: Ledger
    app: Jobs
    jobs: int
    seeds: Iterator[int] = field(default_factory=lambda: count(1))

    def submit_ours(self, _: int = 0) -> UUID:
        """A job with three assets."""
        job_id = uuid4()
        wanted = recipe(next(self.seeds))
        self.ledger.execute(
            JOB, job_id, SubmitJob(job_id, OWNER, wanted, "sdxl", Kind.IMAGE, BUCKET, "png", NOW), PERSON
        )
        return job_id

    def submit_peers(self, _: int = 0) -> tuple[UUID, list[UUID]]:
        """The same."""
        job, assets = submitted(self.app, next(self.seeds))
        return job.id, [asset.id for asset in assets]


def report_ours(both: Both) -> float:
    """Four reports a job, each with the job and its assets loaded: it starts, and three images are there."""

    def life(job_id: UUID) -> int:
        both.ledger.execute(JOB, job_id, StartAttempt(1, STARTED.worker, NOW), SYSTEM)
        for index in range(3):
            both.ledger.execute(JOB, job_id, ReportAssetCompleted(index, COMPLETED, NOW), SYSTEM)
        return 4

    return spread(life, [both.submit_ours() for _ in range(both.jobs)])


def report_peers(both: Both) -> float:
    """The same four, each with the one aggregate loaded that it is about."""
    repository, completion = both.app.repository, COMPLETED.model_dump(mode="json")

    def life(ids: tuple[UUID, list[UUID]]) -> int:
        job: Job = repository.get(ids[0])
        job.start(STARTED.attempt, STARTED.worker)
        both.app.save(job)
        for identifier in ids[1]:
            asset: Asset = repository.get(identifier)
            asset.complete(ids[0], completion)
            both.app.save(asset)
        return 4

    return spread(life, [both.submit_peers() for _ in range(both.jobs)])


def rate_ours(both: Both) -> float:
    """A rating of each asset: one stream loaded, one event."""
    assets = []
    for job_id in [both.submit_ours() for _ in range(both.jobs)]:
        both.ledger.execute(JOB, job_id, StartAttempt(1, STARTED.worker, NOW), SYSTEM)
        for index in range(3):
            both.ledger.execute(JOB, job_id, ReportAssetCompleted(index, COMPLETED, NOW), SYSTEM)
            assets.append(asset_id(job_id, index))

    def click(asset: UUID) -> int:
        both.ledger.execute(ASSET, asset, RateAsset(4, NOW), PERSON)
        return 1

    return spread(click, assets)


def rate_peers(both: Both) -> float:
    """The same."""
    completion = COMPLETED.model_dump(mode="json")
    assets = [asset for _, assets in [both.submit_peers() for _ in range(both.jobs)] for asset in assets]
    for identifier in assets:
        completed: Asset = both.app.repository.get(identifier)
        completed.complete(completed.job_id, completion)
        both.app.save(completed)

    def click(identifier: UUID) -> int:
        asset: Asset = both.app.repository.get(identifier)
        asset.rate(asset.job_id, 4)
        both.app.save(asset)
        return 1

    return spread(click, assets)


def spread(work: Callable[[T], int], items: Sequence[T]) -> float:
    """How much gets done a second when 8 threads share the items; `work` returns how much one was."""
    with ThreadPoolExecutor(THREADS) as pool:
        began = time.perf_counter()
        done = sum(pool.map(work, items))
        return done / (time.perf_counter() - began)


def contest(
    ours: Callable[[Both], float], peers: Callable[[Both], float]
) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """Both on databases of their own."""

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        with (
            stage.database(migrated=True) as dsn,
            stage.database(migrated=False) as peer_dsn,
            our_recorder(dsn) as recorder,
            Ledger(recorder) as ledger,
            library_app(peer_dsn, THREADS) as app,
        ):
            both = Both(ledger, app, jobs=50 if stage.quick else 400)
            yield Contest(ours=lambda: ours(both), peer=lambda: peers(both))

    return prepare


TWICE = Target("ratio", "≥", 2)
ROWS = [
    Row("decide-report", "commands/s, 8 threads, a job with 3 assets", PEER, TWICE, contest(report_ours, report_peers)),
    Row("decide-rate", "commands/s, 8 threads, one asset", PEER, TWICE, contest(rate_ours, rate_peers)),
]
