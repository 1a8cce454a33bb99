"""The recipe: all that decides a result, and the ids and seeds that follow from it."""

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
"""Of a prompt, and of a negative one; what models read of it is far less."""

ParamValue = bool | int | float | str
Strength = Annotated[float, Field(ge=0.1, le=1.0)]


class Task(StrEnum):
    """What goes in and out: text, image or video to image or video."""

    TEXT_TO_IMAGE = "t2i"
    IMAGE_TO_IMAGE = "i2i"
    TEXT_TO_VIDEO = "t2v"
    IMAGE_TO_VIDEO = "i2v"
    EXTEND = "extend"
    MULTI = "multi"


class Kind(StrEnum):
    """What an asset is."""

    IMAGE = "image"
    VIDEO = "video"


class Reference(BaseModel):
    """A picture that guides the result. `source` is `media:ID` or `asset:ID` of the same owner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["style", "composition", "character"]
    source: str
    strength: Strength


class InputFile(BaseModel):
    """A file that a recipe starts from, as it was when the job was accepted. `path` is in the object store.

    `width` and `height` are pixels, upright; `frames` and `fps` (frames a second) are a video's. Null for a file that
    has no such thing, and for jobs that were accepted before this was kept.
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
        """Whether both are the same file; what is known of its pictures may differ by when that was written down."""
        return (self.kind, self.media_type, self.sha256, self.path) == (
            other.kind, other.media_type, other.sha256, other.path,
        )  # fmt: skip


class Recipe(BaseModel):
    """All that decides the result. `seeds` holds one seed per asset, by index; `params` has its defaults filled in.

    `references` and `media` name their files by source; `files` says what each source is. With `enhance` the worker
    makes the prompt richer before it renders.
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
        """How many assets the job owes."""
        return len(self.seeds)

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal recipes give equal fingerprints, whatever the order of their params."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """All that decides the result as JSON in ASCII, keys sorted, no blanks.

        A file counts by its content: where it came from and where it lies decide nothing. `enhance` came later than the
        first fingerprints, which stay as they are: it counts where it is set.
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
    """The id of a job's asset at `index`; anyone who knows the job knows its assets."""
    return uuid5(job_id, str(index))


def asset_path(bucket: str, owner: str, job_id: UUID, index: int, extension: str) -> str:
    """Where the file of an asset lives in the object store."""
    return f"{bucket}/{owner}/{job_id}_{index}.{extension}"
