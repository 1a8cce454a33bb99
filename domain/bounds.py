"""What an event may hold at most. Every event is held against this before it is committed, whoever brings it.

The event classes themselves know no such bounds: an old ledger may hold more, and decodes for ever. What is too long in
an error is cut, for an error must never be lost; everything else that passes a bound is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, Final, TypeVar

from domain.errors import FieldProblem, InvalidInput
from domain.events import (
    AssetCompleted,
    AssetFailed,
    AssetReserved,
    AssetTagged,
    AssetThumbnailed,
    AssetTitled,
    BatchItemAdded,
    BatchOpened,
    BatchRenamed,
    EnhancementMade,
    ErrorContext,
    Event,
    Failure,
    JobFailed,
    JobHandedOver,
    JobMemoryLowered,
    JobPromptEnhanced,
    JobQueued,
    JobRequeued,
    JobStarted,
    MediaUploaded,
    PromptEdited,
    PromptSaved,
)
from domain.media import EXTENSIONS
from domain.recipe import PROMPT_CHARACTERS_MAX, Recipe

EVENT_BYTES_MAX: Final = 256 * 1024
"""Of an event as it is stored, with its envelope: a quarter of what NATS passes on by default. The longest prompts that
may be submitted come to 120 kB."""

NAME_CHARACTERS_MAX: Final = 300
"""Of what something is called: a model, a worker, a provider, a title, a tag, a path in the object store is five."""

PATH_CHARACTERS_MAX: Final = 1_500
VALUE_CHARACTERS_MAX: Final = 10_000
"""Of a text among a recipe's parameters."""

OUTPUTS_MAX: Final = 1_000
ENTRIES_MAX: Final = 200
"""Of a list or table in an event: tags, parameters, references, versions."""

MESSAGE_CHARACTERS_MAX: Final = 2_000
STACK_CHARACTERS_MAX: Final = 20_000
"""Of an error: its sentence, and the frames where it happened."""

NUMBER_MAX: Final = 2**53
"""Of a count, a size in bytes or a duration in milliseconds: what JSON carries exactly everywhere."""

PIXELS_MAX: Final = 1_000_000
"""Of a side."""

CUT: Final = "…"

EventT = TypeVar("EventT", bound=Event)
Problems = Iterator[FieldProblem]


def require_bounds(event: Event) -> None:
    """Raises `InvalidInput` with what passes a bound. The size of the whole is looked at where it is encoded."""
    rules = _RULES.get(type(event))
    if rules is not None and (problems := tuple(rules(event))):
        raise InvalidInput(problems)


def shortened(error: Failure) -> Failure:
    """The error with its long texts cut; the same one where nothing is too long."""
    context = error.context and _shortened_context(error.context)
    message = cut(error.message, MESSAGE_CHARACTERS_MAX)
    if (message, context) == (error.message, error.context):
        return error
    return error.model_copy(update={"message": message, "context": context})


def shortened_note(note: EventT) -> EventT:
    """The note with its error cut, where it has one."""
    if not isinstance(note, JobMemoryLowered):
        return note
    return note.model_copy(update={"error": cut(note.error, MESSAGE_CHARACTERS_MAX)})


def cut(text: str, characters_max: int) -> str:
    """The beginning of a text that is too long; without NUL, which Postgres keeps in no text."""
    text = text.replace("\0", "")
    return text if len(text) <= characters_max else text[: characters_max - len(CUT)] + CUT


def _shortened_context(context: ErrorContext) -> ErrorContext:
    cuts = {
        "exception": cut(context.exception, NAME_CHARACTERS_MAX),
        "stack": _cut_to_its_end(context.stack),
        "worker": cut(context.worker, NAME_CHARACTERS_MAX),
        "versions": {
            cut(name, NAME_CHARACTERS_MAX): cut(version, NAME_CHARACTERS_MAX)
            for name, version in list(context.versions.items())[:ENTRIES_MAX]
        },
    }
    unlike = {name: value for name, value in cuts.items() if value != getattr(context, name)}
    return context.model_copy(update=unlike) if unlike else context


def _cut_to_its_end(stack: str) -> str:
    """The innermost frames stand last, and say most."""
    stack = stack.replace("\0", "")
    return stack if len(stack) <= STACK_CHARACTERS_MAX else CUT + stack[len(CUT) - STACK_CHARACTERS_MAX :]


# One rule for each shape of value.


def _text(path: str, value: str | None, characters_max: int = NAME_CHARACTERS_MAX) -> Problems:
    if value is None:
        return
    if len(value) > characters_max:
        yield FieldProblem(path, f"must have at most {characters_max} characters, not {len(value)}")
    if "\0" in value:
        yield FieldProblem(path, "must not hold a NUL character")


def _prompt(path: str, value: str | None) -> Problems:
    return _text(path, value, PROMPT_CHARACTERS_MAX)


def _count(path: str, count: int, most: int = ENTRIES_MAX) -> Problems:
    if count > most:
        yield FieldProblem(path, f"must be at most {most}, not {count}")


def _number(path: str, value: float | None, most: float = NUMBER_MAX) -> Problems:
    if value is not None and not (isfinite(value) and abs(value) <= most):
        yield FieldProblem(path, f"must be a number up to {most}")


def _moment(path: str, value: datetime | None) -> Problems:
    if value is not None and value.tzinfo is None:
        yield FieldProblem(path, "must be a time with its offset from UTC")


def _texts(path: str, values: Iterable[str]) -> Problems:
    values = tuple(values)
    yield from _count(path, len(values))
    for value in values[:ENTRIES_MAX]:
        yield from _text(path, value)


def _table(path: str, values: Mapping[str, Any], characters_max: int = NAME_CHARACTERS_MAX) -> Problems:
    yield from _count(path, len(values))
    for name, value in list(values.items())[:ENTRIES_MAX]:
        yield from _text(path, name)
        if isinstance(value, str):
            yield from _text(f"{path}.{name[:NAME_CHARACTERS_MAX]}", value, characters_max)
        elif isinstance(value, int | float):
            yield from _number(f"{path}.{name[:NAME_CHARACTERS_MAX]}", value)


def _media_type(path: str, value: str) -> Problems:
    if value not in EXTENSIONS:
        yield FieldProblem(path, f"must be one of {', '.join(EXTENSIONS)}, not {value[:100]!r}")


# One rule for each event that holds what somebody sends.


def _recipe(recipe: Recipe) -> Problems:
    yield from _text("recipe.job_type", recipe.job_type)
    yield from _text("recipe.model", recipe.model)
    yield from _text("recipe.model_revision", recipe.model_revision)
    yield from _prompt("prompt", recipe.prompt)
    yield from _prompt("negative_prompt", recipe.negative_prompt)
    yield from _table("params", recipe.params, VALUE_CHARACTERS_MAX)
    yield from _count("quantity", recipe.quantity, OUTPUTS_MAX)
    yield from _number("seed", max(recipe.seeds))
    yield from _count("references", len(recipe.references))
    for reference in recipe.references[:ENTRIES_MAX]:
        yield from _text("references", reference.source)
    yield from _table("media", recipe.media)
    yield from _count("files", len(recipe.files))
    for source, file in list(recipe.files.items())[:ENTRIES_MAX]:
        yield from _text("files", source)
        yield from _text("files", file.path, PATH_CHARACTERS_MAX)
        yield from _media_type("files", file.media_type)


def _queued(event: JobQueued) -> Problems:
    yield from _text("owner", event.owner)
    yield from _text("pool", event.pool)
    yield from _recipe(event.recipe)
    yield from _texts("tags", event.tags)
    yield from _text("title", event.title)
    yield from _text("request_sha256", event.request_sha256)
    yield from _table("adjusted", event.adjusted, VALUE_CHARACTERS_MAX)
    yield from _text("negative_prompt_error", event.negative_prompt_error, MESSAGE_CHARACTERS_MAX)
    yield from _number("expected_s", event.expected_s)
    yield from _moment("deadline", event.deadline)


def _enhanced(event: JobPromptEnhanced | EnhancementMade) -> Problems:
    yield from _prompt("original", event.original)
    yield from _prompt("enhanced", event.enhanced)
    yield from _text("enhancer", event.enhancer, MESSAGE_CHARACTERS_MAX)


def _made_richer(event: EnhancementMade) -> Problems:
    yield from _text("job_type", event.job_type)
    yield from _enhanced(event)


def _lowered(event: JobMemoryLowered) -> Problems:
    yield from _text("profile", event.profile)
    yield from _text("error", event.error, MESSAGE_CHARACTERS_MAX)


def _handed_over(event: JobHandedOver) -> Problems:
    yield from _text("provider", event.provider)
    yield from _text("provider_id", event.provider_id)
    yield from _number("index", event.index)


def _failure(path: str, error: Failure | None) -> Problems:
    if error is None:
        return
    yield from _text(f"{path}.message", error.message, MESSAGE_CHARACTERS_MAX)
    if context := error.context:
        yield from _text(f"{path}.context.exception", context.exception)
        yield from _text(f"{path}.context.stack", context.stack, STACK_CHARACTERS_MAX)
        yield from _text(f"{path}.context.worker", context.worker)
        yield from _table(f"{path}.context.versions", context.versions)


def _requeued(event: JobRequeued) -> Problems:
    yield from _moment("not_before", event.not_before)
    yield from _failure("error", event.error)


def _reserved(event: AssetReserved) -> Problems:
    yield from _text("bucket", event.bucket)
    yield from _text("path", event.path, PATH_CHARACTERS_MAX)
    yield from _text("title", event.title)
    yield from _number("seed", event.seed)


def _measured(event: AssetCompleted | MediaUploaded) -> Problems:
    yield from _media_type("media_type", event.media_type)
    yield from _number("bytes", event.bytes)
    yield from _number("width", event.width, PIXELS_MAX)
    yield from _number("height", event.height, PIXELS_MAX)
    yield from _number("frames", event.frames)
    yield from _number("fps", event.fps)


def _completed(event: AssetCompleted) -> Problems:
    yield from _measured(event)
    yield from _number("render_ms", event.render_ms)
    yield from _number("store_ms", event.store_ms)
    yield from _number("peak_memory_bytes", event.peak_memory_bytes)
    yield from _table("worker_versions", event.worker_versions)


def _uploaded(event: MediaUploaded) -> Problems:
    yield from _measured(event)
    yield from _number("duration_s", event.duration_s)
    yield from _text("path", event.path, PATH_CHARACTERS_MAX)


def _thumbnailed(event: AssetThumbnailed) -> Problems:
    yield from _number("bytes", event.bytes)
    yield from _number("width", event.width, PIXELS_MAX)
    yield from _number("height", event.height, PIXELS_MAX)
    yield from _text("path", event.path, PATH_CHARACTERS_MAX)


def _item(event: BatchItemAdded) -> Problems:
    yield from _text("template", event.template)
    if problem := event.problem:
        yield from _text("problem.code", problem.code)
        yield from _text("problem.detail", problem.detail, VALUE_CHARACTERS_MAX)
        yield from _count("problem.problems", len(problem.problems))


def _opened(event: BatchOpened) -> Problems:
    yield from _text("name", event.name)
    yield from _text("collection", event.collection)
    yield from _text("base", event.base)
    yield from _prompt("prompt", event.prompt)
    yield from _number("seed", event.seed)


def _saved(event: PromptSaved | PromptEdited) -> Problems:
    yield from _text("title", event.title)
    yield from _prompt("prompt", event.prompt)
    yield from _prompt("negative_prompt", event.negative_prompt)
    yield from _text("model", event.model)
    yield from _text("job_type", event.job_type)
    yield from _texts("tags", event.tags)


_RULES: Final[Mapping[type[Event], Callable[[Any], Problems]]] = {
    JobQueued: _queued,
    JobStarted: lambda event: _text("worker", event.worker),
    JobPromptEnhanced: _enhanced,
    JobMemoryLowered: _lowered,
    JobHandedOver: _handed_over,
    JobRequeued: _requeued,
    JobFailed: lambda event: _failure("error", event.error),
    AssetReserved: _reserved,
    AssetCompleted: _completed,
    AssetFailed: lambda event: _failure("error", event.error),
    AssetThumbnailed: _thumbnailed,
    AssetTitled: lambda event: _text("title", event.title),
    AssetTagged: lambda event: _texts("tags", event.tags),
    MediaUploaded: _uploaded,
    BatchOpened: _opened,
    BatchItemAdded: _item,
    BatchRenamed: lambda event: _text("name", event.name),
    PromptSaved: _saved,
    PromptEdited: _saved,
    EnhancementMade: _made_richer,
}
