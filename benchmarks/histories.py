"""A ledger full of jobs with three assets each, as it looks after a busy hour: events of many jobs interleave."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4, uuid5

from benchmarks.recorders import NOW
from domain.envelope import Envelope
from domain.events import (
    AssetCompleted,
    AssetRated,
    AssetReserved,
    Event,
    JobQueued,
    JobStarted,
    JobSucceeded,
)
from domain.recipes.recipe import Kind, Recipe, Task, asset_id, asset_path, seeds_from
from services.ledger import EventMapper, PostgresRecorder
from services.ledger.commits import Commit, NewEvent

JOBS_AT_A_TIME: Final = 100
"""So many jobs are submitted, then all of them run: a row that was inserted in one batch is changed in later ones."""

ASSETS: Final = 3
EVENTS_PER_JOB: Final = 3 + 3 * ASSETS

JOBS: Final = UUID(int=0)
"""The namespace of their ids: the same in every run, and on both sides."""

OWNER: Final = "admin"
BUCKET: Final = "sdxl_image_fast"


def recipe(seed: int) -> Recipe:
    """What the commonest job asks for."""
    return Recipe(
        job_type="sdxl_image_fast",
        model="sdxl-demo",
        task=Task.TEXT_TO_IMAGE,
        prompt="a lighthouse on a cliff at dusk, warm light, detailed",
        negative_prompt="blurry, low quality, watermark, text",
        params={"width": 256, "height": 256, "steps": 15, "guidance": 6.0},
        seeds=seeds_from(seed, ASSETS),
    )


def job_id_of(seed: int) -> UUID:
    """Of the job whose first asset has this seed."""
    return uuid5(JOBS, str(seed))


def queued(seed: int) -> JobQueued:
    """A job is accepted."""
    return JobQueued(owner=OWNER, recipe=recipe(seed), pool="sdxl")


def reserved(job_id: UUID, index: int, seed: int) -> AssetReserved:
    """Its asset at `index`."""
    path = asset_path(BUCKET, OWNER, job_id, index, "png")
    return AssetReserved(
        owner=OWNER, job_id=job_id, index=index, seed=seed + index, kind=Kind.IMAGE, bucket=BUCKET, path=path
    )


COMPLETED: Final = AssetCompleted(
    attempt=1,
    sha256="ab" * 32,
    pixels_sha256="cd" * 32,
    media_type="image/png",
    bytes=81_234,
    width=256,
    height=256,
    render_ms=740,
    store_ms=12,
    worker_versions={"darkroom": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.0"},
)
STARTED: Final = JobStarted(attempt=1, worker="gpu-1-4711")


Fact = tuple[UUID, UUID, int, Event]
"""Job, stream, version, event."""


@dataclass(frozen=True, slots=True)
class Waves:
    """A history that repeats: `commits` of a wave by its first seed, of which a wave takes `JOBS_AT_A_TIME`."""

    events: int
    commits: Callable[[int], Iterator[Commit]]


def fill(recorder: PostgresRecorder, events: int, *, after: int = 0, waves: Waves | None = None) -> int:
    """Append whole waves, of jobs, until about `events` events are there, `after` of which were; the last position."""
    waves = waves or JOB_WAVES
    last = after
    for wave in range(after // waves.events, max(1, events // waves.events)):
        for commit in waves.commits(wave * JOBS_AT_A_TIME):
            last = recorder.append(commit).result().last_position
    return last


def submission(seed: int, batch_id: UUID | None = None) -> list[Fact]:
    """A job and its reservations."""
    job = job_id_of(seed)
    accepted = queued(seed).model_copy(update={"batch_id": batch_id})
    assets = [(job, asset_id(job, index), 1, reserved(job, index, seed)) for index in range(ASSETS)]
    return [(job, job, 1, accepted), *assets]


def lived(first_seed: int) -> Iterator[Commit]:
    """What becomes of the jobs of a wave."""
    jobs = [job_id_of(seed) for seed in range(first_seed, first_seed + JOBS_AT_A_TIME)]
    assets = [(job, asset_id(job, index)) for job in jobs for index in range(ASSETS)]
    yield commit_of((job, job, 2, STARTED) for job in jobs)
    yield commit_of((job, asset, 2, COMPLETED) for job, asset in assets)
    yield commit_of((job, job, 3, JobSucceeded()) for job in jobs)
    yield commit_of((job, asset, 3, AssetRated(score=4)) for job, asset in assets)


def _wave(first_seed: int) -> Iterator[Commit]:
    yield commit_of(fact for seed in range(first_seed, first_seed + JOBS_AT_A_TIME) for fact in submission(seed))
    yield from lived(first_seed)


JOB_WAVES: Final = Waves(EVENTS_PER_JOB * JOBS_AT_A_TIME, _wave)


def commit_of(facts: Iterable[Fact]) -> Commit:
    """These facts together."""
    return Commit(uuid4(), [_encoded(*fact) for fact in facts])


def _encoded(job: UUID, stream: UUID, version: int, event: Event) -> NewEvent:
    command = uuid5(job if version == 1 else stream, str(version))  # a job and its reservations are one command
    at = NOW + timedelta(seconds=version)
    return MAPPER.encode(stream, version, event, Envelope("admin", OWNER, at, command, correlation_id=job))


MAPPER: Final = EventMapper()
