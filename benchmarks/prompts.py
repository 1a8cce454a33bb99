"""Saved prompts on both sides, and the library's projection of them: the rows of our view `prompts`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate, event

from benchmarks.histories import JOBS, OWNER, Fact, Waves, commit_of
from benchmarks.library_app import Jobs
from benchmarks.library_projection import Statement, Writer
from domain.events import PromptDeleted, PromptEdited, PromptSaved
from domain.recipes.recipe import Task
from projections.scores.rows import prompt_key
from services.ledger.commits import Commit

SAVED: Final = 100
DELETED: Final = 20
"""Of as many that were saved and then edited, all in one wave."""


def _content(number: int, again: str = "") -> dict[str, Any]:
    return {
        "title": f"Lighthouse {number}{again}",
        "prompt": f"a lighthouse on cliff {number} at dusk, warm light, detailed{again}",
        "negative_prompt": "blurry, low quality, watermark, text",
        "model": "sdxl-demo",
        "job_type": "sdxl_image_fast",
        "task": Task.TEXT_TO_IMAGE,
        "tags": ("dusk", "sea"),
    }


def _prompt_id(title: str) -> UUID:
    return uuid5(JOBS, title)


def _wave(first: int) -> Iterator[Commit]:
    numbers = range(first, first + SAVED)
    ids = {number: _prompt_id(_content(number)["title"]) for number in numbers}
    saved: list[Fact] = [
        (ids[number], ids[number], 1, PromptSaved(owner=OWNER, **_content(number))) for number in numbers
    ]
    edited: list[Fact] = [
        (ids[number], ids[number], 2, PromptEdited(**_content(number, " again"))) for number in numbers
    ]
    deleted: list[Fact] = [(ids[number], ids[number], 3, PromptDeleted()) for number in numbers[:DELETED]]
    for facts in (saved, edited, deleted):
        yield commit_of(facts)


class Prompt(Aggregate):
    """A prompt worth keeping."""

    @staticmethod
    def create_id(content: dict[str, Any]) -> UUID:
        """As ours."""
        return _prompt_id(content["title"])

    @event("Saved")
    def __init__(self, owner: str, content: dict[str, Any]) -> None:
        self.owner = owner
        self.content = content

    @event("Edited")
    def edit(self, content: dict[str, Any]) -> None:
        """All of it, as it is from now on."""
        self.content = content

    @event("Deleted")
    def delete(self) -> None:
        """Kept no longer."""


def _library_wave(app: Jobs, first: int) -> None:
    prompts = [Prompt(OWNER, _plain(_content(number))) for number in range(first, first + SAVED)]
    app.save(*prompts)
    for number, prompt in enumerate(prompts, first):
        prompt.edit(_plain(_content(number, " again")))
    app.save(*prompts)
    for prompt in prompts[:DELETED]:
        prompt.delete()
    app.save(*prompts[:DELETED])


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "task": str(content["task"]), "tags": list(content["tags"])}


WAVES: Final = Waves(2 * SAVED + DELETED, _wave)
LIBRARY_WAVE: Final = _library_wave

_COLUMNS: Final = ("title", "prompt", "prompt_sha256", "negative_prompt", "model", "job_type", "task", "tags")


def _values(content: Mapping[str, Any]) -> list[Any]:
    row = {**content, "prompt_sha256": prompt_key(content["prompt"])}
    return [row[name] for name in _COLUMNS]


def _save(event: Any, position: int) -> Iterable[Statement]:
    yield (
        "insert into views.prompts (prompt_id, owner, created_at, updated_at, saved_position, title, prompt,"
        " prompt_sha256, negative_prompt, model, job_type, task, tags)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (event.originator_id, event.owner, event.timestamp, event.timestamp, position, *_values(event.content)),
    )


def _edit(event: Any, _: int) -> Iterable[Statement]:
    yield (
        "update views.prompts set updated_at = %s, title = %s, prompt = %s, prompt_sha256 = %s, negative_prompt = %s,"
        " model = %s, job_type = %s, task = %s, tags = %s where prompt_id = %s",
        (event.timestamp, *_values(event.content), event.originator_id),
    )


def _delete(event: Any, _: int) -> Iterable[Statement]:
    yield "delete from views.prompts where prompt_id = %s", (event.originator_id,)


_P: Any = Prompt
WRITERS: Final[Mapping[type[Any], Writer]] = {_P.Saved: _save, _P.Edited: _edit, _P.Deleted: _delete}
