"""The one protocol that every engine speaks, and the ways in which a render can end badly.

Exception
├── RenderCanceled     somebody canceled the job between two steps
├── ModelUnavailable   the model is missing, of another kind, or broken
├── OutOfMemory        not even one image fits
└── InvalidRequest     the model refuses these sizes or steps

The text of each is one sentence for the person who submitted the job. After any of them the engine can render again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


class RenderCanceled(Exception):
    """`canceled()` turned true; images that were yielded before are good."""


class ModelUnavailable(Exception):
    """The model is missing, of another kind, or broken; the same request fails until somebody repairs it."""


class OutOfMemory(Exception):
    """The model, or one image of this size at a time, does not fit into memory."""


class InvalidRequest(Exception):
    """The model cannot render this request; trying again does not help."""


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
    """One image per seed, in this order; a seed alone decides its image's first noise."""


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """One finished image."""

    position: int
    """The index of its seed in the request."""
    image: Image.Image
    """RGB, of the requested size."""
    render_ms: int
    """Wall milliseconds of the pipeline call that painted it, divided by that call's images."""


class Engine(Protocol):
    """A loaded model. One thread at a time."""

    @property
    def model_revision(self) -> str:
        """Changes when the model's files change: a hub commit, or a fingerprint of the local files."""

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[RenderedImage]:
        """Yield each image as soon as it exists, in the order of the seeds.

        `on_step(done, total)` is called after every step, counted over all pipeline calls of the request; `total`
        grows when memory forces more calls. `canceled()` is asked after every step. The work, and every error,
        happens while the caller iterates.
        """
