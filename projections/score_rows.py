"""The rows of `scores`, and how a batch of events changes them: what ratings and preferences have in common."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain import scoring
from domain.envelope import Recorded
from projections.projection import Row
from projections.sql import load

SQL = load("scores.sql")

By = Literal["prompt", "model", "job_type"]
Subject = tuple[str, str, str]
"""What a row of `scores` is about: its owner, by what, and the key."""

EventT = TypeVar("EventT", bound=facts.Event)


def prompt_key(prompt: str) -> str:
    """What stands for a prompt in keys: prompts are the same when they are so to the last character."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Job:
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
class Change:
    """What a batch of events adds to a row. `beginning` is the value and the position of its first job.

    `standing` is what is so from now on: preferences won and lost, and the strength. None: as before.
    """

    jobs: int = 0
    distribution: list[int] = field(default_factory=lambda: [0] * len(scoring.SCORES))
    beginning: tuple[str, int] | None = None
    standing: tuple[int, int, float] | None = None


def facts_of(kind: type[EventT], events: Iterable[Recorded]) -> Iterator[tuple[Recorded, EventT]]:
    """The events of this class."""
    return ((recorded, recorded.event) for recorded in events if isinstance(recorded.event, kind))


def apply(cursor: Cursor[TupleRow], changes: Mapping[Subject, Change]) -> None:
    """Change the rows, and compute what follows from their counts."""
    if not changes:
        return
    found = cursor.execute(SQL["load_scores"], columns(changes, 3), prepare=True).fetchall()
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
    store(cursor, "store_scores", list(rows.values()))


def _new_row(subject: Subject, change: Change) -> Row:
    if change.beginning is None:
        raise LookupError("there is no row for a value that jobs have: the view is damaged; rebuild it")
    value, position = change.beginning
    distribution = [0] * len(scoring.SCORES)
    row: Row = dict(zip(("owner", "by", "key"), subject, strict=True))
    row |= {"value": value, "first_position": position, "jobs": 0, "distribution": distribution}
    return row | {"won": 0, "lost": 0, "strength": None}


def columns(keys: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys as one array for each of their parts."""
    return [[key[part] for key in keys] for part in range(width)]


def store(cursor: Cursor[TupleRow], statement: str, rows: Sequence[Row | Job]) -> None:
    """Give the rows to a statement; nothing happens without any."""
    if rows:
        cursor.execute(SQL[statement], (orjson.dumps(rows).decode(),), prepare=True)
