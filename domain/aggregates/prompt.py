"""A saved prompt with a title and tags, for a model or a job type; its task follows from these."""

from dataclasses import dataclass
from typing import Final, assert_never
from uuid import UUID

from domain.commands import DeletePrompt, EditPrompt, PromptCommand, SavePrompt
from domain.errors import IdempotencyKeyReused, NotFound
from domain.events import PromptDeleted, PromptEdited, PromptEvent, PromptSaved
from domain.owned_ids import owned_id

OWNERS: Final = UUID("c2b4a7de-9a30-4f6e-8f41-5b7d0e6a1c94")
"""UUID namespace for prompt ids made from an Idempotency-Key, one sub-namespace per owner. It never changes, and it
differs from the one for jobs: the same key may name a job and a prompt."""


@dataclass(frozen=True, slots=True)
class UnknownPrompt:
    """No prompt was saved under this id."""


@dataclass(frozen=True, slots=True)
class Saved:
    """`saved` is the original version, `content` the current one."""

    saved: PromptSaved
    content: PromptEdited


@dataclass(frozen=True, slots=True)
class DeletedPrompt:
    """The owner deleted the prompt."""

    saved: PromptSaved


Prompt = UnknownPrompt | Saved | DeletedPrompt


def decide(command: PromptCommand, prompt: Prompt) -> list[PromptEvent]:
    """Apply a command to a saved prompt. A repeated command returns nothing."""
    match command:
        case SavePrompt():
            return _save(command, prompt)
        case EditPrompt():
            if not isinstance(prompt, Saved):
                raise NotFound("prompt", "under this id")
            edited = _edited(command, prompt.content)
            return [] if edited == prompt.content else [edited]
        case DeletePrompt():
            if isinstance(prompt, UnknownPrompt):
                raise NotFound("prompt", "under this id")
            return [PromptDeleted()] if isinstance(prompt, Saved) else []
        case _:
            assert_never(command)


def evolve(prompt: Prompt, event: PromptEvent) -> Prompt:
    """Apply one event. Total, and without rules: history has already happened."""
    match event:
        case PromptSaved():
            return Saved(event, PromptEdited(**event.model_dump(exclude={"owner"})))
        case PromptEdited():
            return Saved(prompt.saved, event) if isinstance(prompt, Saved) else prompt
        case PromptDeleted():
            return DeletedPrompt(prompt.saved) if isinstance(prompt, Saved) else prompt
        case _:
            assert_never(event)


def owner_of(prompt: Prompt) -> str | None:
    """The owner of the prompt; None for an id that was never saved."""
    return None if isinstance(prompt, UnknownPrompt) else prompt.saved.owner


def prompt_id(owner: str, key: str) -> UUID:
    """The id of the prompt that an owner saves under an Idempotency-Key."""
    return owned_id(OWNERS, owner, key)


def _save(command: SavePrompt, prompt: Prompt) -> list[PromptEvent]:
    saved = PromptSaved(
        owner=command.owner,
        title=command.title,
        prompt=command.prompt,
        negative_prompt=command.negative_prompt or None,
        model=command.model,
        job_type=command.job_type,
        task=command.task,
        tags=_sorted(command.tags),
    )
    if isinstance(prompt, UnknownPrompt):
        return [saved]
    if _asked(saved) != _asked(prompt.saved):
        raise IdempotencyKeyReused
    return []


def _asked(saved: PromptSaved) -> tuple[object, ...]:
    """The fields that the owner gave, without those derived from the catalog at that time."""
    of = saved.model if saved.job_type is None else saved.job_type
    return saved.title, saved.prompt, saved.negative_prompt, saved.job_type, of, saved.tags


def _edited(command: EditPrompt, content: PromptEdited) -> PromptEdited:
    kept = (content.model, content.job_type, content.task)
    if command.model is not None and command.task is not None:
        kept = (command.model, command.job_type, command.task)
    model, job_type, task = kept
    negative = content.negative_prompt if command.negative_prompt is None else command.negative_prompt or None
    return PromptEdited(
        title=content.title if command.title is None else command.title,
        prompt=content.prompt if command.prompt is None else command.prompt,
        negative_prompt=negative,
        model=model,
        job_type=job_type,
        task=task,
        tags=content.tags if command.tags is None else _sorted(command.tags),
    )


def _sorted(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))
