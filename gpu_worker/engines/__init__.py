"""The protocol of every engine, and the exceptions with which a render can end.

Exception
├── RenderCanceled     the job was canceled between two steps
├── ModelUnavailable   the model is missing, of another kind, or broken
├── OutOfMemory        a single image does not fit, even with the smallest memory profile
├── InvalidRequest     the model does not support these sizes, steps or references
├── UnusableOutput     the model's output is not a valid image; never raised, see OutputFailed
├── ProviderUnavailable   a hosted model cannot be reached now, or the state of its order is unknown
└── PredictionFailed   a hosted model gave up this output

The text of each is one sentence for the owner of the job. After any of them the engine can render again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from domain.recipes.recipe import Kind, ParamValue, Task
from domain.warning_codes import WarningCode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from services.files.media.sounds import Sound


class RenderCanceled(Exception):
    """`canceled()` returned true; images yielded before are valid."""


class ModelUnavailable(Exception):
    """The model is missing, of another kind, or broken; the same request fails until it is repaired."""


class OutOfMemory(Exception):
    """The model, or a single image of this size, does not fit into memory."""


class InvalidRequest(Exception):
    """The model cannot render this request; trying again does not help."""


class ProviderUnavailable(Exception):
    """The provider of a hosted model cannot be reached, is overloaded or broken; a later attempt may succeed."""


class PredictionFailed(Exception):
    """The provider of a hosted model gave up this output; the text is its reason."""


class UnusableOutput(Exception):
    """The model's output is not a valid image or video."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Everything that determines the pixels: the same request on the same machine and model gives the same images."""

    prompt: str
    negative_prompt: str | None
    width: int
    """Pixels, a multiple of 8; so is the height."""
    height: int
    steps: int
    """Denoising steps, at least 1."""
    guidance: float
    """Strength of the prompt; at 1.0 and below, guidance and the negative prompt are off."""
    seeds: tuple[int, ...]
    """One output per seed, in this order; the initial noise of an output depends only on its seed."""
    task: Task = Task.TEXT_TO_IMAGE
    kind: Kind = Kind.IMAGE
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    """All parameters of the recipe, by their names in the catalog, including those specific to one engine."""
    references: tuple[GivenReference, ...] = ()
    image: Image.Image | None = None
    """The image that a video starts from."""
    video: bytes | None = None
    """The video to extend, an MP4 file."""
    provider_ids: Mapping[int, str] = field(default_factory=dict)
    """Ids of outputs that a provider is already making, by position: see HandedOver."""
    losses: tuple[Warned, ...] = ()
    """Warnings about properties of the images above that are not used."""


@dataclass(frozen=True, slots=True)
class GivenReference:
    """An image that guides the result; `strength` is 0.1 … 1.0, and higher is stronger."""

    type: Literal["style", "composition", "character"]
    image: Image.Image
    strength: float


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """One finished image."""

    position: int
    """The index of its seed in the request."""
    image: Image.Image
    """The image in RGB, of the requested size."""
    render_ms: int
    """Wall milliseconds of the pipeline call that made it, divided by the images of the call."""


@dataclass(frozen=True, slots=True)
class RenderedVideo:
    """One finished video."""

    position: int
    """The index of its seed in the request."""
    frames: NDArray[np.uint8]
    """Array [frames, height, width, 3] in RGB."""
    fps: float
    """Frames per second."""
    render_ms: int
    sound: Sound | None = None
    """The sound of the extended video, from its first frame on."""


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One finished output as a file: PNG, JPEG or WebP for an image, MP4 for a video."""

    position: int
    content: bytes
    render_ms: int


@dataclass(frozen=True, slots=True)
class MemoryLowered:
    """Memory ran out; the engine has freed memory and continues with a smaller profile."""

    profile: str
    error: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Part of the request has no effect; `detail` is a sentence for the job's owner."""

    code: WarningCode
    detail: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A provider is making this output under its own id; the engine does not poll until the ledger has the id."""

    position: int
    provider: str
    provider_id: str


@dataclass(frozen=True, slots=True)
class OutputFailed:
    """This output cannot be made; the others continue."""

    position: int
    error: Exception


Rendered = RenderedImage | RenderedVideo | RenderedFile
Rendering = Rendered | MemoryLowered | HandedOver | Warned | OutputFailed
"""What an engine yields: finished outputs, and notes in between."""


class Engine(Protocol):
    """A loaded model. Used by one thread at a time."""

    @property
    def model_revision(self) -> str:
        """A revision that changes with the model's files: a hub commit, or a fingerprint of the local files."""

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[Rendering]:
        """Yield each output as soon as it is finished, and notes in between; local models follow the seeds' order.

        After a note, the caller requests the next item only when the ledger has that note. `on_step(done, total)` is
        called after every step, counted over all pipeline calls of the request; `total` grows when low memory forces
        more calls. `canceled()` is called after every step. It returns true when the job was given up, so that a
        provider may drop it as well; it raises RenderCanceled, which must propagate, when another attempt continues the
        job. The work, and every error, happens while the caller iterates.
        """
