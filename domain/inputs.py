"""The inputs of a job: what a form is filled with to run it again, as `reuse.py` takes it out of a stored recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from domain.cautions import Caution
from domain.recipe import ParamValue, Reference

BESIDE_PARAMS: Final = ("quantity", "seed", "negative_prompt")
"""The inputs that are fields of a submission; all others are its `params`."""


@dataclass(frozen=True, slots=True)
class Input:
    """A value. `depends_on`: each parameter that it depends on, and the values that this one may have."""

    name: str
    value: ParamValue
    depends_on: Mapping[str, tuple[ParamValue, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What the job had and a new one cannot have. `name` as in `inputs`, or `media.image`, `references.0`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything of a job that a new one can have. `job_type` None: the catalog has it no more, or never had it.

    Then `model` and `task` say what can run it; each is None where the catalog has nothing.
    """

    job_type: str | None
    model: str | None
    task: str | None
    prompt: str | None
    inputs: tuple[Input, ...]
    media: Mapping[str, str]
    references: tuple[Reference, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[Caution, ...]

    def body(self) -> dict[str, Any]:
        """The submission that runs it again."""
        values = {each.name: each.value for each in self.inputs}
        fields: dict[str, Any] = {name: values.pop(name) for name in BESIDE_PARAMS if name in values}
        named = {"job_type": self.job_type} if self.job_type else {"model": self.model, "task": self.task}
        fields |= {name: value for name, value in (named | {"prompt": self.prompt}).items() if value is not None}
        references = [reference.model_dump() for reference in self.references]
        return fields | {"params": values, "references": references, "media": dict(self.media)}
