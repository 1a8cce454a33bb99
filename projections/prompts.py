"""Saved prompts in their current version: GET /v1/prompts. `scores` holds their usage."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from domain import events as facts
from domain.envelope import Recorded
from domain.wording.text import normalized_tags
from projections.projection import FoldedTable, FoldedView, Projection, Row, Rows
from projections.scores.rows import prompt_key
from projections.table import Table

PROMPT_TABLE: Final = Table(
    "prompts",
    key=("prompt_id",),
    others=(
        "owner",
        "title",
        "prompt",
        "prompt_sha256",
        "negative_prompt",
        "model",
        "job_type",
        "task",
        "tags",
        "created_at",
        "updated_at",
        "saved_position",
    ),
)


def touched(event: Recorded) -> Sequence[UUID]:
    """The prompt whose row an event changes."""
    return [event.stream_id] if event.name.startswith("prompt.") else []


def fold(rows: Rows, recorded: Recorded) -> None:
    """Change the row of a prompt; a deleted one leaves."""
    key, event, at = str(recorded.stream_id), recorded.event, recorded.envelope.at
    if isinstance(event, facts.PromptSaved):
        row: Row = {"prompt_id": key, "owner": event.owner, "created_at": at, "saved_position": recorded.position}
        rows[key] = row | _content(event) | {"updated_at": at}
    elif isinstance(event, facts.PromptDeleted):
        rows[key] = None
    elif isinstance(event, facts.PromptEdited):
        before = rows.get(key)
        if before is not None:
            before.update(_content(event), updated_at=at)


def _content(event: facts.PromptSaved | facts.PromptEdited) -> Row:
    return {
        "title": event.title,
        "prompt": event.prompt,
        "prompt_sha256": prompt_key(event.prompt),
        "negative_prompt": event.negative_prompt,
        "model": event.model,
        "job_type": event.job_type,
        "task": event.task,
        "tags": list(normalized_tags(event.tags)),
    }


PROMPTS: Final[Projection] = FoldedView(
    "prompts", (FoldedTable(PROMPT_TABLE, touched, fold),), kinds=("prompt",), version=2
)
