"""Stable Diffusion XL through diffusers' own pipeline: the tiny demo model and a full one take the same path.

The pipeline is `Any` here, because diffusers shows type checkers a placeholder.
"""
# mypy: allow-untyped-calls

import gc
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from gpu_worker.engines import (
    InvalidRequest,
    ModelUnavailable,
    OutOfMemory,
    RenderCanceled,
    RenderedImage,
    RenderRequest,
)
from gpu_worker.engines.model_files import fingerprint, require_sdxl, require_sdxl_file, weights_variant

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")

OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""How torch's CPU allocator and CUDA's libraries put it in a plain RuntimeError."""


class SdxlEngine:
    """One loaded pipeline, and how many pixels fit into one call of it."""

    def __init__(self, pipeline: Any, model_revision: str) -> None:
        self.model_revision = model_revision
        self._pipeline = pipeline
        self._vae_dtype = pipeline.vae.dtype
        self._pixels_per_call_max: int | None = None
        pipeline.set_progress_bar_config(disable=True)
        # Decoding the images of a call one by one takes a fraction of the memory and no longer.
        pipeline.vae.enable_slicing()

    @classmethod
    def load(cls, source: str, *, device: str | None = None) -> Self:
        """Load an SDXL folder, a single .safetensors file or a hub id; on `cuda` in half precision.

        Without a device: `cuda` where there is one, else `cpu`. A folder never asks the network; a single file asks the
        hub for the configuration that it lacks. Raises ModelUnavailable, or OutOfMemory.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        keep_quiet()
        try:
            pipeline, revision = open_model(source, dtype)
            return cls(pipeline.to(device), revision)
        except ModelUnavailable:
            raise
        # The libraries let through what a broken part raised: OSError, ValueError, KeyError, SafetensorError, others.
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory(f"The model {source} does not fit into the memory of {device}.") from None
            raise ModelUnavailable(f"The model {source} cannot be loaded: {one_line(error)}") from None

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[RenderedImage]:
        """See Engine.render. Starts with all images in one call, and halves that whenever they do not fit."""
        self._refuse_impossible(request)
        pixels = request.width * request.height
        steps = StepsOfCalls(on_step, canceled)
        waiting: Sequence[int] = range(len(request.seeds))
        while waiting:
            if canceled():
                raise RenderCanceled("The job was canceled before all of its images were painted.")
            size = min(len(waiting), self._images_per_call(pixels) or len(waiting))
            steps.calls_left = -(-len(waiting) // size)
            began = time.perf_counter()
            images = self._paint(request, waiting[:size], steps)
            if images is None:
                self._shrink(request, size)
                continue
            render_ms = round((time.perf_counter() - began) * 1000 / size)
            for position, image in zip(waiting[:size], images, strict=True):
                yield RenderedImage(position, image, render_ms)
            waiting = waiting[size:]
            steps.calls_done += 1

    def _refuse_impossible(self, request: RenderRequest) -> None:
        steps_max = self._pipeline.scheduler.config.num_train_timesteps
        if min(request.width, request.height) < 8 or request.width % 8 or request.height % 8:
            size = f"{request.width} x {request.height}"
            raise InvalidRequest(f"Width and height have to be multiples of 8 from 8 pixels on, but are {size}.")
        if not 1 <= request.steps <= steps_max:
            raise InvalidRequest(
                f"The steps have to be from 1 to {steps_max} with this model, but are {request.steps}."
            )

    def _images_per_call(self, pixels: int) -> int | None:
        """Return how many images of so many pixels fit, as far as earlier calls have shown; None if they all did."""
        return None if self._pixels_per_call_max is None else max(self._pixels_per_call_max // pixels, 1)

    def _paint(
        self, request: RenderRequest, positions: Sequence[int], steps: "StepsOfCalls"
    ) -> list[Image.Image] | None:
        """Paint these images in one pipeline call; None when they do not fit into memory."""
        if self._pipeline.vae.dtype != self._vae_dtype:
            # A call that broke off while it decoded left the half-precision VAE in full precision.
            self._pipeline.vae.to(dtype=self._vae_dtype)
        # Noise drawn on the CPU is the same for every device.
        generators = [torch.Generator("cpu").manual_seed(request.seeds[position]) for position in positions]
        try:
            painted = self._pipeline(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                width=request.width,
                height=request.height,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                num_images_per_prompt=len(positions),
                generator=generators,
                callback_on_step_end=steps,
                callback_on_step_end_tensor_inputs=[],
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return list(painted.images)

    def _shrink(self, request: RenderRequest, size: int) -> None:
        """Free what the last call held, and halve the next ones; raise OutOfMemory where it had a single image."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if size == 1:
            raise OutOfMemory(
                f"One image of {request.width} x {request.height} pixels does not fit into the memory of "
                f"{self._pipeline.device}; ask for a smaller one."
            )
        self._pixels_per_call_max = size // 2 * request.width * request.height


@dataclass(slots=True)
class StepsOfCalls:
    """Called by the pipeline after each step: counts over all calls of a request, and ends it when it is canceled."""

    on_step: Callable[[int, int], None]
    canceled: Callable[[], bool]
    calls_done: int = 0
    calls_left: int = 0

    def __call__(self, pipeline: Any, step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        steps = pipeline.num_timesteps
        self.on_step(self.calls_done * steps + step + 1, (self.calls_done + self.calls_left) * steps)
        if self.canceled():
            raise RenderCanceled(f"The job was canceled after step {step + 1} of {steps}.")
        return {}


def keep_quiet() -> None:
    """Keep the bars and notes of the libraries out of the worker's log."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # diffusers calls this deprecated method of its own in every half-precision call.
    warnings.filterwarnings("ignore", message=".*upcast_vae.*", category=FutureWarning)


def open_model(source: str, dtype: torch.dtype) -> tuple[Any, str]:
    """Return the pipeline of a folder, a file or a hub id, and its revision."""
    path = Path(source).expanduser()
    if path.is_dir():
        return from_folder(path, dtype), fingerprint(path)
    if path.is_file():
        return from_file(path, dtype), fingerprint(path)
    if HUB_ID.fullmatch(source):
        snapshot = download(source)
        return from_folder(snapshot, dtype), snapshot.name
    raise ModelUnavailable(
        f"There is no model at {path}; give the path of an SDXL folder or .safetensors file, or a hub id."
    )


def from_folder(folder: Path, dtype: torch.dtype) -> Any:
    """Load what save_pretrained wrote, and nothing from elsewhere."""
    require_sdxl(folder)
    return StableDiffusionXLPipeline.from_pretrained(
        str(folder), dtype=dtype, variant=weights_variant(folder), use_safetensors=True, local_files_only=True
    )


def from_file(file: Path, dtype: torch.dtype) -> Any:
    """Load a single checkpoint; its configuration comes from the hub, or from the hub's cache on this machine."""
    require_sdxl_file(file)
    try:
        return StableDiffusionXLPipeline.from_single_file(str(file), dtype=dtype, use_safetensors=True)
    except OSError as error:
        raise ModelUnavailable(
            f"The model file {file} cannot be loaded without its configuration from the hub ({one_line(error)}); "
            "give a folder that save_pretrained wrote."
        ) from None


def download(hub_id: str) -> Path:
    """Return the folder of a hub model in the cache on this machine, after fetching what it lacks."""
    try:
        return Path(StableDiffusionXLPipeline.download(hub_id, use_safetensors=True))
    except Exception as error:
        raise ModelUnavailable(
            f"{hub_id} is no folder here, and as a hub id it cannot be fetched: {one_line(error)}"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the GPU's or the machine's memory was too small."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    )


def one_line(error: BaseException) -> str:
    """Return the first line of an error, at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
