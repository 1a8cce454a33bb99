"""Parameters of a job type: their allowed values and their dependencies."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.recipes.recipe import ParamValue

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Whole = Annotated[int, Field(strict=True)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Value = Annotated[bool, Field(strict=True)] | Whole | Finite | Annotated[str, Field(strict=True)]


class Entry(BaseModel):
    """An entry of the catalog: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Param(Entry):
    """A parameter of a job type. Bounds are inclusive; `unit` is for display; `default` applies if no value is given.

    `multiple_of` and `plus` define a grid: 4 and 1 allow 1, 5, 9 … . With `round_down` a value off the grid becomes the
    next lower one, and the job records the requested value. `depends_on` names other parameters with the values under
    which this one applies. A parameter with `needs_picture` applies only with a reference or a first frame.
    """

    type: Literal["integer", "number", "choice", "boolean"]
    minimum: Finite | None = None
    maximum: Finite | None = None
    multiple_of: Whole | None = Field(default=None, ge=1)
    plus: Whole = Field(default=0, ge=0)
    round_down: bool = False
    choices: tuple[str, ...] = ()
    default: Value | None = None
    unit: str | None = None
    label: str | None = None
    depends_on: Mapping[Name, Value | tuple[Value, ...]] = Field(default_factory=dict)
    needs_picture: bool = False

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.type in {"integer", "number"}:
            if self.minimum is None or self.maximum is None:
                raise ValueError("a number needs minimum and maximum")
            if self.minimum > self.maximum:
                raise ValueError("minimum is above maximum")
        elif (self.minimum, self.maximum, self.multiple_of) != (None, None, None):
            raise ValueError(f"a {self.type} has no minimum, maximum or multiple_of")
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("a choice needs choices, and nothing else has them")
        problem = None if self.default is None else self.problem_with(self.default)
        if problem is not None:
            raise ValueError(f"default {problem}")
        return self

    def problem_with(self, value: object) -> str | None:
        """What is allowed, as a sentence, if `value` is not; else None."""
        match self.type:
            case "choice":
                return None if isinstance(value, str) and value in self.choices else self._allowed()
            case "boolean":
                return None if isinstance(value, bool) else self._allowed()
            case _:
                return None if self._is_number_in_range(value) else self._allowed()

    def _is_number_in_range(self, value: object) -> bool:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or self.minimum is None
            or self.maximum is None
        ):
            return False
        if not self.minimum <= value <= self.maximum:  # also refuses NaN
            return False
        if self.type == "integer" and isinstance(value, float) and not value.is_integer():
            return False
        return self.round_down or self.multiple_of is None or (value - self.plus) % self.multiple_of == 0

    def _allowed(self) -> str:
        if self.type == "choice":
            return f"must be one of {', '.join(self.choices)}"
        if self.type == "boolean":
            return "must be true or false"
        number = "a whole number" if self.type == "integer" else "a number"
        allowed = f"must be {number} from {self.minimum:g} to {self.maximum:g}"
        if self.multiple_of is not None and not self.round_down:
            allowed += f", a multiple of {self.multiple_of}" + (f" plus {self.plus}" if self.plus else "")
        return allowed

    def coerced(self, value: ParamValue) -> ParamValue:
        """An allowed value in its type and on its grid: 15.0 steps are 15; 83 frames are 81 on a grid of 4 plus 1."""
        if self.type in {"choice", "boolean"} or isinstance(value, str | bool):
            return value
        if self.multiple_of is not None:
            value -= (value - self.plus) % self.multiple_of
        return int(value) if self.type == "integer" else float(value)

    def holds(self, values: Mapping[str, ParamValue]) -> bool:
        """Whether this parameter applies, given the values of the others."""
        return all(name in values and values[name] in wanted for name, wanted in self.conditions.items())

    @cached_property
    def conditions(self) -> Mapping[str, tuple[ParamValue, ...]]:
        """Each parameter that this one depends on, with the values that it needs."""
        return {name: wanted if isinstance(wanted, tuple) else (wanted,) for name, wanted in self.depends_on.items()}

    def condition_text(self) -> str:
        """The conditions for display: `sampler = dpm++`."""
        each = (f"{name} = {' or '.join(map(_shown, wanted))}" for name, wanted in self.conditions.items())
        return " and ".join(each)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema without a default; `grid`, `depends_on`, `needs_picture` and `unit` are extensions."""
        schema: dict[str, Any] = {"type": "string" if self.type == "choice" else self.type}
        if self.type == "choice":
            schema["enum"] = list(self.choices)
        if self.minimum is not None:
            schema |= {"minimum": self.minimum, "maximum": self.maximum}
        if self.multiple_of is not None and not self.round_down and not self.plus:
            schema["multipleOf"] = self.multiple_of
        if self.multiple_of is not None and (self.round_down or self.plus):
            schema["grid"] = {"multiple_of": self.multiple_of, "plus": self.plus, "round_down": self.round_down}
        if self.unit is not None:
            schema["unit"] = self.unit
        if self.label is not None:
            schema["title"] = self.label
        depends_on = [{"name": name, "values": list(wanted)} for name, wanted in self.conditions.items()]
        return schema | {"depends_on": depends_on} | ({"needs_picture": True} if self.needs_picture else {})


def in_order(params: Mapping[str, Param]) -> list[str]:
    """The names with every parent before its dependents, otherwise in the given order.

    Raises `ValueError` naming a cycle. A parent that is not in `params` is ignored.
    """
    ordered: dict[str, None] = {}
    for first in params:
        path = {} if first in ordered else {first: iter(params[first].depends_on)}
        while path:  # not recursive: conditions may nest deeper than Python's recursion limit
            name = next(reversed(path))
            parent = next((each for each in path[name] if each in params and each not in ordered), None)
            if parent is None:
                path.popitem()
                ordered[name] = None
            elif parent in path:
                names = list(path)
                cycle = " → ".join((*names[names.index(parent) :], parent))
                raise ValueError(f"depends on itself: {cycle}")
            else:
                path[parent] = iter(params[parent].depends_on)
    return list(ordered)


def _shown(value: ParamValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
