"""Models, job types and their parameters. The catalog is data (`catalog.toml`); this module checks and applies it."""

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from domain.errors import FieldProblem, InvalidInput
from domain.recipe import Kind, ParamValue, Task

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Whole = Annotated[int, Field(strict=True)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Entry(BaseModel):
    """A line of the catalog: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Entry):
    """What a worker can load. `width` and `height` are its native size in pixels."""

    label: str
    pool: Name
    tasks: tuple[Task, ...] = Field(min_length=1)
    width: Whole = Field(ge=64)
    height: Whole = Field(ge=64)


class Param(Entry):
    """A number that a job type takes. Bounds are inclusive; `unit` is for people."""

    type: Literal["integer", "number"]
    minimum: Finite
    maximum: Finite
    multiple_of: Whole | None = Field(default=None, ge=1)
    unit: str | None = None

    def problem_with(self, value: object) -> str | None:
        """A sentence that says what is allowed when `value` is not; None when it is."""
        number = "a whole number" if self.type == "integer" else "a number"
        allowed = f"must be {number} from {self.minimum:g} to {self.maximum:g}"
        if self.multiple_of is not None:
            allowed += f", a multiple of {self.multiple_of}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return allowed
        if self.type == "integer" and isinstance(value, float) and not value.is_integer():
            return allowed
        if not self.minimum <= value <= self.maximum:  # also refuses NaN
            return allowed
        if self.multiple_of is not None and value % self.multiple_of:
            return allowed
        return None

    def coerced(self, value: ParamValue) -> ParamValue:
        """The value in its type: 15.0 steps are 15."""
        return int(value) if self.type == "integer" else float(value)


class JobType(Entry):
    """A preset of model and quality with its own storage bucket. `expected_s` is seconds per image on a common GPU."""

    label: str
    model: Name
    task: Task
    kind: Kind
    bucket: Name
    extension: Literal["png"]
    quantities: tuple[Annotated[Whole, Field(ge=1)], ...] = Field(min_length=1)
    expected_s: Finite = Field(gt=0)
    defaults: Mapping[str, ParamValue]


class CatalogError(Exception):
    """The catalog does not hold together; the sentence names the entry."""

    code = "catalog_invalid"


class Catalog(Entry):
    """Everything that can be asked for."""

    models: Mapping[Name, Model]
    job_types: Mapping[Name, JobType]
    params: Mapping[Name, Param]

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read and check. Raises `CatalogError` naming the first entry that is wrong."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise CatalogError(f"The catalog is not TOML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = f" at {'.'.join(map(str, first['loc']))}" if first["loc"] else ""
            raise CatalogError(f"The catalog is wrong{where}: {first['msg'].removeprefix('Value error, ')}") from error

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        for name, param in self.params.items():
            if param.minimum > param.maximum:
                raise ValueError(f"params.{name}.minimum is above its maximum")
        for size in ("width", "height"):
            if size not in self.params:
                raise ValueError(f"params.{size} is missing; every model has a {size}")
            for name, model in self.models.items():
                problem = self.params[size].problem_with(getattr(model, size))
                if problem is not None:
                    raise ValueError(f"models.{name}.{size} {problem}")
        self._check_job_types()
        return self

    def _check_job_types(self) -> None:
        for name, job_type in self.job_types.items():
            model = self.models.get(job_type.model)
            if model is None:
                raise ValueError(f"job_types.{name}.model names {job_type.model!r}, which is not in models")
            if job_type.task not in model.tasks:
                raise ValueError(f"job_types.{name}.task is {job_type.task}, which {job_type.model!r} cannot do")
            for param, value in job_type.defaults.items():
                if param not in self.params:
                    raise ValueError(f"job_types.{name}.defaults.{param} is not in params")
                problem = self.params[param].problem_with(value)
                if problem is not None:
                    raise ValueError(f"job_types.{name}.defaults.{param} {problem}")

    def with_model(self, pool: str, model: str) -> "Catalog":
        """The same catalog with the job types of `pool` on `model` where it can do their task.

        Raises `CatalogError` for an unknown model.
        """
        if model not in self.models or self.models[model].pool != pool:
            known = ", ".join(sorted(name for name, entry in self.models.items() if entry.pool == pool))
            raise CatalogError(f"The catalog has no model {model!r} for the pool {pool!r}; it has {known}.")
        moved = {
            name: entry.model_copy(update={"model": model})
            if self.models[entry.model].pool == pool and entry.task in self.models[model].tasks
            else entry
            for name, entry in self.job_types.items()
        }
        return self.model_copy(update={"job_types": moved})

    def job_type(self, name: str) -> JobType:
        """The job type, or `InvalidInput` that lists what there is."""
        if name not in self.job_types:
            known = ", ".join(sorted(self.job_types))
            raise InvalidInput([FieldProblem("job_type", f"unknown job type {name!r}; allowed: {known}")])
        return self.job_types[name]

    def quantity(self, job_type: JobType, asked: int | None) -> int:
        """How many assets; the smallest allowed when not asked. Raises `InvalidInput`."""
        if asked is None:
            return min(job_type.quantities)
        if type(asked) is not int or asked not in job_type.quantities:  # True and 1.0 are not 1
            allowed = ", ".join(str(quantity) for quantity in job_type.quantities)
            raise InvalidInput([FieldProblem("quantity", f"must be one of {allowed}")])
        return asked

    def complete_params(self, job_type: JobType, asked: Mapping[str, Any]) -> dict[str, ParamValue]:
        """Every parameter with its value: asked for, else the job type's default, else the model's size."""
        model = self.models[job_type.model]
        complete: dict[str, ParamValue] = {"width": model.width, "height": model.height}
        complete |= {name: self.params[name].coerced(value) for name, value in job_type.defaults.items()}
        problems = []
        for name, value in asked.items():
            if name not in complete:
                problems.append(FieldProblem(f"params.{name}", f"unknown; allowed: {', '.join(sorted(complete))}"))
                continue
            problem = self.params[name].problem_with(value)
            if problem is not None:
                problems.append(FieldProblem(f"params.{name}", problem))
            else:
                complete[name] = self.params[name].coerced(value)
        if problems:
            raise InvalidInput(problems)
        return complete
