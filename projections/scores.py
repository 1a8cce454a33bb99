"""What people think of what they made, by prompt, model and job type: GET /v1/scores, and the figures of saved prompts.

An asset counts with its latest rating, whatever becomes of it later: what is in the trash was still made by this model
of that prompt. Every job counts as a use, also one that failed, was canceled, or runs outputs of another one again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain import scoring
from domain.envelope import Recorded
from domain.recipe import Recipe, asset_id
from projections.projection import Projection, Row
from projections.sql import load

SQL = load("scores.sql")

By = Literal["prompt", "model", "job_type"]
Subject = tuple[str, str, str]
"""What a row of `scores` is about: its owner, by what, and the key."""
Edge = tuple[str, str, str, str]
"""Owner, by what, the key that was preferred, the key that was not."""

EventT = TypeVar("EventT", bound=facts.Event)


def prompt_key(prompt: str) -> str:
    """What stands for a prompt in keys: prompts are the same when they are so to the last character."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Job:
    """What ratings of its assets count for. Fields as columns of `score_jobs`."""

    job_id: UUID
    owner: str
    batch_id: UUID | None
    quantity: int
    prompt_sha256: str
    model: str
    job_type: str

    def subjects(self) -> list[Subject]:
        """In the order prompt, model, job type."""
        keys: tuple[tuple[By, str], ...] = (
            ("prompt", self.prompt_sha256),
            ("model", self.model),
            ("job_type", self.job_type),
        )
        return [(self.owner, by, key) for by, key in keys]


@dataclass(slots=True)
class _Change:
    """What a batch of events adds to a row. `beginning` is the value and the position of its first job."""

    jobs: int = 0
    distribution: list[int] = field(default_factory=lambda: [0] * len(scoring.SCORES))
    beginning: tuple[str, int] | None = None
    standing: tuple[int, int, float] | None = None
    """Preferences won and lost, and the strength, as they are from now on."""


class Scores:
    """Counts per owner and value, and what `domain.scoring` makes of them. No more rows are read than events touch."""

    name = "scores"
    tables = ("score_jobs", "score_preferences", "score_ratings", "score_wins", "scores")
    aggregates = ("job", "asset", "batch")

    @property
    def version(self) -> int:
        """See `Projection`: other formulas make other rows."""
        return scoring.FORMULA

    def project(self, events: Sequence[Recorded], cursor: Cursor[TupleRow]) -> None:
        """See `Projection`. Raises `LookupError` for a rating or preference whose job is not here: it is parked."""
        queued = list(_of(facts.JobQueued, events))
        rated = list(_of(facts.AssetRated, events))
        preferred = list(_of(facts.BatchPreferred, events))
        if not (queued or rated or preferred):
            return
        changes: dict[Subject, _Change] = defaultdict(_Change)
        jobs = _add_jobs(cursor, queued, changes)
        _load_jobs(cursor, jobs, rated, preferred)
        _count_ratings(cursor, rated, jobs, changes)
        _count_preferences(cursor, preferred, jobs, changes)
        _apply(cursor, changes)


SCORES: Final[Projection] = Scores()


def _of(kind: type[EventT], events: Iterable[Recorded]) -> Iterator[tuple[Recorded, EventT]]:
    return ((recorded, recorded.event) for recorded in events if isinstance(recorded.event, kind))


def _add_jobs(
    cursor: Cursor[TupleRow], queued: Sequence[tuple[Recorded, facts.JobQueued]], changes: dict[Subject, _Change]
) -> dict[UUID, _Job]:
    jobs: dict[UUID, _Job] = {}
    for recorded, event in queued:
        recipe = event.recipe
        job = _job(recorded.stream_id, event, recipe)
        jobs[job.job_id] = job
        for subject, value in zip(job.subjects(), (recipe.prompt, recipe.model, recipe.job_type), strict=True):
            change = changes[subject]
            change.jobs += 1
            change.beginning = change.beginning or (value, recorded.position)
    if jobs:
        _store(cursor, "add_jobs", [asdict(job) for job in jobs.values()])
    return jobs


def _job(job_id: UUID, event: facts.JobQueued, recipe: Recipe) -> _Job:
    sha256 = prompt_key(recipe.prompt)
    return _Job(job_id, event.owner, event.batch_id, recipe.quantity, sha256, recipe.model, recipe.job_type)


def _load_jobs(
    cursor: Cursor[TupleRow],
    jobs: dict[UUID, _Job],
    rated: Sequence[tuple[Recorded, facts.AssetRated]],
    preferred: Sequence[tuple[Recorded, facts.BatchPreferred]],
) -> None:
    """Add the jobs that the ratings are about, by their conversation, and those of the batches."""
    wanted = {recorded.envelope.correlation_id for recorded, _ in rated} - jobs.keys()
    batches = {recorded.stream_id for recorded, _ in preferred}
    if wanted or batches:
        found = cursor.execute(SQL["load_jobs"], (list(wanted), list(batches)), prepare=True).fetchall()
        jobs |= {row[0]: _Job(*row) for row in found}


def _count_ratings(
    cursor: Cursor[TupleRow],
    rated: Sequence[tuple[Recorded, facts.AssetRated]],
    jobs: Mapping[UUID, _Job],
    changes: dict[Subject, _Change],
) -> None:
    if not rated:
        return
    assets = list({recorded.stream_id for recorded, _ in rated})
    latest: dict[UUID, int] = dict(cursor.execute(SQL["load_ratings"], (assets,), prepare=True).fetchall())
    owners: dict[UUID, str] = {}
    for recorded, event in rated:
        job = jobs.get(recorded.envelope.correlation_id)
        if job is None:
            raise LookupError("there is no row for this asset's job: the job is missing here")
        before = latest.get(recorded.stream_id)
        for subject in job.subjects():
            changes[subject].distribution[event.score - 1] += 1
            if before is not None:
                changes[subject].distribution[before - 1] -= 1
        latest[recorded.stream_id] = event.score
        owners[recorded.stream_id] = job.owner
    rows = [{"asset_id": asset, "owner": owner, "score": latest[asset]} for asset, owner in owners.items()]
    _store(cursor, "store_ratings", rows)


def _count_preferences(
    cursor: Cursor[TupleRow],
    preferred: Sequence[tuple[Recorded, facts.BatchPreferred]],
    jobs: Mapping[UUID, _Job],
    changes: dict[Subject, _Change],
) -> None:
    if not preferred:
        return
    pairs = {_pair(event): recorded.envelope.owner for recorded, event in preferred}
    found = cursor.execute(SQL["load_preferences"], _columns(pairs, 2), prepare=True).fetchall()
    winners: dict[tuple[UUID, UUID], UUID] = {(one, other): winner for one, other, winner in found}
    moves: dict[Edge, int] = defaultdict(int)
    assets = {batch: dict(_assets_of(batch, jobs)) for batch in {recorded.stream_id for recorded, _ in preferred}}
    for recorded, event in preferred:
        job_of = assets[recorded.stream_id]
        if event.winner not in job_of or event.loser not in job_of:
            raise LookupError("there is no row for one of these assets' jobs: the job is missing here")
        before = winners.get(_pair(event))
        winners[_pair(event)] = event.winner
        if before == event.winner:
            continue
        for (owner, by, won), (_, _, lost) in zip(
            job_of[event.winner].subjects(), job_of[event.loser].subjects(), strict=True
        ):
            if won != lost:  # what was compared with itself tells nothing
                moves[owner, by, won, lost] += 1
                moves[owner, by, lost, won] -= before is not None
    rows = [
        {"one": one, "other": other, "owner": owner, "winner": winners[one, other]}
        for (one, other), owner in pairs.items()
    ]
    _store(cursor, "store_preferences", rows)
    _move_wins(cursor, {edge: by for edge, by in moves.items() if by}, changes)


def _move_wins(cursor: Cursor[TupleRow], moves: Mapping[Edge, int], changes: dict[Subject, _Change]) -> None:
    """Count what was won, and judge anew everybody whom preferences connect with those it was won of."""
    touched = {(owner, by, key) for owner, by, *keys in moves for key in keys}
    if not touched:
        return
    found = cursor.execute(SQL["connected_wins"], _columns(touched, 3), prepare=True).fetchall()
    wins: dict[Edge, int] = {(owner, by, winner, loser): number for owner, by, winner, loser, number in found}
    for edge, number in moves.items():
        wins[edge] = wins.get(edge, 0) + number
    _store(cursor, "store_wins", [_win(edge, wins[edge]) for edge in moves if wins[edge]])
    _store(cursor, "remove_wins", [_win(edge, 0) for edge in moves if not wins[edge]])
    tables: dict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(dict)
    for (owner, by, winner, loser), number in wins.items():
        if number:
            tables[owner, by][winner, loser] = number
    for (owner, by), table in tables.items():
        won: dict[str, int] = defaultdict(int)
        lost: dict[str, int] = defaultdict(int)
        for (winner, loser), number in table.items():
            won[winner] += number
            lost[loser] += number
        for key, strength in scoring.strengths(table).items():
            changes[owner, by, key].standing = (won[key], lost[key], strength)


def _apply(cursor: Cursor[TupleRow], changes: Mapping[Subject, _Change]) -> None:
    if not changes:
        return
    found = cursor.execute(SQL["load_scores"], _columns(changes, 3), prepare=True).fetchall()
    rows: dict[Subject, Row] = {(owner, by, key): orjson.loads(row) for owner, by, key, row in found}
    for subject, change in changes.items():
        row = rows.get(subject) or _new_row(subject, change)
        rows[subject] = row
        if change.beginning is not None:  # a job that was parked may come after later ones
            row["first_position"] = min(row["first_position"], change.beginning[1])
        row["jobs"] += change.jobs
        row["distribution"] = [a + b for a, b in zip(row["distribution"], change.distribution, strict=True)]
        if change.standing is not None:
            row["won"], row["lost"], row["strength"] = change.standing
        row["rated"] = scoring.rated(row["distribution"])
        row["mean"] = scoring.mean(row["distribution"])
        row["score"] = scoring.bayesian_average(row["distribution"])
        row["formula"] = scoring.FORMULA
    _store(cursor, "store_scores", list(rows.values()))


def _new_row(subject: Subject, change: _Change) -> Row:
    if change.beginning is None:
        raise LookupError("there is no row for a value that jobs have: the view is damaged; rebuild it")
    value, position = change.beginning
    distribution = [0] * len(scoring.SCORES)
    row: Row = dict(zip(("owner", "by", "key"), subject, strict=True))
    row |= {"value": value, "first_position": position, "jobs": 0, "distribution": distribution}
    return row | {"won": 0, "lost": 0, "strength": None}


def _pair(event: facts.BatchPreferred) -> tuple[UUID, UUID]:
    return min(event.winner, event.loser), max(event.winner, event.loser)


def _assets_of(batch: UUID, jobs: Mapping[UUID, _Job]) -> Iterator[tuple[UUID, _Job]]:
    for job in jobs.values():
        if job.batch_id == batch:
            yield from ((asset_id(job.job_id, index), job) for index in range(job.quantity))


def _win(edge: Edge, wins: int) -> Row:
    return dict(zip(("owner", "by", "winner", "loser"), edge, strict=True)) | {"wins": wins}


def _columns(keys: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys as one array for each of their parts."""
    return [[key[part] for key in keys] for part in range(width)]


def _store(cursor: Cursor[TupleRow], statement: str, rows: Sequence[Row]) -> None:
    if rows:
        cursor.execute(SQL[statement], (orjson.dumps(rows).decode(),), prepare=True)
