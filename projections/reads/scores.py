"""Typed queries over `scores` and `prompts`. Each takes a connection and runs in one round trip."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from projections.reads.search import searching, web_search
from projections.scores.rows import By, prompt_key
from projections.sql import column_list, load, names_of


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of `views.scores`. `distribution` counts the ratings from 1 to 5, `first_position` is of its first job."""

    by: By
    key: str
    value: str
    first_position: int
    jobs: int
    rated: int
    distribution: list[int]
    mean: float | None
    score: float
    won: int
    lost: int
    strength: float | None
    formula: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Usage of a prompt: the owner's jobs with it, the mean of their assets' ratings, and their Bayesian average.

    The Bayesian average is null until there is a job.
    """

    usage_count: int = 0
    mean_score: float | None = None
    score: float | None = None


@dataclass(slots=True, kw_only=True)
class PromptRow:
    """A row of `views.prompts`, with the usage of its prompt."""

    prompt_id: UUID
    title: str
    prompt: str
    negative_prompt: str | None
    model: str
    job_type: str | None
    task: str
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    saved_position: int = 0
    usage_count: int = 0
    mean_score: float | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        self.created_at = self.created_at.astimezone(UTC)
        self.updated_at = self.updated_at.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class PromptFilter:
    """Filters of a list of prompts; None matches everything. `words` is a web search query."""

    prompt_id: UUID | None = None
    task: str | None = None
    tag: str | None = None
    words: str | None = None


SQL: Final = load("scores.sql", "projections.reads", score=column_list(names_of(ScoreRow)))

ScorePlace = tuple[float, int, int]
"""Score, number of ratings and first position of a row: the list is sorted by these, descending."""


def list_scores(
    connection: Connection[TupleRow], owner: str, by: By, *, after: ScorePlace | None, limit: int
) -> list[ScoreRow]:
    """Scores, best first; equal scores by number of ratings, then by the newer first job."""
    score, rated, position = after or (None, None, None)
    arguments = {"owner": owner, "by": by, "score": score, "rated": rated, "position": position, "limit": limit}
    with connection.cursor(row_factory=class_row(ScoreRow)) as cursor:
        return cursor.execute(SQL["list_scores"], arguments).fetchall()


def standing_of(connection: Connection[TupleRow], owner: str, prompt: str) -> Standing:
    """The owner's usage of this prompt, saved or not."""
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        cursor.execute(SQL["standing"], {"owner": owner, "key": prompt_key(prompt)})
        return cursor.fetchone() or Standing()


def list_prompts(
    connection: Connection[TupleRow], owner: str, wanted: PromptFilter, *, before: int | None = None, limit: int = 1
) -> list[PromptRow]:
    """Prompts saved before position `before`, newest first. Raises `InvalidInput` for a search without a word."""
    arguments = {
        "owner": owner,
        "prompt_id": wanted.prompt_id,
        "task": wanted.task,
        "tag": wanted.tag,
        "words": None if wanted.words is None else web_search(wanted.words),
        "before": before,
        "limit": limit,
    }
    with searching(), connection.cursor(row_factory=class_row(PromptRow)) as cursor:
        return cursor.execute(SQL["list_prompts"], arguments).fetchall()
