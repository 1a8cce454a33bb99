"""Stable Diffusion XL through diffusers' own pipelines, for the tiny demo model and full ones alike.

The pipeline is `Any` here, because diffusers shows type checkers a placeholder.
"""
# mypy: allow-untyped-calls

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from domain.recipes.recipe import Kind
from gpu_worker.engines import (
    InvalidRequest,
    MemoryLowered,
    ModelUnavailable,
    OutOfMemory,
    OutputFailed,
    RenderCanceled,
    RenderedImage,
    Rendering,
    RenderRequest,
    UnusableOutput,
)
from gpu_worker.engines.device_memory import free_memory
from gpu_worker.engines.diffusers.fitting import fit_of
from gpu_worker.engines.diffusers.ip_adapters import Adapters
from gpu_worker.engines.diffusers.opening import load_engine
from gpu_worker.engines.diffusers.pipelines import StepsOfCalls
from gpu_worker.engines.diffusers.samplers import scheduler_for
from gpu_worker.engines.diffusers.sdxl_files import SDXL
from gpu_worker.engines.diffusers.sdxl_painter import Painter, TooLarge, Work
from gpu_worker.engines.diffusers.sdxl_references import Guidance
from gpu_worker.engines.diffusers.tuned import weights_bytes
from gpu_worker.engines.diffusers.words import Reader, unread_words
from gpu_worker.engines.memory import Experience, Profile
from gpu_worker.tuning import Tuning

TUNING = Tuning()

NOT_FINITE = "The model's arithmetic overflowed: the image has pixels that are no numbers; try another seed or size."


class SdxlEngine:
    """One loaded model, and its experience of how many pixels fit into a call."""

    def __init__(
        self, pipeline: Any, model_revision: str, folder: Path | None = None, *, can_offload: bool | None = None
    ) -> None:
        """Take the pipeline on its device; `folder` is where its IP-Adapter may be.

        `can_offload` by default: models may wait in the machine's memory if the GPU has a memory of its own.
        """
        self.model_revision = model_revision
        self._pipeline = pipeline
        self._adapters = Adapters(pipeline, folder)
        self._painter = Painter(pipeline, self._adapters)
        self._device = pipeline.device
        offloads = self._device.type == "cuda" if can_offload is None else can_offload
        self._experience = Experience(can_offload=offloads)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the model's parts in memory now."""
        return weights_bytes(self._pipeline)

    @classmethod
    def load(cls, source: str, *, device: str | None = None, tuning: Tuning = TUNING) -> Self:
        """Load an SDXL folder, a single .safetensors file or a hub id; on `cuda` in half precision, unless tuned.

        Without a device: `cuda` if available, else `cpu`. A folder never accesses the network; a single file downloads
        the configuration that it lacks from the hub. Raises ModelUnavailable, or OutOfMemory.
        """
        return load_engine(
            SDXL, source, device, tuning, lambda model, on: cls(model.pipeline.to(on), model.revision, model.folder)
        )

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[Rendering]:
        """See Engine.render. The references decide what is done, not the name of the task.

        Starts with all images in one call, and goes down the profiles of engines.memory whenever they do not fit. When
        a call fails for another reason, its images are rendered one by one: those that fail again fail alone, unless
        none is left.
        """
        self._refuse_impossible(request)
        fit_of(request.params)
        guidance = Guidance.of(request.references)
        files = self._adapters.files(guidance.adapted)
        scheduler = scheduler_for(self._pipeline.scheduler, request.params)
        steps, failed, pixels = StepsOfCalls(on_step, canceled), FailedImages(), request.width * request.height
        waiting: Sequence[int] = range(len(request.seeds))
        yield from unread_words(request, self._readers(), reads_negative=self._reads_negative())
        while waiting:
            if canceled():
                raise RenderCanceled("The job was canceled before all of its images were painted.")
            profile = self._experience.profile(1 if failed.apart else len(waiting), pixels)
            now, later = waiting[: profile.images_per_call], waiting[profile.images_per_call :]
            steps.calls_left = -(-len(waiting) // len(now))
            began = time.perf_counter()
            try:
                painted = self._painter.paint(Work(request, guidance, files, scheduler, profile, tuple(now)), steps)
            except Exception as error:
                failed.take(error, now)
                waiting = waiting if len(now) > 1 else later
                continue
            if isinstance(painted, TooLarge):
                yield self._lowered(request, profile, painted.error)
                continue
            render_ms = round((time.perf_counter() - began) * 1000 / len(now))
            for position, image in zip(now, painted, strict=True):
                if image is None:
                    yield OutputFailed(position, UnusableOutput(NOT_FINITE))
                else:
                    failed.siblings_are_good = True
                    yield RenderedImage(position, image, render_ms)
            waiting = later
            steps.calls_done += 1
        yield from failed.outputs()

    def _lowered(self, request: RenderRequest, failed: Profile, error: str) -> MemoryLowered:
        """Free the memory of the last call and go one profile down; raises OutOfMemory after the last one."""
        free_memory()
        pixels = request.width * request.height
        learned = self._experience.lowered(failed, pixels)
        if learned is None:
            raise OutOfMemory(
                f"One image of {request.width} x {request.height} pixels does not fit into the memory of "
                f"{self._device}; ask for a smaller one."
            )
        self._experience = learned
        return MemoryLowered(learned.profile(failed.images_per_call, pixels).name, error)

    def _readers(self) -> list[Reader]:
        """Both text encoders; a model without the first one has only the second."""
        tokenizers = [self._pipeline.tokenizer, self._pipeline.tokenizer_2]
        return [Reader(each, each.model_max_length) for each in tokenizers if each is not None]

    def _reads_negative(self) -> bool:
        """False for a model trained to work without guidance: diffusers ignores the negative prompt."""
        return self._pipeline.unet.config.time_cond_proj_dim is None

    def _refuse_impossible(self, request: RenderRequest) -> None:
        steps_max = self._pipeline.scheduler.config.num_train_timesteps
        if request.kind is not Kind.IMAGE:
            raise InvalidRequest(f"SDXL makes images, but the request is for a {request.kind}.")
        if min(request.width, request.height) < 8 or request.width % 8 or request.height % 8:
            size = f"{request.width} x {request.height}"
            raise InvalidRequest(f"Width and height have to be multiples of 8 from 8 pixels on, but are {size}.")
        if not 1 <= request.steps <= steps_max:
            raise InvalidRequest(
                f"The steps have to be from 1 to {steps_max} with this model, but are {request.steps}."
            )


@dataclass(slots=True)
class FailedImages:
    """Images that failed individually; only a successful one shows that the engine itself is not broken."""

    errors: dict[int, Exception] = field(default_factory=dict)
    apart: bool = False
    siblings_are_good: bool = False

    def take(self, error: Exception, positions: Sequence[int]) -> None:
        """Record the error of one image, or ask for the images of a call one by one. Raises errors that concern all."""
        if isinstance(error, RenderCanceled | ModelUnavailable | torch.AcceleratorError):
            raise error
        self.apart = True
        if len(positions) == 1:
            # Keep the traceback without the variables of its frames: tensors of a whole call.
            traceback.clear_frames(error.__traceback__)
            self.errors[positions[0]] = error

    def outputs(self) -> Iterator[OutputFailed]:
        """Each failed image. Raises the first one's error if no image succeeded."""
        if self.errors and not self.siblings_are_good:
            raise next(iter(self.errors.values()))
        for position, error in self.errors.items():
            yield OutputFailed(position, error)
