"""The bodies of a batch or a comparison: the envelope, valid as a whole, and items, each validated by itself."""

import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, SkipValidation, ValidationError

from api.http.bodies.json_body import nul_problems, problems_of
from api.http.bodies.texts import Collection, Name, Prompt, Template
from api.jobs.draft import SubmitBody
from domain.aggregates.batch import ITEMS_MAX, VARIANTS_MAX, VARIANTS_MIN
from domain.errors import FieldProblem, InvalidInput
from domain.json_type import Json
from domain.recipes.recipe import SEED_MAX

BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Maximum bytes: a thousand items of 8 kB each, several times the size of a long prompt with its parameters."""

PROMPT_IN_NAME_CHARACTERS: Final = 80
"""Characters of the prompt in the name of an unnamed comparison: enough to recognise it."""

OUTPUTS_OF_A_SEED: Final = 1_000
"""A random seed of a comparison leaves room for this many outputs of each variant."""


class BatchItem(SubmitBody):
    """An item of a batch: a submission with the name of its template."""

    template: Template | None = None


def _without_what_is_shared(schema: dict[str, Any]) -> None:
    for name in SHARED:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema.get("required", []) if name not in SHARED]


class Variant(BatchItem):
    """A variant of a comparison: a submission without prompt and seed, which all variants share."""

    model_config = ConfigDict(json_schema_extra=_without_what_is_shared)


SHARED: Final = ("prompt", "seed")
"""The fields that all variants of a comparison share."""


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    collection: Collection | None = None
    base: Annotated[
        str | None,
        Field(
            description="`media:ID` or `asset:ID` of a picture that every item starts from, unless it brings references"
            " or media of its own: what a video begins with, and the composition of an image."
        ),
    ] = None


class BatchBody(_Envelope):
    """Templates to run together. Each item is accepted or rejected by itself, so here it may be anything."""

    kind: Literal["batch"] = "batch"
    name: Name
    items: Annotated[list[SkipValidation[BatchItem]], Field(min_length=1, max_length=ITEMS_MAX)]


class ComparisonBody(_Envelope):
    """One prompt and one seed on several models or settings. The seed is random when absent."""

    kind: Literal["comparison"]
    name: Name | None = None
    prompt: Prompt
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    variants: Annotated[list[SkipValidation[Variant]], Field(min_length=VARIANTS_MIN, max_length=VARIANTS_MAX)]


class NewBatch(RootModel[BatchBody | ComparisonBody]):
    """A batch, or a comparison."""


class BatchPatch(BaseModel):
    """A new name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name


class RetryBody(BaseModel):
    """The items to run again, by index; without them those with lost outputs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    items: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=ITEMS_MAX)] | None = None


class PreferenceBody(BaseModel):
    """One asset preferred to another one. `blind`: without knowing how they were made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    winner: Annotated[UUID, Field(strict=False)]
    loser: Annotated[UUID, Field(strict=False)]
    blind: bool = False


ALL: Final = (NewBatch, BatchPatch, RetryBody, PreferenceBody)
"""Every body about batches, for the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class BatchEnvelope:
    """The request without its items. `shared` holds the fields that every item gets."""

    kind: Literal["batch", "comparison"]
    name: str
    collection: str | None
    base: str | None
    items: list[Any]
    shared: Json


def envelope_of(content: Json) -> BatchEnvelope:
    """The envelope of a body. Raises `InvalidInput` with all its problems, without those of items."""
    kind = content.get("kind", "batch")
    if kind not in ("batch", "comparison"):
        raise InvalidInput([FieldProblem("kind", "must be batch or comparison")])
    listed = "variants" if kind == "comparison" else "items"
    problems = nul_problems({name: value for name, value in content.items() if name != listed})
    if problems:
        raise InvalidInput(problems)
    try:
        if kind == "comparison":
            return _comparison(ComparisonBody.model_validate(content))
        batch = BatchBody.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)) from None
    return BatchEnvelope("batch", batch.name, batch.collection, batch.base, batch.items, {})


def _comparison(body: ComparisonBody) -> BatchEnvelope:
    seed = secrets.randbelow(SEED_MAX - OUTPUTS_OF_A_SEED) if body.seed is None else body.seed
    name = body.name or " ".join(body.prompt.split())[:PROMPT_IN_NAME_CHARACTERS]
    shared = {"prompt": body.prompt, "seed": seed}
    return BatchEnvelope("comparison", name, body.collection, body.base, body.variants, shared)
