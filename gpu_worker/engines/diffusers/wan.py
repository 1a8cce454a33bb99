"""Wan through diffusers' own pipelines: videos from text, from an image, and from the end of a video; single frames.

The files in a model's folder decide which of these it supports:

- a transformer that takes only noise: from text (Wan 2.1 T2V);
- one that takes an image's latents in addition to the noise: from an image (Wan 2.1 and 2.2 I2V);
- `expand_timesteps`, a timestep for each token, so that a first frame can be given: both (Wan 2.2 TI2V).

The pipelines are `Any` here, because diffusers shows type checkers a placeholder.
"""
# mypy: allow-untyped-calls

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from numpy.typing import NDArray
from PIL import Image

from domain.recipes.recipe import Kind
from gpu_worker.engines import (
    MemoryLowered,
    OutOfMemory,
    RenderCanceled,
    RenderedImage,
    RenderedVideo,
    RenderRequest,
    Warned,
)
from gpu_worker.engines.device_memory import free_memory, is_out_of_memory
from gpu_worker.engines.diffusers.opening import Family, load_engine
from gpu_worker.engines.diffusers.pipelines import StepsOfCalls
from gpu_worker.engines.diffusers.tuned import weights_bytes
from gpu_worker.engines.diffusers.wan_request import Abilities, WanPlan, plan_of
from gpu_worker.engines.diffusers.words import Reader, unread_words
from gpu_worker.engines.model_files import require_wan, weights_variant
from gpu_worker.tuning import Tuning
from services.observability.redaction import one_line

TUNING = Tuning()

TOKENS_MAX = 512
"""Maximum tokens of a prompt that Wan was trained with, including the end token."""

VAE_TILING, CPU_OFFLOAD = "vae_tiling", "cpu_offload"
"""Memory profiles, in this order: frames decoded tile by tile; then each part on the GPU only while it works."""


class WanEngine:
    """One loaded model and its memory profile."""

    def __init__(self, pipeline: Any, model_revision: str, device: str = "cpu") -> None:
        """Take a pipeline on the CPU. Raises torch's errors when it does not fit onto the device, even in parts."""
        self.model_revision = model_revision
        self._device = device
        self._from_words, self._from_picture = pipelines_of(pipeline)
        self._vae = pipeline.vae
        self._abilities = abilities_of(pipeline, words=bool(self._from_words), picture=bool(self._from_picture))
        self._profiles_left = [VAE_TILING, CPU_OFFLOAD] if device.startswith("cuda") else [VAE_TILING]
        self._offloaded = False
        self._unsaid: list[MemoryLowered] = []
        for each in (self._from_words, self._from_picture):
            if each is not None:
                each.set_progress_bar_config(disable=True)
        too_much = moved(pipeline, device)
        if too_much is not None:
            self._profiles_left = []
            self._vae.enable_tiling()
            self._offloaded = True
            self._unsaid.append(MemoryLowered(CPU_OFFLOAD, too_much))

    @property
    def weights_bytes(self) -> int:
        """Bytes of the model's parts in memory; both pipelines share them."""
        return weights_bytes(self._from_words or self._from_picture)

    @classmethod
    def load(cls, source: str, *, device: str | None = None, tuning: Tuning = TUNING) -> Self:
        """Load a Wan folder or a hub id; on `cuda` in bfloat16, the autoencoder in full precision as Wan requires.

        Without a device: `cuda` if available, else `cpu`. A folder never accesses the network. Raises ModelUnavailable,
        or OutOfMemory.
        """
        return load_engine(WAN, source, device, tuning, lambda model, on: cls(model.pipeline, model.revision, on))

    def render(
        self, request: RenderRequest, *, on_step: Callable[[int, int], None], canceled: Callable[[], bool]
    ) -> Iterator[RenderedImage | RenderedVideo | MemoryLowered | Warned]:
        """See Engine.render. One pipeline call for each output; one that does not fit is retried with less memory."""
        plan = plan_of(request, self._abilities)
        pipeline = self._from_words if plan.start is None else self._from_picture
        yield from unread_words(request, [Reader(pipeline.tokenizer, TOKENS_MAX)])
        yield from plan.losses
        yield from self._unsaid
        self._unsaid = []
        steps = StepsOfCalls(on_step, canceled)
        for position in range(len(request.seeds)):
            frames: NDArray[np.uint8] | str = ""
            began = time.perf_counter()
            while isinstance(frames, str):
                if canceled():
                    raise RenderCanceled("The job was canceled before all of its outputs were rendered.")
                steps.calls_left = len(request.seeds) - position
                frames = self._make(request, plan, position, steps)
                if isinstance(frames, str):
                    yield self._lowered(plan, frames)
            render_ms = round((time.perf_counter() - began) * 1000)
            if request.kind is Kind.IMAGE:
                yield RenderedImage(position, Image.fromarray(frames[0]), render_ms)
            else:
                yield RenderedVideo(position, plan.joined(frames), plan.fps, render_ms, plan.sound)
            steps.calls_done += 1

    def _make(
        self, request: RenderRequest, plan: WanPlan, position: int, steps: StepsOfCalls
    ) -> NDArray[np.uint8] | str:
        """The frames of one pipeline call; or the out-of-memory error as text, which holds no tensors."""
        pipeline = self._from_words if plan.start is None else self._from_picture
        pipeline.scheduler = plan.scheduler()
        try:
            if self._offloaded:
                pipeline.enable_model_cpu_offload(device=self._device)
            made = pipeline(
                **({} if plan.start is None else {"image": plan.start}),
                prompt=request.prompt,
                max_sequence_length=TOKENS_MAX,
                negative_prompt=request.negative_prompt,
                width=plan.width,
                height=plan.height,
                num_frames=plan.frames,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                # Noise drawn on the CPU is the same for every device.
                generator=torch.Generator("cpu").manual_seed(request.seeds[position]),
                output_type="np",
                callback_on_step_end=steps,
                callback_on_step_end_tensor_inputs=[],
            ).frames[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return one_line(error)
        return np.asarray((made * 255).round(), dtype=np.uint8)

    def _lowered(self, plan: WanPlan, error: str) -> MemoryLowered:
        """Free the memory of the last call and go to the next profile; raises OutOfMemory after the last one."""
        free_memory()
        if not self._profiles_left:
            raise OutOfMemory(
                f"{plan.frames} frames of {plan.width} x {plan.height} pixels do not fit into the memory of "
                f"{self._device}; ask for fewer or smaller ones."
            )
        profile = self._profiles_left.pop(0)
        if profile == VAE_TILING:
            self._vae.enable_tiling()
            self._vae.enable_slicing()
        else:
            self._offloaded = True
        return MemoryLowered(profile, error)


def pipelines_of(pipeline: Any) -> tuple[Any, Any]:
    """The pipelines from text and from an image, sharing the weights; None for one that the model does not support."""
    parts = pipeline.components
    takes_picture = channels_of_pictures(pipeline) > 0
    shared = {name: part for name, part in parts.items() if name not in {"image_encoder", "image_processor"}}
    how = {name: pipeline.config[name] for name in ("boundary_ratio", "expand_timesteps")}
    from_words = None if takes_picture else WanPipeline(**shared, **how)
    if takes_picture or pipeline.config["expand_timesteps"]:
        return from_words, WanImageToVideoPipeline(**parts, **how)
    return from_words, None


def abilities_of(pipeline: Any, *, words: bool, picture: bool) -> Abilities:
    """What a request can ask of the model."""
    tokens = transformer_of(pipeline).config.patch_size
    return Abilities(
        words=words,
        picture=picture,
        steps_max=pipeline.scheduler.config.num_train_timesteps,
        height_step=pipeline.vae.config.scale_factor_spatial * tokens[1],
        width_step=pipeline.vae.config.scale_factor_spatial * tokens[2],
        frames_step=pipeline.vae.config.scale_factor_temporal,
    )


def channels_of_pictures(pipeline: Any) -> int:
    """The number of channels that the transformer takes in addition to the noise: an image's latents and their mask."""
    return int(transformer_of(pipeline).config.in_channels) - int(pipeline.vae.config.z_dim)


def transformer_of(pipeline: Any) -> Any:
    """The transformer; either one for a model in two stages."""
    return pipeline.transformer or pipeline.transformer_2


def moved(pipeline: Any, device: str) -> str | None:
    """Move the model to the device; if a GPU is too small, move it back to the CPU and return the error."""
    try:
        pipeline.to(device)
    except RuntimeError as error:
        if not (is_out_of_memory(error) and device.startswith("cuda")):
            raise
        too_much = one_line(error)
    else:
        return None
    pipeline.to("cpu")
    free_memory()
    return too_much


def from_folder(folder: Path, dtype: torch.dtype) -> Any:
    """Load what save_pretrained wrote, and nothing from elsewhere."""
    kind = {"WanPipeline": WanPipeline, "WanImageToVideoPipeline": WanImageToVideoPipeline}[require_wan(folder)]
    return kind.from_pretrained(
        str(folder),
        dtype={"vae": torch.float32, "default": dtype},
        variant=weights_variant(folder, "transformer"),
        use_safetensors=True,
        local_files_only=True,
    )


WAN: Final = Family(WanPipeline, sources="a Wan folder", dtype_on_cuda=torch.bfloat16, from_folder=from_folder)
