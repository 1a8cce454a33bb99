"""Limits on the content of events. Every event is checked against them before it is committed, from any source.

The event classes have no such limits: an old ledger may hold longer values and must still decode. Long texts in an
error are shortened, because an error must never be lost; any other value over a limit is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeVar

from domain.aggregates.media import EXTENSIONS, kind_of, unfit_type
from domain.errors import FieldProblem, InvalidInput
from domain.events import (
    WARNING_CHARACTERS_MAX,
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
    JobWarned,
    MediaUploaded,
    PromptEdited,
    PromptSaved,
    UserKeyAdded,
    UserKeyRevoked,
)
from domain.recipes.recipe import PROMPT_CHARACTERS_MAX, Recipe

EVENT_BYTES_MAX: Final = 256 * 1024
"""Maximum bytes of a stored event with its envelope: a quarter of NATS's default message limit. The longest prompts
that may be submitted take 120 kB."""

NAME_CHARACTERS_MAX: Final = 300
"""Maximum characters of a name: a model, worker, provider, title or tag. A path in the object store may be five
times as long."""

PATH_CHARACTERS_MAX: Final = 1_500
VALUE_CHARACTERS_MAX: Final = 10_000
"""Maximum characters of a text parameter of a recipe."""

OUTPUTS_MAX: Final = 1_000
TAGS_MAX: Final = 20
"""Maximum number of tags that an owner can set. A list in an event may have more: `ENTRIES_MAX`."""

ENTRIES_MAX: Final = 200
"""Maximum entries of a list or table in an event: tags, parameters, references, versions."""

MESSAGE_CHARACTERS_MAX: Final = 2_000
STACK_CHARACTERS_MAX: Final = 20_000
"""Maximum characters of an error's message, and of its stack."""

NUMBER_MAX: Final = 2**53
"""Maximum of a count, a size in bytes or a duration in milliseconds: JSON carries integers up to this one exactly."""

PIXELS_MAX: Final = 1_000_000
"""Maximum width or height, in pixels."""

CUT: Final = "…"

EventT = TypeVar("EventT", bound=Event)
Problems = list[FieldProblem]
"""Problems found so far. A list and not a generator, because these rules run for every event that is written."""


def require_bounds(event: Event) -> None:
    """Raise `InvalidInput` listing the values over a limit. The total size is checked when the event is encoded."""
    rules = _RULES.get(type(event))
    if rules is None:
        return
    problems: Problems = []
    rules(problems, event)
    if problems:
        raise InvalidInput(problems)


def shortened(error: Failure) -> Failure:
    """The error with its long texts shortened; the same object if nothing is too long."""
    context = error.context and _shortened_context(error.context)
    message = cut(error.message, MESSAGE_CHARACTERS_MAX)
    if (message, context) == (error.message, error.context):
        return error
    return error.model_copy(update={"message": message, "context": context})


def shortened_note(note: EventT) -> EventT:
    """The note with its error or warning shortened, if it has one."""
    if isinstance(note, JobWarned):
        return note.model_copy(update={"detail": cut(note.detail, WARNING_CHARACTERS_MAX)})
    if not isinstance(note, JobMemoryLowered):
        return note
    return note.model_copy(update={"error": cut(note.error, MESSAGE_CHARACTERS_MAX)})


def cut(text: str, characters_max: int) -> str:
    """The first characters of a text that is too long, without NUL, which Postgres cannot store in text."""
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
    """The end of the stack: the innermost frames come last and are the most useful."""
    stack = stack.replace("\0", "")
    return stack if len(stack) <= STACK_CHARACTERS_MAX else CUT + stack[len(CUT) - STACK_CHARACTERS_MAX :]


# One rule for each shape of value.


def _text(problems: Problems, path: str, value: str | None, characters_max: int = NAME_CHARACTERS_MAX) -> None:
    if value is None or (len(value) <= characters_max and "\0" not in value):
        return
    if len(value) > characters_max:
        problems.append(FieldProblem(path, f"must have at most {characters_max} characters, not {len(value)}"))
    if "\0" in value:
        problems.append(FieldProblem(path, "must not hold a NUL character"))


def _prompt(problems: Problems, path: str, value: str | None) -> None:
    _text(problems, path, value, PROMPT_CHARACTERS_MAX)


def _count(problems: Problems, path: str, count: int, most: int = ENTRIES_MAX) -> None:
    if count > most:
        problems.append(FieldProblem(path, f"must be at most {most}, not {count}"))


def _number(problems: Problems, path: str, value: float | None, most: float = NUMBER_MAX) -> None:
    if value is not None and not abs(value) <= most:  # also catches NaN
        problems.append(FieldProblem(path, f"must be a number up to {most}"))


def _moment(problems: Problems, path: str, value: datetime | None) -> None:
    if value is not None and value.tzinfo is None:
        problems.append(FieldProblem(path, "must be a time with its offset from UTC"))


def _texts(problems: Problems, path: str, values: Sequence[str]) -> None:
    if not values:
        return
    _count(problems, path, len(values))
    for value in values[:ENTRIES_MAX]:
        _text(problems, path, value)


def _table(problems: Problems, path: str, values: Mapping[str, Any], characters_max: int = NAME_CHARACTERS_MAX) -> None:
    if not values:
        return
    _count(problems, path, len(values))
    for name, value in islice(values.items(), ENTRIES_MAX):
        _text(problems, path, name)
        if isinstance(value, str):
            _text(problems, path, value, characters_max)
        else:
            _number(problems, path, value)


def _media_type(problems: Problems, path: str, value: str) -> None:
    if value not in EXTENSIONS:
        problems.append(FieldProblem(path, f"must be one of {', '.join(EXTENSIONS)}, not {value[:100]!r}"))


def _media_type_of(problems: Problems, path: str, value: str, kind: str) -> None:
    """Check for a media type of this kind."""
    _media_type(problems, path, value)
    if value in EXTENSIONS and kind_of(value) != kind:
        problems.append(FieldProblem(path, unfit_type(value, kind)))


# One rule for each event that holds text or numbers from a client.


def _recipe(problems: Problems, recipe: Recipe) -> None:
    _text(problems, "recipe.job_type", recipe.job_type)
    _text(problems, "recipe.model", recipe.model)
    _text(problems, "recipe.model_revision", recipe.model_revision)
    _prompt(problems, "prompt", recipe.prompt)
    _prompt(problems, "negative_prompt", recipe.negative_prompt)
    _table(problems, "params", recipe.params, VALUE_CHARACTERS_MAX)
    _count(problems, "quantity", recipe.quantity, OUTPUTS_MAX)
    _number(problems, "seed", max(recipe.seeds))
    _count(problems, "references", len(recipe.references))
    for reference in recipe.references[:ENTRIES_MAX]:
        _text(problems, "references", reference.source)
    _table(problems, "media", recipe.media)
    _count(problems, "files", len(recipe.files))
    for source, file in list(recipe.files.items())[:ENTRIES_MAX]:
        _text(problems, "files", source)
        _text(problems, "files", file.path, PATH_CHARACTERS_MAX)
        _media_type_of(problems, "files", file.media_type, file.kind)


def _queued(problems: Problems, event: JobQueued) -> None:
    _text(problems, "owner", event.owner)
    _text(problems, "pool", event.pool)
    _recipe(problems, event.recipe)
    _texts(problems, "tags", event.tags)
    _text(problems, "title", event.title)
    _text(problems, "request_sha256", event.request_sha256)
    _table(problems, "adjusted", event.adjusted, VALUE_CHARACTERS_MAX)
    _text(problems, "negative_prompt_error", event.negative_prompt_error, MESSAGE_CHARACTERS_MAX)
    _number(problems, "expected_s", event.expected_s)
    _moment(problems, "deadline", event.deadline)


def _enhanced(problems: Problems, event: JobPromptEnhanced | EnhancementMade) -> None:
    _prompt(problems, "original", event.original)
    _prompt(problems, "enhanced", event.enhanced)
    _text(problems, "enhancer", event.enhancer, MESSAGE_CHARACTERS_MAX)


def _made_richer(problems: Problems, event: EnhancementMade) -> None:
    _text(problems, "owner", event.owner)
    _text(problems, "job_type", event.job_type)
    _enhanced(problems, event)


def _lowered(problems: Problems, event: JobMemoryLowered) -> None:
    _text(problems, "profile", event.profile)
    _text(problems, "error", event.error, MESSAGE_CHARACTERS_MAX)


def _handed_over(problems: Problems, event: JobHandedOver) -> None:
    _text(problems, "provider", event.provider)
    _text(problems, "provider_id", event.provider_id)
    _number(problems, "index", event.index)


def _failure(problems: Problems, path: str, error: Failure | None) -> None:
    if error is None:
        return
    _text(problems, f"{path}.message", error.message, MESSAGE_CHARACTERS_MAX)
    if context := error.context:
        _text(problems, f"{path}.context.exception", context.exception)
        _text(problems, f"{path}.context.stack", context.stack, STACK_CHARACTERS_MAX)
        _text(problems, f"{path}.context.worker", context.worker)
        _table(problems, f"{path}.context.versions", context.versions)


def _requeued(problems: Problems, event: JobRequeued) -> None:
    _moment(problems, "not_before", event.not_before)
    _failure(problems, "error", event.error)


def _reserved(problems: Problems, event: AssetReserved) -> None:
    _text(problems, "owner", event.owner)
    _text(problems, "bucket", event.bucket)
    _text(problems, "path", event.path, PATH_CHARACTERS_MAX)
    _text(problems, "title", event.title)
    _texts(problems, "tags", event.tags)
    _number(problems, "seed", event.seed)


def _measured(problems: Problems, event: AssetCompleted | MediaUploaded) -> None:
    _number(problems, "bytes", event.bytes)
    _number(problems, "width", event.width, PIXELS_MAX)
    _number(problems, "height", event.height, PIXELS_MAX)
    _number(problems, "frames", event.frames)
    _number(problems, "fps", event.fps)


def _completed(problems: Problems, event: AssetCompleted) -> None:
    _media_type(problems, "media_type", event.media_type)  # only its reservation knows the kind
    _measured(problems, event)
    _number(problems, "render_ms", event.render_ms)
    _number(problems, "store_ms", event.store_ms)
    _number(problems, "peak_memory_bytes", event.peak_memory_bytes)
    _table(problems, "worker_versions", event.worker_versions)


def _uploaded(problems: Problems, event: MediaUploaded) -> None:
    _media_type_of(problems, "media_type", event.media_type, event.kind)
    _measured(problems, event)
    _text(problems, "owner", event.owner)
    _number(problems, "duration_s", event.duration_s)
    _text(problems, "path", event.path, PATH_CHARACTERS_MAX)


def _thumbnailed(problems: Problems, event: AssetThumbnailed) -> None:
    _number(problems, "bytes", event.bytes)
    _number(problems, "width", event.width, PIXELS_MAX)
    _number(problems, "height", event.height, PIXELS_MAX)
    _text(problems, "path", event.path, PATH_CHARACTERS_MAX)


def _item(problems: Problems, event: BatchItemAdded) -> None:
    _text(problems, "template", event.template)
    if problem := event.problem:
        _text(problems, "problem.code", problem.code)
        _text(problems, "problem.detail", problem.detail, VALUE_CHARACTERS_MAX)
        _count(problems, "problem.problems", len(problem.problems))
        for path, detail in problem.problems[:ENTRIES_MAX]:
            _text(problems, "problem.problems", path, VALUE_CHARACTERS_MAX)
            _text(problems, "problem.problems", detail, VALUE_CHARACTERS_MAX)


def _opened(problems: Problems, event: BatchOpened) -> None:
    _text(problems, "owner", event.owner)
    _text(problems, "request_sha256", event.request_sha256)
    _text(problems, "name", event.name)
    _text(problems, "collection", event.collection)
    _text(problems, "base", event.base)
    _prompt(problems, "prompt", event.prompt)
    _number(problems, "seed", event.seed)


def _saved(problems: Problems, event: PromptSaved | PromptEdited) -> None:
    if isinstance(event, PromptSaved):
        _text(problems, "owner", event.owner)
    _text(problems, "title", event.title)
    _prompt(problems, "prompt", event.prompt)
    _prompt(problems, "negative_prompt", event.negative_prompt)
    _text(problems, "model", event.model)
    _text(problems, "job_type", event.job_type)
    _texts(problems, "tags", event.tags)


_RULES: Final[Mapping[type[Event], Callable[[Problems, Any], None]]] = {
    JobQueued: _queued,
    JobStarted: lambda problems, event: _text(problems, "worker", event.worker),
    JobPromptEnhanced: _enhanced,
    JobMemoryLowered: _lowered,
    JobHandedOver: _handed_over,
    JobWarned: lambda problems, event: _text(problems, "detail", event.detail, WARNING_CHARACTERS_MAX),
    JobRequeued: _requeued,
    JobFailed: lambda problems, event: _failure(problems, "error", event.error),
    AssetReserved: _reserved,
    AssetCompleted: _completed,
    AssetFailed: lambda problems, event: _failure(problems, "error", event.error),
    AssetThumbnailed: _thumbnailed,
    AssetTitled: lambda problems, event: _text(problems, "title", event.title),
    AssetTagged: lambda problems, event: _texts(problems, "tags", event.tags),
    MediaUploaded: _uploaded,
    BatchOpened: _opened,
    BatchItemAdded: _item,
    BatchRenamed: lambda problems, event: _text(problems, "name", event.name),
    PromptSaved: _saved,
    PromptEdited: _saved,
    EnhancementMade: _made_richer,
    UserKeyAdded: lambda problems, event: _text(problems, "name", event.name),
    UserKeyRevoked: lambda problems, event: _text(problems, "name", event.name),
}
