"""Memory profiles: what to try, in which order, when a request does not fit. Pure; the engines apply them.

All images in one call → half as many, again and again → one image a call → the VAE in tiles → on a GPU, models wait in
the machine's memory → their layers, too → given up. Each step needs less memory than the one before, and takes longer;
only tiles change the image, by blending where they meet.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self


class Offload(IntEnum):
    """Parts that wait in the machine's memory until the GPU needs them."""

    NOTHING = 0
    MODELS = 1
    LAYERS = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """How the images of a request are rendered."""

    images_per_call: int
    tiled: bool = False
    offload: Offload = Offload.NOTHING

    @property
    def name(self) -> str:
        """The profile's name in the ledger."""
        parts = [f"{self.images_per_call} image{'' if self.images_per_call == 1 else 's'} a call"]
        if self.tiled:
            parts.append("VAE in tiles")
        if self.offload:
            parts.append(f"{self.offload.name.lower()} offloaded")
        return ", ".join(parts)

    def lower(self, *, can_offload: bool) -> "Profile | None":
        """The next smaller profile; None if there is none. The sequence is finite, so recovery always ends."""
        if self.images_per_call > 1:
            return replace(self, images_per_call=self.images_per_call // 2)
        if not self.tiled:
            return replace(self, tiled=True)
        if can_offload and self.offload < Offload.LAYERS:
            return replace(self, offload=Offload(self.offload + 1))
        return None


@dataclass(frozen=True, slots=True)
class Experience:
    """What earlier out-of-memory errors showed about a model on a device.

    `pixels_per_call_max` counts the pixels of all images of a call; the others are the pixels of the smallest image
    that needed the VAE in tiles, and models or layers offloaded. None: this never happened.
    """

    can_offload: bool
    pixels_per_call_max: int | None = None
    tiled_from_pixels: int | None = None
    models_offloaded_from_pixels: int | None = None
    layers_offloaded_from_pixels: int | None = None

    def profile(self, images: int, pixels: int) -> Profile:
        """The profile for `images` images of `pixels` pixels each, according to experience."""
        fitting = images if self.pixels_per_call_max is None else max(self.pixels_per_call_max // pixels, 1)
        offload = Offload.NOTHING
        if reaches(pixels, self.layers_offloaded_from_pixels):
            offload = Offload.LAYERS
        elif reaches(pixels, self.models_offloaded_from_pixels):
            offload = Offload.MODELS
        return Profile(min(fitting, images), reaches(pixels, self.tiled_from_pixels), offload)

    def lowered(self, failed: Profile, pixels: int) -> Self | None:
        """Record that a call with this profile ran out of memory; None if there is no smaller profile."""
        lower = failed.lower(can_offload=self.can_offload)
        if lower is None:
            return None
        learned = replace(self, pixels_per_call_max=lower.images_per_call * pixels)
        if lower.offload is Offload.LAYERS:
            return replace(learned, layers_offloaded_from_pixels=least(pixels, self.layers_offloaded_from_pixels))
        if lower.offload is Offload.MODELS:
            return replace(learned, models_offloaded_from_pixels=least(pixels, self.models_offloaded_from_pixels))
        if lower.tiled:
            return replace(learned, tiled_from_pixels=least(pixels, self.tiled_from_pixels))
        return learned


def reaches(pixels: int, bound: int | None) -> bool:
    return bound is not None and pixels >= bound


def least(pixels: int, bound: int | None) -> int:
    return pixels if bound is None else min(pixels, bound)
