"""Requests for an engine, and what it painted for them."""

from typing import Any

import numpy as np
import torch

from gpu_worker.engines import RenderedImage, Rendering, RenderRequest
from gpu_worker.engines.diffusers.sdxl import SdxlEngine

STEPS = 3


class Memory:
    """Room for so many images a call; the UNet runs out of it as torch does. Counts the passes that fit and did not."""

    def __init__(self, engine: SdxlEngine, images_max: int) -> None:
        self.images_max = images_max
        self.fitted: list[int] = []
        self.refused: list[int] = []
        engine._pipeline.unet.register_forward_pre_hook(self._forward)

    def _forward(self, _unet: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        images = inputs[0].shape[0] // 2  # with guidance, each image is there twice
        if images > self.images_max:
            self.refused.append(images)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.fitted.append(images)


def a_request(*seeds: int, **changes: Any) -> RenderRequest:
    fields: dict[str, Any] = {
        "prompt": "a small red circle",
        "negative_prompt": "blurry",
        "width": 64,
        "height": 64,
        "steps": STEPS,
        "guidance": 6.0,
        "seeds": seeds,
    }
    return RenderRequest(**(fields | changes))


def never() -> bool:
    return False


def renderings(engine: SdxlEngine, request: RenderRequest) -> list[Rendering]:
    """All that the engine yields."""
    return list(engine.render(request, on_step=lambda done, total: None, canceled=never))


def rendered(engine: SdxlEngine, request: RenderRequest) -> list[RenderedImage]:
    """The images alone."""
    return [rendering for rendering in renderings(engine, request) if isinstance(rendering, RenderedImage)]


def pixels(images: list[RenderedImage]) -> list[np.ndarray]:
    return [np.asarray(image.image).astype(int) for image in images]
