"""The recipe: everything that determines a result, and the ids and seeds that follow from it."""

import hashlib
import json
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

SEED_MAX = 2**32 - 1
"""Largest seed a request may name: torch, numpy and the hosted engines all take 32 bits."""

PROMPT_CHARACTERS_MAX = 10_000
"""Maximum characters of a prompt or negative prompt; models read far less."""

ParamValue = bool | int | float | str
Strength = Annotated[float, Field(ge=0.1, le=1.0)]


class Task(StrEnum):
    """Input and output of a job: text, image or video to image or video."""

    TEXT_TO_IMAGE = "t2i"
    IMAGE_TO_IMAGE = "i2i"
    TEXT_TO_VIDEO = "t2v"
    IMAGE_TO_VIDEO = "i2v"
    EXTEND = "extend"
    MULTI = "multi"


class Kind(StrEnum):
    """The type of an asset."""

    IMAGE = "image"
    VIDEO = "video"


class Reference(BaseModel):
    """An image that guides the result. `source` is `media:ID` or `asset:ID` of the same owner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["style", "composition", "character"]
    source: str
    strength: Strength


class InputFile(BaseModel):
    """An input file of a recipe, as it was when the job was accepted. `path` is in the object store.

    `width` and `height` are pixels, upright; `frames` and `fps` (frames a second) are for a video. Values that do not
    apply are null, as are those of jobs accepted before they were recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image", "video", "audio"]
    media_type: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    path: str
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    frames: Annotated[int, Field(ge=1)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = None

    def is_file_of(self, other: "InputFile") -> bool:
        """Whether both are the same file; the recorded frames and sizes may differ by the time of recording."""
        return (self.kind, self.media_type, self.sha256, self.path) == (
            other.kind, other.media_type, other.sha256, other.path,
        )  # fmt: skip


class Recipe(BaseModel):
    """Everything that determines the result. `seeds` holds one seed per asset; `params` includes defaults.

    `references` and `media` name their files by source; `files` describes each source. With `enhance` the worker
    enhances the prompt before rendering.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_type: str
    model: str
    model_revision: str | None = None
    task: Task
    prompt: str
    negative_prompt: str | None = None
    params: dict[str, ParamValue]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    references: tuple[Reference, ...] = ()
    media: dict[str, str] = Field(default_factory=dict)
    files: dict[str, InputFile] = Field(default_factory=dict)
    enhance: bool = False

    @property
    def quantity(self) -> int:
        """The number of assets of the job."""
        return len(self.seeds)

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal recipes have equal fingerprints, in any order of their params."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """Everything that determines the result as ASCII JSON, keys sorted, no spaces.

        A file counts by its content, not by its source or path. `enhance` was added later and is included only when
        set, so that older fingerprints stay the same.
        """
        content = self.model_dump(mode="json", exclude={"files"} if self.enhance else {"files", "enhance"})
        for reference in content["references"]:
            reference["source"] = self._content_of(reference["source"])
        content["media"] = {name: self._content_of(source) for name, source in self.media.items()}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def _content_of(self, source: str) -> str:
        return self.files[source].sha256 if source in self.files else source


def seeds_from(seed: int, quantity: int) -> tuple[int, ...]:
    """`seed + index` for each asset: two images of one job never share a seed."""
    return tuple(seed + index for index in range(quantity))


@lru_cache(maxsize=10_000)
def asset_id(job_id: UUID, index: int) -> UUID:
    """The id of a job's asset at `index`; it can be computed from the job's id."""
    return uuid5(job_id, str(index))


def asset_path(bucket: str, owner: str, job_id: UUID, index: int, extension: str) -> str:
    """The path of an asset's file in the object store."""
    return f"{bucket}/{owner}/{job_id}_{index}.{extension}"
