"""Convert the references of a request for SDXL: an image to start from, and images for the IP-Adapter. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_worker.engines import GivenReference, InvalidRequest

Scale = float | dict[str, dict[str, list[float]]]
"""Scale of one IP-Adapter: the same in every layer, or by block and layer; missing ones get 0."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """The references of a request, sorted: at most one to start from, any number for the IP-Adapter."""

    composition: GivenReference | None
    adapted: tuple[GivenReference, ...]

    @classmethod
    def of(cls, references: Sequence[GivenReference]) -> "Guidance":
        """Sort them. Raises InvalidRequest for a second composition: an image can start only from one."""
        compositions = [reference for reference in references if reference.type == "composition"]
        if len(compositions) > 1:
            raise InvalidRequest(
                f"SDXL takes one composition reference, but the request has {len(compositions)}; leave one of them."
            )
        adapted = tuple(reference for reference in references if reference.type != "composition")
        return cls(compositions[0] if compositions else None, adapted)


def denoising_steps(steps: int, strength: float) -> int:
    """How many of the last steps a composition leaves to the model: 1.1 - strength of them, at least one.

    Image to image starts from the reference with noise for so many steps (SDEdit, arXiv 2108.01073): fewer steps keep
    more of it. A strength of 0.1 uses all steps and keeps little but the colours; 1.0 uses a tenth.
    """
    return max(round(steps * (1.1 - strength)), 1)


def denoising_strength(steps: int, strength: float) -> float:
    """The `strength` of diffusers for so many steps: it uses int(steps x strength) of them, and floats round down."""
    return min((denoising_steps(steps, strength) + 0.5) / steps, 1.0)


def scale_of(reference: GivenReference, layers: int) -> Scale:
    """The scale of a reference's IP-Adapter (arXiv 2308.06721); the first up block has `layers` layers.

    A character applies to every layer, by its strength. A style applies only to the layer that carries style alone, the
    second of the first up block, so that it adds no objects (InstantStyle, arXiv 2404.02733).
    """
    if reference.type == "style":
        return {"up": {"block_0": [reference.strength if layer == 1 else 0.0 for layer in range(layers)]}}
    return reference.strength
