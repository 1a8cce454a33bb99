"""The rows of `scores` and the changes to them; shared by ratings and preferences."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, LiteralString, TypeVar
from uuid import UUID

import orjson
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain import events as facts
from domain.envelope import Recorded
from domain.policies import scoring
from projections.projection import Row
from projections.sql import assignments, column_list, load, names_of
from projections.table import Table

By = Literal["prompt", "model", "job_type"]
Subject = tuple[str, str, str]
"""Key of a row of `scores`: owner, kind of key, key."""

EventT = TypeVar("EventT", bound=facts.Event)


def prompt_key(prompt: str) -> str:
    """The key of a prompt. Prompts are equal only if every character is."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ScoredJob:
    """A job as far as ratings of its assets need it: a row of `score_jobs`."""

    job_id: UUID
    owner: str
    batch_id: UUID | None
    quantity: int
    prompt_sha256: str
    model: str
    job_type: str

    def subjects(self) -> list[Subject]:
        """Keys of the rows it counts for, in the order prompt, model, job type."""
        keys: tuple[tuple[By, str], ...] = (
            ("prompt", self.prompt_sha256),
            ("model", self.model),
            ("job_type", self.job_type),
        )
        return [(self.owner, by, key) for by, key in keys]


SCORE_JOB_TABLE: Final = Table(
    "score_jobs",
    key=("job_id",),
    others=tuple(name for name in names_of(ScoredJob) if name != "job_id"),
)
SCORE_RATING_TABLE: Final = Table("score_ratings", key=("asset_id",), others=("owner", "score"))
SCORE_PREFERENCE_TABLE: Final = Table("score_preferences", key=("one", "other"), others=("owner", "winner"))
SCORE_WIN_TABLE: Final = Table("score_wins", key=("owner", "by", "winner", "loser"), others=("wins",))

COUNTED: Final = (
    "first_position",
    "jobs",
    "rated",
    "distribution",
    "mean",
    "score",
    "won",
    "lost",
    "strength",
    "formula",
)
"""Columns of `scores` that change; the others are those of a new row."""

SCORE_TABLE: Final = Table("scores", key=("owner", "by", "key"), others=("value", *COUNTED))

SQL = load(
    "scores.sql",
    "projections.scores",
    jobs=column_list(SCORE_JOB_TABLE.columns),
    scores=column_list(SCORE_TABLE.columns),
    counted=assignments(COUNTED, "excluded"),
)


@dataclass(slots=True)
class Change:
    """Changes to a row by a batch of events. `beginning` is the value and the position of its first job.

    `standing` holds the new numbers of preferences won and lost, and the strength. None: unchanged.
    """

    jobs: int = 0
    distribution: list[int] = field(default_factory=lambda: [0] * len(scoring.SCORES))
    beginning: tuple[str, int] | None = None
    standing: tuple[int, int, float] | None = None


def facts_of(kind: type[EventT], events: Iterable[Recorded]) -> Iterator[tuple[Recorded, EventT]]:
    """The events of this class."""
    return ((recorded, recorded.event) for recorded in events if isinstance(recorded.event, kind))


def apply(cursor: Cursor[TupleRow], changes: Mapping[Subject, Change]) -> None:
    """Change the rows and recompute the figures derived from their counts."""
    if not changes:
        return
    found = cursor.execute(SQL["load_scores"], columns(changes, 3), prepare=True).fetchall()
    rows: dict[Subject, Row] = {(owner, by, key): orjson.loads(row) for owner, by, key, row in found}
    for subject, change in changes.items():
        row = rows.get(subject) or _new_row(subject, change)
        rows[subject] = row
        if change.beginning is not None:  # a parked job may come after later ones
            row["first_position"] = min(row["first_position"], change.beginning[1])
        row["jobs"] += change.jobs
        row["distribution"] = [a + b for a, b in zip(row["distribution"], change.distribution, strict=True)]
        if change.standing is not None:
            row["won"], row["lost"], row["strength"] = change.standing
        row["rated"] = scoring.rated(row["distribution"])
        row["mean"] = scoring.mean(row["distribution"])
        row["score"] = scoring.bayesian_average(row["distribution"])
        row["formula"] = scoring.FORMULA
    store(cursor, SQL["store_scores"], list(rows.values()))


def _new_row(subject: Subject, change: Change) -> Row:
    if change.beginning is None:
        raise LookupError("there is no row for a value that jobs have: the view is damaged; rebuild it")
    value, position = change.beginning
    distribution = [0] * len(scoring.SCORES)
    row: Row = dict(zip(("owner", "by", "key"), subject, strict=True))
    row |= {"value": value, "first_position": position, "jobs": 0, "distribution": distribution}
    return row | {"won": 0, "lost": 0, "strength": None}


def columns(keys: Collection[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Keys as one array per part."""
    return [[key[part] for key in keys] for part in range(width)]


def store(cursor: Cursor[TupleRow], statement: LiteralString, rows: Sequence[Row | ScoredJob]) -> None:
    """Pass the rows to a statement, if there are any."""
    if rows:
        cursor.execute(statement, (orjson.dumps(rows).decode(),), prepare=True)
