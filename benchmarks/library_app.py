"""The same jobs and assets on the eventsourcing library alone, as its documentation builds applications."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict

from benchmarks.histories import (
    ASSETS,
    COMPLETED,
    JOBS_AT_A_TIME,
    OWNER,
    STARTED,
    Waves,
    job_id_of,
    queued,
    reserved,
)
from domain.recipes.recipe import asset_id


class Job(Aggregate):
    """A job with its recipe."""

    @staticmethod
    def create_id(recipe: dict[str, Any]) -> UUID:
        """The same that our history gives it, so that the rows of both can be compared."""
        return job_id_of(recipe["seeds"][0])

    @event("Queued")
    def __init__(self, owner: str, pool: str, recipe: dict[str, Any]) -> None:
        self.owner = owner
        self.pool = pool
        self.recipe = recipe
        self.status = "queued"

    @event("Started")
    def start(self, attempt: int, worker: str) -> None:
        """A worker took it."""
        self.attempt = attempt
        self.worker = worker
        self.status = "processing"

    @event("Succeeded")
    def succeed(self) -> None:
        """Every asset is there."""
        self.status = "succeeded"


class Asset(Aggregate):
    """One output of a job. Its events say whose, as the envelopes of ours do: a projection needs it."""

    @staticmethod
    def create_id(job_id: UUID, index: int) -> UUID:
        """As Darkroom's: anyone who knows the job knows its assets."""
        return asset_id(job_id, index)

    @event("Reserved")
    def __init__(self, owner: str, job_id: UUID, index: int, reservation: dict[str, Any]) -> None:
        self.owner = owner
        self.job_id = job_id
        self.index = index
        self.reservation = reservation
        self.rating: int | None = None

    @event("Completed")
    def complete(self, job_id: UUID, completion: dict[str, Any]) -> None:  # noqa: ARG002  (the event has it)
        """Its file is there."""
        self.completion = completion

    @event("Rated")
    def rate(self, job_id: UUID, score: int) -> None:  # noqa: ARG002  (the event has it)
        """Its owner's opinion."""
        self.rating = score


class Jobs(Application[UUID]):
    """Jobs and assets."""


def environment(dsn: str, connections: int = 2) -> dict[str, str]:
    """The library's settings for a database of its own."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts["dbname"],
        "POSTGRES_HOST": parts["host"],
        "POSTGRES_PORT": parts["port"],
        "POSTGRES_USER": parts["user"],
        "POSTGRES_PASSWORD": parts.get("password", "none"),
        "POSTGRES_POOL_SIZE": str(connections),
        "POSTGRES_MAX_OVERFLOW": "10",
        "AGGREGATE_CACHE_MAXSIZE": "1000",  # as Darkroom remembers a thousand jobs
    }


@contextmanager
def library_app(dsn: str, connections: int = 2) -> Iterator[Jobs]:
    """The application on an empty database."""
    app = Jobs(environment(dsn, connections))
    try:
        yield app
    finally:
        app.close()


def submitted(app: Jobs, seed: int) -> tuple[Job, list[Asset]]:
    """A new job with its assets, saved together."""
    job, assets = submitted_unsaved(seed)
    app.save(job, *assets)
    return job, assets


def submitted_unsaved(seed: int) -> tuple[Job, list[Asset]]:
    """A new job with its assets."""
    facts = queued(seed)
    job = Job(facts.owner, facts.pool, facts.recipe.model_dump(mode="json"))
    assets = [
        Asset(OWNER, job.id, index, reserved(job.id, index, seed).model_dump(mode="json")) for index in range(ASSETS)
    ]
    return job, assets


def job_wave(app: Jobs, first_seed: int) -> None:
    """The same that `histories.JOB_WAVES` has, in the same order."""
    live(app, [submitted(app, seed) for seed in range(first_seed, first_seed + JOBS_AT_A_TIME)])


def live(app: Jobs, made: Sequence[tuple[Job, list[Asset]]]) -> None:
    """What becomes of the jobs of a wave."""
    for job, _ in made:
        job.start(STARTED.attempt, STARTED.worker)
        app.save(job)
    for job, assets in made:
        for asset in assets:
            asset.complete(job.id, COMPLETED.model_dump(mode="json"))
        app.save(*assets)
    for job, _ in made:
        job.succeed()
        app.save(job)
    for job, assets in made:
        for asset in assets:
            asset.rate(job.id, 4)
        app.save(*assets)


def fill_library(app: Jobs, events: int, waves: Waves, wave: Callable[[Jobs, int], None]) -> int:
    """As many waves as `histories.fill` writes; returns the last notification's id."""
    for number in range(max(1, events // waves.events)):
        wave(app, number * JOBS_AT_A_TIME)
    return app.recorder.max_notification_id() or 0
