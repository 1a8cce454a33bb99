"""Read a stored recipe leniently: each part separately, with a list of the parts that cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from domain.recipes.recipe import PROMPT_CHARACTERS_MAX, ParamValue, Reference, Task

MEDIA_NAMES: Final = frozenset({"image", "video", "audio"})


@dataclass(slots=True)
class StoredRecipe:
    """The parts that could be read, None or empty otherwise; `unread` holds the paths of the others.

    `references` are keyed by their index in the recipe.
    """

    job_type: str | None = None
    model: str | None = None
    task: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    negative_prompt_by: str | None = None
    seeds: tuple[int, ...] = ()
    params: dict[str, ParamValue] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read_stored(request: Mapping[str, Any]) -> StoredRecipe:
    """Read the JSON of a `job.queued`. Never raises."""
    stored = StoredRecipe()
    recipe = request.get("recipe")
    if not isinstance(recipe, dict):
        stored.unread.append("recipe")
        return stored
    stored.job_type = _text(stored, recipe, "job_type")
    stored.model = _text(stored, recipe, "model")
    task = _text(stored, recipe, "task")
    if task in set(Task):
        stored.task = task
    elif task is not None:
        stored.unread.append("task")
    prompt = _text(stored, recipe, "prompt")
    if prompt is not None and prompt.strip():
        stored.prompt = prompt
    elif prompt is not None:
        stored.unread.append("prompt")
    if recipe.get("negative_prompt") is not None:
        stored.negative_prompt = _text(stored, recipe, "negative_prompt")
    by = request.get("negative_prompt_by")
    stored.negative_prompt_by = by if isinstance(by, str) else None
    _read_seeds(stored, recipe.get("seeds"))
    _read_params(stored, recipe.get("params"))
    _read_references(stored, recipe.get("references", []))
    _read_media(stored, recipe.get("media", {}))
    return stored


def _text(stored: StoredRecipe, recipe: Mapping[str, Any], name: str) -> str | None:
    value = recipe.get(name)
    if isinstance(value, str) and len(value) <= PROMPT_CHARACTERS_MAX and "\0" not in value:
        return value
    stored.unread.append(name)
    return None


def _read_seeds(stored: StoredRecipe, seeds: object) -> None:
    if isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds):
        stored.seeds = tuple(seeds)
    else:
        stored.unread.append("seeds")


def _read_params(stored: StoredRecipe, params: object) -> None:
    if not isinstance(params, dict):
        stored.unread.append("params")
        return
    for name, value in params.items():
        if isinstance(value, bool | int | float | str):
            stored.params[name] = value
        else:
            stored.unread.append(f"params.{name}")


def _read_references(stored: StoredRecipe, references: object) -> None:
    if not isinstance(references, list):
        stored.unread.append("references")
        return
    for place, each in enumerate(references):
        try:
            stored.references[place] = Reference.model_validate(each)
        except ValidationError:
            stored.unread.append(f"references.{place}")


def _read_media(stored: StoredRecipe, media: object) -> None:
    if not isinstance(media, dict):
        stored.unread.append("media")
        return
    for medium, source in media.items():
        if medium in MEDIA_NAMES and isinstance(source, str):
            stored.media[medium] = source
        else:
            stored.unread.append(f"media.{medium}")
