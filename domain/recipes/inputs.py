"""The inputs of a job, to fill a form and run it again. `reuse.py` reads them from a stored recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from domain.recipes.cautions import RecipeCaution
from domain.recipes.recipe import ParamValue, Reference

BESIDE_PARAMS: Final = ("quantity", "seed", "negative_prompt")
"""Inputs that are fields of a submission; all others are in its `params`."""


@dataclass(frozen=True, slots=True)
class Input:
    """A value. `depends_on`: the parameters that it depends on, each with the values that it needs."""

    name: str
    value: ParamValue
    depends_on: Mapping[str, tuple[ParamValue, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """An input of the job that a new job cannot have. `name` as in `inputs`, or `media.image`, `references.0`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FormInputs:
    """All inputs of a job that a new job can have. `job_type` is None if the catalog does not have it.

    In that case `model` and `task` say what can run it; each is None if the catalog has no match.
    """

    job_type: str | None
    model: str | None
    task: str | None
    prompt: str | None
    inputs: tuple[Input, ...]
    media: Mapping[str, str]
    references: tuple[Reference, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[RecipeCaution, ...]

    def body(self) -> dict[str, Any]:
        """The body of a submission with these inputs."""
        values = {each.name: each.value for each in self.inputs}
        fields: dict[str, Any] = {name: values.pop(name) for name in BESIDE_PARAMS if name in values}
        named = {"job_type": self.job_type} if self.job_type else {"model": self.model, "task": self.task}
        fields |= {name: value for name, value in (named | {"prompt": self.prompt}).items() if value is not None}
        references = [reference.model_dump() for reference in self.references]
        return fields | {"params": values, "references": references, "media": dict(self.media)}
