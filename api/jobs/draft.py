"""The body of a submission, parsed once: its valid fields, and a problem for each of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.http.bodies.json_body import problems_of
from api.http.bodies.texts import NegativePrompt, Prompt, Tags
from api.jobs.sources import REFERENCES_MAX, Source, sources_in, sources_of
from domain.errors import FieldProblem
from domain.json_type import Json
from domain.recipes.recipe import SEED_MAX, Reference

NO_PROMPT: Final = "-"
"""Stands for a prompt that is missing or invalid: the body is refused, but its other fields are still checked."""


Inputs = tuple[Sequence[str], Sequence[str]]
"""The types of a body's references, and its kinds of media."""


class SubmitBody(BaseModel):
    """A job to run: `job_type`, or `model` and `task`, and a prompt. `seed` is random when absent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_type: str | None = None
    model: str | None = None
    task: str | None = None
    prompt: Prompt
    negative_prompt: NegativePrompt | None = None
    quantity: Annotated[int, Field(description="One that the job type allows; the smallest when absent.")] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    params: dict[str, Any] = Field(default_factory=dict, description="By the names of the job type's `parameters`.")
    references: Annotated[list[Reference], Field(max_length=REFERENCES_MAX)] = Field(default_factory=list)
    media: dict[str, str] = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=-10, le=10)] = 0
    tags: Tags = Field(default_factory=list)
    parent_id: Annotated[
        UUID | None, Field(strict=False, description="A job of the same owner whose inputs were taken over.")
    ] = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A body that was parsed. `content` is what was sent; `body` has its valid fields, and defaults for the others.

    `invalid` names these, `problems` say what is wrong with them. `sources`, and `inputs` (the types of the references
    and the kinds of media), are what can be read of references and media even if something else in them is invalid.
    `inputs` None: nothing can be read.
    """

    content: Json
    body: SubmitBody
    sources: Sequence[Source]
    inputs: Inputs | None
    invalid: frozenset[str] = frozenset()
    problems: Sequence[FieldProblem] = ()

    def has(self, *fields: str) -> bool:
        """Whether these fields are valid."""
        return self.invalid.isdisjoint(fields)

    def starts_from_files(self) -> bool:
        """Whether it names references or media, valid or not."""
        return bool(self.body.references or self.body.media) or not self.has("references", "media")

    def has_picture(self) -> bool:
        """Whether it names a reference, or a picture to start from; so too if it cannot be said."""
        return bool(self.body.references) or "image" in self.body.media or not self.has("references", "media")

    def starting_from(self, references: Sequence[Reference] = (), media: Mapping[str, str] | None = None) -> "Draft":
        """The same with these references and media alone."""
        body = self.body.model_copy(update={"references": list(references), "media": dict(media or {})})
        return replace(self, body=body, sources=sources_of(body.references, body.media), inputs=_inputs_of(body))


def draft_of(content: Json) -> Draft:
    """Parse a body."""
    try:
        body = SubmitBody.model_validate(content)
        return Draft(content, body, sources_of(body.references, body.media), _inputs_of(body))
    except ValidationError as error:
        problems = problems_of(error)
    invalid = frozenset(problem.path.partition(".")[0] for problem in problems)
    valid = {name: content[name] for name in SubmitBody.model_fields if name in content and name not in invalid}
    body = SubmitBody.model_validate({"prompt": NO_PROMPT, **valid})
    return Draft(content, body, sources_in(content), _inputs_in(content), invalid, problems)


def _inputs_of(body: SubmitBody) -> Inputs:
    return [each.type for each in body.references], list(body.media)


def _inputs_in(content: Json) -> Inputs | None:
    """The same of a body that may be invalid."""
    references, media = content.get("references", []), content.get("media", {})
    if not isinstance(references, list) or not isinstance(media, dict):
        return None
    return [str(each.get("type")) if isinstance(each, dict) else "" for each in references], list(media)
