"""Models, job types and their parameters. The catalog is data (`catalog.toml`); this module checks and applies it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from domain.errors import FieldProblem, InvalidInput
from domain.recipes.params import Entry, Finite, Name, Param, Value, Whole, in_order
from domain.recipes.recipe import Kind, ParamValue, Task

ReferenceType = Literal["style", "composition", "character"]
MediaName = Literal["image", "video", "audio"]

REFERENCES_MAX: Final = 4
"""Maximum number of references of a job; more of them only blur each other."""

KIND_OF: Final[Mapping[Task, Kind]] = {
    Task.TEXT_TO_IMAGE: Kind.IMAGE,
    Task.IMAGE_TO_IMAGE: Kind.IMAGE,
    Task.MULTI: Kind.IMAGE,
    Task.TEXT_TO_VIDEO: Kind.VIDEO,
    Task.IMAGE_TO_VIDEO: Kind.VIDEO,
    Task.EXTEND: Kind.VIDEO,
}
MEDIA_OF: Final[Mapping[Task, MediaName]] = {Task.IMAGE_TO_VIDEO: "image", Task.EXTEND: "video"}
"""The medium that each task starts from."""

FIELDS: Final = frozenset(
    {"job_type", "model", "task", "prompt", "negative_prompt", "quantity", "seed", "params", "references", "media"}
)
"""Fields of a submission other than `params`. A parameter with such a name would make a job's inputs ambiguous."""

ONLY_WITH_PICTURE: Final = "only with a picture: a reference, or media.image"

EXTENSION_OF: Final = {Kind.IMAGE: "png", Kind.VIDEO: "mp4"}


class EntryProblem(ValueError):
    """The entry at `path`, for example `("models", "sdxl", "width")`, is invalid; the text says why."""

    def __init__(self, path: tuple[str, ...], detail: str) -> None:
        self.path = path
        super().__init__(detail)


class Model(Entry):
    """A model that workers can load. `width` and `height` are its native size in pixels, multiples of `pixels_each`.

    `overrides` replace the defaults of job types on this model. `references` are the reference types that it accepts.
    `negative_prompts`: a job without a negative prompt gets one by rule. `draws` says what a model with a limited range
    can draw.
    """

    label: str
    pool: Name
    tasks: tuple[Task, ...] = Field(min_length=1)
    width: Whole = Field(ge=64)
    height: Whole = Field(ge=64)
    pixels_each: Whole = Field(default=8, ge=1)
    references: tuple[ReferenceType, ...] = ()
    negative_prompts: bool = False
    overrides: Mapping[Name, Value] = Field(default_factory=dict)
    draws: str | None = None


def _range(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value, value)


Seconds = Annotated[
    tuple[Annotated[Finite, Field(gt=0)], Annotated[Finite, Field(gt=0)]],
    BeforeValidator(_range),
]
"""Minimum and maximum in seconds; a single number in the file sets both."""


class JobType(Entry):
    """A preset of model and quality with its own storage bucket. `expected_s` is seconds per output on a common GPU.

    `task` is what it does with a prompt alone. `params` names its parameters in addition to width and height;
    `defaults` are its own defaults. With `enhance` the prompt is enhanced before rendering.
    """

    label: str
    model: Name
    task: Task
    kind: Kind
    bucket: Name
    extension: Literal["png", "mp4"]
    quantities: tuple[Annotated[Whole, Field(ge=1)], ...] = Field(min_length=1)
    expected_s: Seconds
    params: tuple[Name, ...] = ()
    defaults: Mapping[Name, Value] = Field(default_factory=dict)
    enhance: bool = False


@dataclass(frozen=True, slots=True)
class CompleteParams:
    """Every parameter with its value, parents first; `adjusted` holds the requested value where it was changed."""

    values: dict[str, ParamValue]
    adjusted: dict[str, ParamValue]


class Catalog(Entry):
    """All models, job types and parameters."""

    models: Mapping[Name, Model]
    job_types: Mapping[Name, JobType]
    params: Mapping[Name, Param]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        for name, entry in self.params.items():
            if name in FIELDS:
                raise EntryProblem(("params", name), "is the name of a field of every submission: call it otherwise")
            self._check_conditions(name, entry)
        try:
            in_order(self.params)
        except ValueError as error:
            raise EntryProblem(("params", str(error).rpartition(" → ")[2]), str(error)) from None
        for size in ("width", "height"):
            if size not in self.params:
                raise EntryProblem(("params",), f"{size} is missing; every model has a {size}")
        for name, model in self.models.items():
            for size, pixels in (("width", model.width), ("height", model.height)):
                self._check_value(("models", name, size), size, pixels)
            for param, value in model.overrides.items():
                self._check_value(("models", name, "overrides", param), param, value)
        for name, job_type in self.job_types.items():
            self._check_job_type(name, job_type)
        return self

    def _check_conditions(self, name: str, param: Param) -> None:
        for parent, wanted in param.conditions.items():
            path = ("params", name, "depends_on", parent)
            if not wanted:
                raise EntryProblem(path, f"names no value of {parent}, so {name} could never be used")
            for value in wanted:
                self._check_value(path, parent, value)
                taken = self.params[parent].coerced(value)
                if taken != value:
                    raise EntryProblem(path, f"can never be {value}: that becomes {taken}")

    def _check_value(self, path: tuple[str, ...], param: str, value: object) -> None:
        if param not in self.params:
            raise EntryProblem(path, f"{param!r} is not in params")
        problem = self.params[param].problem_with(value)
        if problem is not None:
            raise EntryProblem(path, problem)

    def _check_job_type(self, name: str, job_type: JobType) -> None:
        path = ("job_types", name)
        model = self.models.get(job_type.model)
        if model is None:
            raise EntryProblem((*path, "model"), f"names {job_type.model!r}, which is not in models")
        if job_type.task not in model.tasks:
            raise EntryProblem((*path, "task"), f"is {job_type.task}, which {job_type.model!r} cannot do")
        if KIND_OF[job_type.task] is not job_type.kind or job_type.task in MEDIA_OF:
            raise EntryProblem((*path, "task"), f"is {job_type.task}, which makes no {job_type.kind} of a prompt alone")
        if job_type.extension != EXTENSION_OF[job_type.kind]:
            raise EntryProblem((*path, "extension"), f"must be {EXTENSION_OF[job_type.kind]} for a {job_type.kind}")
        if job_type.expected_s[0] > job_type.expected_s[1]:
            raise EntryProblem((*path, "expected_s"), "has its least above its most")
        taken = {"width", "height", *job_type.params}
        for param, value in job_type.defaults.items():
            self._check_value((*path, "defaults", param), param, value)
            if param not in taken:
                raise EntryProblem((*path, "defaults", param), "is not among the params of this job type")
        for param in job_type.params:
            if param not in self.params:
                raise EntryProblem((*path, "params"), f"names {param!r}, which is not in params")
            if not taken.issuperset(self.params[param].depends_on):
                parents = ", ".join(self.params[param].depends_on)
                raise EntryProblem((*path, "params"), f"has {param} without what it depends on: {parents}")
            if self.default(job_type, param) is None:
                raise EntryProblem((*path, "defaults"), f"lacks {param}, which has no default of its own")

    def pools(self) -> set[str]:
        """The pools of workers that models belong to."""
        return {model.pool for model in self.models.values()}

    def with_model(self, pool: str, model: str) -> "Catalog":
        """The same catalog with the job types of `pool` moved to `model` where it can do their task.

        Raises `ValueError` for an unknown model.
        """
        if model not in self.models or self.models[model].pool != pool:
            known = ", ".join(sorted(name for name, entry in self.models.items() if entry.pool == pool)) or "none"
            raise ValueError(f"The catalog has no model {model!r} for the pool {pool!r}; it has {known}.")
        moved = {
            name: entry.model_copy(update={"model": model})
            if self.models[entry.model].pool == pool and entry.task in self.models[model].tasks
            else entry
            for name, entry in self.job_types.items()
        }
        return self.model_copy(update={"job_types": moved})

    def model(self, name: str) -> Model:
        """The model of this name. Raises `InvalidInput` with the list of models."""
        if name not in self.models:
            known = ", ".join(sorted(self.models))
            raise InvalidInput([FieldProblem("model", f"unknown model {name!r}; allowed: {known}")])
        return self.models[name]

    def job_type(self, name: str) -> JobType:
        """The job type of this name. Raises `InvalidInput` with the list of job types."""
        if name not in self.job_types:
            known = ", ".join(sorted(self.job_types))
            raise InvalidInput([FieldProblem("job_type", f"unknown job type {name!r}; allowed: {known}")])
        return self.job_types[name]

    def job_type_with(self, model: str, task: str) -> tuple[str, JobType] | None:
        """The first job type that has this model and can do this task."""
        found = (
            (name, entry)
            for name, entry in self.job_types.items()
            if entry.model == model and task in self.tasks_of(entry)
        )
        return next(found, None)

    def tasks_of(self, job_type: JobType) -> tuple[Task, ...]:
        """The tasks that the job type can do: those of its model with the same kind of output."""
        return tuple(task for task in self.models[job_type.model].tasks if KIND_OF[task] is job_type.kind)

    def task(self, job_type: JobType, references: Sequence[str], media: Sequence[str]) -> Task:
        """The task of a submission with these reference types and media. Raises `InvalidInput`."""
        model = self.models[job_type.model]
        task = _task_for(job_type, len(references), media)
        problems = []
        if references and not model.references:
            problems.append(FieldProblem("references", f"the model {job_type.model} takes none"))
        elif len(references) > REFERENCES_MAX:
            problems.append(FieldProblem("references", f"must be at most {REFERENCES_MAX}"))
        else:
            taken = ", ".join(model.references)
            problems += [
                FieldProblem(f"references.{place}.type", f"the model {job_type.model} takes {taken}, not {reference}")
                for place, reference in enumerate(references)
                if reference not in model.references
            ]
        possible = self.tasks_of(job_type)
        if not problems and task not in possible:
            field = f"media.{MEDIA_OF[task]}" if task in MEDIA_OF else "references"
            detail = f"the model {job_type.model} cannot do {task}; it does {', '.join(possible)}"
            problems.append(FieldProblem(field, detail))
        problems += [
            FieldProblem(f"media.{name}", f"is not used by a job type that does {', '.join(possible)}{_by_none(name)}")
            for name in media
            if name != MEDIA_OF.get(task)
        ]
        if problems:
            raise InvalidInput(problems)
        return task

    def quantity(self, job_type: JobType, asked: int | None) -> int:
        """The number of assets; the smallest allowed if not given. Raises `InvalidInput`."""
        if asked is None:
            return min(job_type.quantities)
        if type(asked) is not int or asked not in job_type.quantities:  # True and 1.0 are not 1
            allowed = ", ".join(str(quantity) for quantity in job_type.quantities)
            raise InvalidInput([FieldProblem("quantity", f"must be one of {allowed}")])
        return asked

    def params_of(self, job_type: JobType) -> Mapping[str, Param]:
        """The parameters that a job type takes, parents first."""
        alike = job_type.model, job_type.params
        if alike not in self.taken:
            self.taken[alike] = self._taken_by(job_type)
        return self.taken[alike]

    @cached_property
    def taken(self) -> dict[tuple[str, Sequence[str]], Mapping[str, Param]]:
        """Cache of `params_of`, by model and parameter names: the result is the same for every submission."""
        return {}

    def _taken_by(self, job_type: JobType) -> Mapping[str, Param]:
        each = {"multiple_of": self.models[job_type.model].pixels_each}
        taken = {name: self.params[name].model_copy(update=each) for name in ("width", "height")}
        taken |= {name: self.params[name] for name in job_type.params}
        return {name: taken[name] for name in in_order(taken)}

    def default(self, job_type: JobType, param: str) -> ParamValue | None:
        """The default of a parameter: the model's override, then the job type's default, then the parameter's own."""
        model = self.models[job_type.model]
        size = {"width": model.width, "height": model.height}
        for values in (model.overrides, job_type.defaults, size):
            if param in values:
                return values[param]
        return self.params[param].default

    def expected_s(self, job_type: JobType, params: Mapping[str, ParamValue], quantity: int) -> float:
        """Seconds that a job with these complete parameters is expected to take on a common GPU.

        The job type's mean of least and most is for its default parameters.
        """
        seconds = sum(job_type.expected_s) / 2 * quantity
        for name in WORK_GROWS_WITH:
            value, usual = params.get(name), self.default(job_type, name) if name in params else None
            if isinstance(value, int | float) and isinstance(usual, int | float) and value > 0 and usual > 0:
                seconds *= value / usual
        return seconds

    def complete_params(
        self, job_type: JobType, asked: Mapping[str, Any], *, has_picture: bool = False
    ) -> CompleteParams:
        """Every parameter with its value: the requested one, else its default (see `default`).

        A parameter is left out if its condition does not hold, or if it needs an image and the job has none. Raises
        `InvalidInput` with every problem.
        """
        params = self.params_of(job_type)
        problems = [
            FieldProblem(f"params.{name}", f"unknown; allowed: {', '.join(sorted(params))}")
            for name in asked
            if name not in params
        ]
        values: dict[str, ParamValue] = {}
        wrong: set[str] = set()
        adjusted: dict[str, ParamValue] = {}
        for name, param in params.items():
            if wrong.intersection(param.depends_on):
                wrong.add(name)  # its dependents are wrong too
                continue  # its parent's problem is already reported
            if param.needs_picture and not has_picture:
                if name in asked:
                    problems.append(FieldProblem(f"params.{name}", ONLY_WITH_PICTURE))
                continue
            if not param.holds(values):
                if name in asked:
                    problems.append(FieldProblem(f"params.{name}", f"only with {param.condition_text()}"))
                continue
            value: Any = asked[name] if name in asked else self.default(job_type, name)
            problem = param.problem_with(value)
            if problem is not None:
                problems.append(FieldProblem(f"params.{name}", problem))
                wrong.add(name)
                continue
            values[name] = param.coerced(value)
            if values[name] != value:
                adjusted[name] = value
        if problems:
            raise InvalidInput(problems)
        return CompleteParams(values, adjusted)


WORK_GROWS_WITH: Final = ("steps", "frames", "width", "height")
"""Parameters to whose values the time of a render is about proportional."""


def _by_none(medium: str) -> str:
    return "" if medium in MEDIA_OF.values() else f"; no model starts from {medium}"


def _task_for(job_type: JobType, references: int, media: Sequence[str]) -> Task:
    if job_type.kind is Kind.VIDEO:
        if "video" in media:
            return Task.EXTEND
        return Task.IMAGE_TO_VIDEO if "image" in media else job_type.task
    if references > 1:
        return Task.MULTI
    return Task.IMAGE_TO_IMAGE if references else job_type.task
