"""Batches of jobs on both sides, and the library's projection of them: the rows of our view `batches`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate, event

from benchmarks.histories import JOBS, JOBS_AT_A_TIME, OWNER, Fact, Waves, commit_of, job_id_of, lived, submission
from benchmarks.library_app import Job, Jobs, live, submitted_unsaved
from benchmarks.library_projection import Statement, Writer
from domain.events import BatchItemAdded, BatchOpened, BatchPreferred
from domain.recipes.recipe import asset_id
from services.ledger.commits import Commit

ITEMS: Final = 20
TEMPLATES: Final = ("portrait", "landscape", "macro", "night", "studio")
EVENTS_PER_BATCH: Final = 1 + ITEMS + 1  # opened, its items, a preference; in addition to those of the jobs


def _name(first_seed: int) -> str:
    return f"Lighthouse {first_seed}"


def _batch_id(name: str) -> UUID:
    return uuid5(JOBS, name)


def _template(index: int) -> str:
    return TEMPLATES[index % len(TEMPLATES)]


def _preferred(first_seed: int) -> tuple[UUID, UUID]:
    winner, loser = (asset_id(job_id_of(first_seed + index), 0) for index in range(2))
    return winner, loser


def _firsts(first_seed: int) -> range:
    """The first seed of each batch of a wave."""
    return range(first_seed, first_seed + JOBS_AT_A_TIME, ITEMS)


def _wave(first_seed: int) -> Iterator[Commit]:
    """Each batch is one commit with all its jobs and assets; then all jobs run; of each batch one asset is liked."""
    for first in _firsts(first_seed):
        batch = _batch_id(_name(first))
        facts: list[Fact] = [(batch, batch, 1, BatchOpened(owner=OWNER, kind="batch", name=_name(first)))]
        for index in range(ITEMS):
            added = BatchItemAdded(index=index, template=_template(index), job_id=job_id_of(first + index))
            facts.append((batch, batch, 2 + index, added))
        for index in range(ITEMS):
            facts += submission(first + index, batch)
        yield commit_of(facts)
    yield from lived(first_seed)
    liked: list[Fact] = []
    for first in _firsts(first_seed):
        batch = _batch_id(_name(first))
        winner, loser = _preferred(first)
        liked.append((batch, batch, 2 + ITEMS, BatchPreferred(winner=winner, loser=loser)))
    yield commit_of(liked)


class Batch(Aggregate):
    """Jobs that were submitted together."""

    @staticmethod
    def create_id(name: str) -> UUID:
        """As ours."""
        return _batch_id(name)

    @event("Opened")
    def __init__(self, owner: str, kind: str, name: str) -> None:
        self.owner = owner
        self.kind = kind
        self.name = name
        self.jobs: dict[int, UUID] = {}

    @event("ItemAdded")
    def add(self, index: int, template: str, job_id: UUID) -> None:  # noqa: ARG002  (the event has it)
        """An item was accepted."""
        self.jobs[index] = job_id

    @event("Preferred")
    def prefer(self, winner: UUID, loser: UUID, blind: bool) -> None:
        """Of two assets one is liked more."""


def _library_wave(app: Jobs, first_seed: int) -> None:
    batches, made = [], []
    for first in _firsts(first_seed):
        batch = Batch(OWNER, "batch", _name(first))
        jobs = [submitted_unsaved(first + index) for index in range(ITEMS)]
        for index, (job, _) in enumerate(jobs):
            batch.add(index, _template(index), job.id)
        app.save(batch, *(each for job, assets in jobs for each in (job, *assets)))
        batches.append((batch, first))
        made += jobs
    live(app, made)
    for batch, first in batches:
        batch.prefer(*_preferred(first), False)
        app.save(batch)


WAVES: Final = Waves(12 * JOBS_AT_A_TIME + JOBS_AT_A_TIME // ITEMS * EVENTS_PER_BATCH, _wave)
LIBRARY_WAVE: Final = _library_wave

_WORDS: Final = (
    "update views.batches b set words = to_tsvector('simple', searchable(concat_ws(' ', b.name, b.collection, ("
    " select string_agg(distinct i.template, ' ') from views.batch_items i where i.batch_id = b.batch_id))))"
)
_COUNTS: Final = (
    "update views.batches b set counts = (select jsonb_object_agg(status, items) from ("
    " select status, count(*) as items from views.batch_items i where i.batch_id = b.batch_id group by status) s)"
)


def _open(event: Any, position: int) -> Iterable[Statement]:
    yield (
        "insert into views.batches (batch_id, owner, kind, name, created_at, opened_position, words)"
        " values (%s, %s, %s, %s, %s, %s, to_tsvector('simple', searchable(%s)))",
        (event.originator_id, event.owner, event.kind, event.name, event.timestamp, position, event.name),
    )


def _add(event: Any, _: int) -> Iterable[Statement]:
    yield (
        "insert into views.batch_items (batch_id, owner, index, template, status, job_id, jobs)"
        " values (%s, %s, %s, %s, 'queued', %s, array[%s])",
        (event.originator_id, OWNER, event.index, event.template, event.job_id, event.job_id),
    )
    yield _COUNTS + " where b.batch_id = %s", (event.originator_id,)
    yield _WORDS + " where b.batch_id = %s", (event.originator_id,)


def _prefer(event: Any, position: int) -> Iterable[Statement]:
    one, other = sorted((event.winner, event.loser))
    row = (event.originator_id, OWNER, one, other, event.winner, event.blind, event.timestamp, position)
    yield (
        "insert into views.batch_preferences (batch_id, owner, one, other, winner, blind, at, position)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s)",
        row,
    )


def _move(status: str) -> Writer:
    def write(event: Any, _: int) -> Iterable[Statement]:
        yield "update views.batch_items set status = %s where job_id = %s", (status, event.originator_id)
        of_job = " where b.batch_id = (select batch_id from views.batch_items where job_id = %s)"
        yield _COUNTS + of_job, (event.originator_id,)

    return write


_B: Any = Batch
_E: Any = Job
WRITERS: Final[Mapping[type[Any], Writer]] = {
    _B.Opened: _open,
    _B.ItemAdded: _add,
    _B.Preferred: _prefer,
    _E.Started: _move("processing"),
    _E.Succeeded: _move("succeeded"),
}
