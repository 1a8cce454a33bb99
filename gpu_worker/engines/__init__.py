"""The one protocol that every engine speaks, and the ways in which a render can end badly.

Exception
├── RenderCanceled     somebody canceled the job between two steps
├── ModelUnavailable   the model is missing, of another kind, or broken
├── OutOfMemory        not even one image fits, with the smallest memory profile
├── InvalidRequest     the model refuses these sizes, steps or references
├── UnusableOutput     what came out of the model for one output is no picture; never raised, see OutputFailed
├── ProviderUnavailable   a hosted model cannot be reached now, or its fate is unknown
└── PredictionFailed   a hosted model gave up this one output

The text of each is one sentence for the person who submitted the job. After any of them the engine can render again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from domain.recipe import Kind, ParamValue, Task
from domain.warning_codes import WarningCode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from services.media.sounds import Sound


class RenderCanceled(Exception):
    """`canceled()` turned true; images that were yielded before are good."""


class ModelUnavailable(Exception):
    """The model is missing, of another kind, or broken; the same request fails until somebody repairs it."""


class OutOfMemory(Exception):
    """The model, or one image of this size at a time, does not fit into memory."""


class InvalidRequest(Exception):
    """The model cannot render this request; trying again does not help."""


class ProviderUnavailable(Exception):
    """The provider of a hosted model cannot be reached, is overloaded or broken; a later attempt may succeed."""


class PredictionFailed(Exception):
    """The provider of a hosted model gave up this output; the text is its reason."""


class UnusableOutput(Exception):
    """What came out of the model for one output is no picture or video."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What decides the pixels: the same request on the same machine and model gives the same images."""

    prompt: str
    negative_prompt: str | None
    width: int
    """Pixels, a multiple of 8; so is the height."""
    height: int
    steps: int
    """Denoising steps, at least 1."""
    guidance: float
    """How strongly the prompt pulls; 1.0 and below turn guidance, and the negative prompt with it, off."""
    seeds: tuple[int, ...]
    """One output per seed, in this order; a seed alone decides its output's first noise."""
    task: Task = Task.TEXT_TO_IMAGE
    kind: Kind = Kind.IMAGE
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    """All parameters of the recipe, by the catalog's names: those above, and those that one engine alone knows."""
    references: tuple[GivenReference, ...] = ()
    image: Image.Image | None = None
    """The picture that a video starts from."""
    video: bytes | None = None
    """The finished video, an MP4 file, that goes on."""
    provider_ids: Mapping[int, str] = field(default_factory=dict)
    """What a provider has in work already, by position: see HandedOver."""
    losses: tuple[Warned, ...] = ()
    """What the pictures above say of themselves and are not so read."""


@dataclass(frozen=True, slots=True)
class GivenReference:
    """A picture that guides the result; `strength` is 0.1 … 1.0, and more pulls harder."""

    type: Literal["style", "composition", "character"]
    image: Image.Image
    strength: float


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """One finished image."""

    position: int
    """The index of its seed in the request."""
    image: Image.Image
    """RGB, of the requested size."""
    render_ms: int
    """Wall milliseconds of the pipeline call that painted it, divided by that call's images."""


@dataclass(frozen=True, slots=True)
class RenderedVideo:
    """One finished video."""

    position: int
    """The index of its seed in the request."""
    frames: NDArray[np.uint8]
    """[frames, height, width, 3], red, green, blue."""
    fps: float
    """Frames a second."""
    render_ms: int
    sound: Sound | None = None
    """That of the video that goes on, from its first frame on."""


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One finished output that came as a file: PNG, JPEG or WebP for an image, MP4 for a video."""

    position: int
    content: bytes
    render_ms: int


@dataclass(frozen=True, slots=True)
class MemoryLowered:
    """Memory ran out; the engine has freed what it could and goes on with a smaller profile."""

    profile: str
    error: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that was asked for is lost on the way; `detail` is a sentence for whoever submitted the job."""

    code: WarningCode
    detail: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A provider has this output in work, under its own id; the engine does not poll before the ledger has it."""

    position: int
    provider: str
    provider_id: str


@dataclass(frozen=True, slots=True)
class OutputFailed:
    """This one output cannot be made; its siblings go on."""

    position: int
    error: Exception


Rendered = RenderedImage | RenderedVideo | RenderedFile
Rendering = Rendered | MemoryLowered | HandedOver | Warned | OutputFailed
"""What an engine yields: outputs as they are finished, and what is worth keeping in between."""


class Engine(Protocol):
    """A loaded model. One thread at a time."""

    @property
    def model_revision(self) -> str:
        """Changes when the model's files change: a hub commit, or a fingerprint of the local files."""

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[Rendering]:
        """Yield each output as soon as it exists, and notes in between; local models go in the order of the seeds.

        The caller asks for the next one after a note only when the ledger has that note. `on_step(done, total)` is
        called after every step, counted over all pipeline calls of the request; `total` grows when memory forces more
        calls. `canceled()` is asked after every step: true when the job was given up, so that a provider may drop it as
        well; it raises RenderCanceled, to be let through, when the job goes on in another attempt. The work, and every
        error, happens while the caller iterates.
        """
