"""What the references of a request mean to SDXL: a picture to start from, and pictures for the IP-Adapter. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_worker.engines import GivenReference, InvalidRequest

Scale = float | dict[str, dict[str, list[float]]]
"""Of one IP-Adapter: the same in every layer, or by block and layer; those not named get 0."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """The references of a request, sorted: at most one to start from, any number for the IP-Adapter."""

    composition: GivenReference | None
    adapted: tuple[GivenReference, ...]

    @classmethod
    def of(cls, references: Sequence[GivenReference]) -> "Guidance":
        """Sort them. Raises InvalidRequest for a second composition: a picture has one beginning."""
        compositions = [reference for reference in references if reference.type == "composition"]
        if len(compositions) > 1:
            raise InvalidRequest(
                f"SDXL takes one composition reference, but the request has {len(compositions)}; leave one of them."
            )
        adapted = tuple(reference for reference in references if reference.type != "composition")
        return cls(compositions[0] if compositions else None, adapted)


def denoising_steps(steps: int, strength: float) -> int:
    """Return how many of the last steps a composition leaves to the model: 1.1 - strength of them, at least one.

    Image to image starts from the reference with noise for so many steps (SDEdit, arXiv 2108.01073): fewer of them
    leave more of it. A strength of 0.1 paints with all steps and keeps little but the colours; 1.0 with a tenth.
    """
    return max(round(steps * (1.1 - strength)), 1)


def denoising_strength(steps: int, strength: float) -> float:
    """Return diffusers' `strength` for so many steps: it takes int(steps x strength) of them, and floats round down."""
    return min((denoising_steps(steps, strength) + 0.5) / steps, 1.0)


def scale_of(reference: GivenReference, layers: int) -> Scale:
    """Return the scale of a reference's IP-Adapter (arXiv 2308.06721); the first up block has so many layers.

    A character is wanted whole: every layer, by its strength. A style goes into the one layer that carries style alone,
    the second of the first up block, so that it brings no objects along (InstantStyle, arXiv 2404.02733).
    """
    if reference.type == "style":
        return {"up": {"block_0": [reference.strength if layer == 1 else 0.0 for layer in range(layers)]}}
    return reference.strength
