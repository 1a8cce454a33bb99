"""Numbers and memory layout by configuration: the demo models draw nearly the same pictures."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gpu_worker.demo import SDXL_DEMO, WAN_DEMO
from gpu_worker.engines import RenderedImage, RenderRequest
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.wan import WanEngine
from gpu_worker.tuning import Tuning
from tests.gpu_worker.rendering import a_request, never

PLAIN, BF16, LAST = Tuning(), Tuning(dtype="bf16"), Tuning(channels_last=True)


def a_picture(engine: SdxlEngine | WanEngine, request: RenderRequest) -> np.ndarray:
    made = list(engine.render(request, on_step=lambda done, total: None, canceled=never))
    assert isinstance(made[0], RenderedImage)
    return np.asarray(made[0].image).astype(int)


def sdxl(tuning: Tuning) -> SdxlEngine:
    return SdxlEngine.load(str(SDXL_DEMO), device="cpu", tuning=tuning)


def wan(tuning: Tuning) -> WanEngine:
    return WanEngine.load(str(WAN_DEMO), device="cpu", tuning=tuning)


@pytest.mark.parametrize("load", [sdxl, wan])
@pytest.mark.parametrize("tuning", [BF16, LAST, Tuning(dtype="bf16", channels_last=True)])
def test_tuning_changes_the_numbers_and_hardly_the_picture(
    load: Callable[[Tuning], SdxlEngine | WanEngine], tuning: Tuning
) -> None:
    request = a_request(1, prompt="a red circle", steps=2)
    plain, tuned = load(PLAIN), load(tuning)
    difference = np.abs(a_picture(plain, request) - a_picture(tuned, request))
    assert difference.mean() < 8
    assert (tuned.weights_bytes < plain.weights_bytes) is (tuning.dtype == "bf16")


@pytest.mark.parametrize("load", [sdxl, wan])
def test_channels_come_last_where_it_is_wanted(load: Callable[[Tuning], SdxlEngine | WanEngine]) -> None:
    def layouts(engine: SdxlEngine | WanEngine) -> list[bool]:
        pipeline = engine._pipeline if isinstance(engine, SdxlEngine) else engine._from_words
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        weights = [weight for weight in pipeline.vae.parameters() if weight.dim() in formats]
        return [weight.is_contiguous(memory_format=formats[weight.dim()]) for weight in weights]

    assert all(layouts(load(LAST)))
    assert not all(layouts(load(PLAIN)))
