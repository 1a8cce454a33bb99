"""One call of an SDXL pipeline: its preparation and its result."""
# mypy: allow-untyped-calls

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image

from gpu_worker.engines import RenderRequest
from gpu_worker.engines.device_memory import is_out_of_memory
from gpu_worker.engines.diffusers.fitting import fit_of, fitted, squared
from gpu_worker.engines.diffusers.ip_adapters import Adapters
from gpu_worker.engines.diffusers.sdxl_references import Guidance, denoising_strength
from gpu_worker.engines.memory import Offload, Profile
from services.observability.redaction import one_line

TILE_LATENTS_MAX = 64
TILE_LATENTS_MIN = 8
"""Sides of a VAE tile, in latents: 512 pixels, a quarter of an SDXL image, and 64, of which a quarter can blend."""

OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Work:
    """The images of one call: those at `positions` of the request, rendered with the profile."""

    request: RenderRequest
    guidance: Guidance
    adapter_files: tuple[str, ...]
    scheduler: Any
    profile: Profile
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The call did not fit into memory; `error` is the line of the error."""

    error: str


class Painter:
    """A loaded pipeline, prepared for each call and restored after it."""

    def __init__(self, pipeline: Any, adapters: Adapters) -> None:
        self._pipeline = pipeline
        self._adapters = adapters
        self._device = pipeline.device
        self._vae_dtype = pipeline.vae.dtype
        self._offload = Offload.NOTHING
        pipeline.set_progress_bar_config(disable=True)
        # Decoding the images of a call one by one takes a fraction of the memory and no more time.
        pipeline.vae.enable_slicing()

    def paint(self, work: Work, on_step: OnStep) -> list[Image.Image | None] | TooLarge:
        """Render these images in one call; None for one with pixels that are not finite.

        Raises ModelUnavailable for a broken IP-Adapter, and exceptions of `on_step` and of the pipeline.
        """
        try:
            return [image_of(pixels) for pixels in self._painted(work, on_step)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Only its line: the error's frames hold the tensors that must be freed.
            return TooLarge(one_line(error))

    def _painted(self, work: Work, on_step: OnStep) -> NDArray[np.float32]:
        """An array [images, height, width, 3], from 0 to 1, or NaN where half precision overflowed."""
        request, guidance, own_scheduler = work.request, work.guidance, self._pipeline.scheduler
        self._pipeline.scheduler = work.scheduler
        try:
            self._ready(work)
            pipeline = self._pipeline
            fit = fit_of(request.params)
            arguments: dict[str, Any] = {"width": request.width, "height": request.height}
            if guidance.composition:
                pipeline = self._image_to_image()
                arguments = {
                    "image": fitted(guidance.composition.image, request.width, request.height, fit),
                    "strength": denoising_strength(request.steps, guidance.composition.strength),
                }
            if guidance.adapted:
                arguments["ip_adapter_image"] = [squared(reference.image, fit) for reference in guidance.adapted]
            self._place(pipeline, work.profile.offload)
            painted = pipeline(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                num_images_per_prompt=len(work.positions),
                # Noise drawn on the CPU is the same for every device.
                generator=[torch.Generator("cpu").manual_seed(request.seeds[n]) for n in work.positions],
                output_type="np",
                callback_on_step_end=on_step,
                callback_on_step_end_tensor_inputs=[],
                **arguments,
            )
        finally:
            self._pipeline.scheduler = own_scheduler
        pixels: NDArray[np.float32] = painted.images
        return pixels

    def _ready(self, work: Work) -> None:
        """Add or remove the IP-Adapter, and configure the VAE."""
        vae = self._pipeline.vae
        if work.adapter_files != self._adapters.loaded:
            self._place(self._pipeline, Offload.NOTHING)  # an adapter is loaded to the device of the rest
        self._adapters.use(work.adapter_files, work.guidance.adapted)
        if vae.dtype != self._vae_dtype:
            # A call that failed while decoding left the half-precision VAE in full precision.
            vae.to(dtype=self._vae_dtype)
        vae.use_tiling = work.profile.tiled
        if work.profile.tiled:
            scale = self._pipeline.vae_scale_factor
            half = max(work.request.width, work.request.height) // scale // 2
            # The VAE's default tiles are as large as its training images: an image of 1024 would be one tile. A quarter
            # of a tile blends into the next: latents that are not a multiple of four would give an image of another
            # size.
            vae.tile_latent_min_size = min(max(half // 4 * 4, TILE_LATENTS_MIN), TILE_LATENTS_MAX)
            vae.tile_sample_min_size = vae.tile_latent_min_size * scale

    def _image_to_image(self) -> Any:
        """A pipeline of the same parts, including those of the IP-Adapter: nothing is loaded twice."""
        pipeline: Any = StableDiffusionXLImg2ImgPipeline(
            **self._pipeline.components,
            force_zeros_for_empty_prompt=self._pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=self._pipeline.watermark is not None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _place(self, pipeline: Any, offload: Offload) -> None:
        """Move the parts as this offloading requires; the hooks that move them to the GPU belong to this pipeline."""
        if offload is Offload.NOTHING and self._offload is Offload.NOTHING:
            return
        self._pipeline.remove_all_hooks()
        if offload is Offload.NOTHING:
            pipeline.to(self._device)
        elif offload is Offload.MODELS:
            pipeline.enable_model_cpu_offload(device=self._device)
        else:
            pipeline.enable_sequential_cpu_offload(device=self._device)
        self._offload = offload


def image_of(pixels: NDArray[np.float32]) -> Image.Image | None:
    """The image of [height, width, 3] from 0 to 1, rounded as in diffusers; None if a pixel is not finite.

    Cast to bytes, such pixels would be black, with only the warning "invalid value encountered in cast".
    """
    if not np.isfinite(pixels).all():
        return None
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
