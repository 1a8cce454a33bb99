"""The SDXL engine when things go wrong: memory that runs out at any place, and images that fail alone."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpu_worker.engines import (
    GivenReference,
    MemoryLowered,
    OutOfMemory,
    OutputFailed,
    RenderedImage,
    Rendering,
    UnusableOutput,
)
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.sdxl_files import from_folder
from tests.gpu_worker.rendering import STEPS, Memory, a_request, never, pixels, rendered, renderings
from tests.gpu_worker.tiny_ip_adapter import install

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ERROR = "CUDA out of memory. Tried to allocate 2.00 GiB."


def told(what: list[Rendering]) -> list[str | int]:
    """Profiles and positions, in the order in which they came."""
    return [each.profile if isinstance(each, MemoryLowered) else each.position for each in what]


def test_images_that_do_not_fit_are_halved_and_that_is_remembered(engine: SdxlEngine) -> None:
    memory, steps = Memory(engine, images_max=2), []
    images = list(engine.render(a_request(1, 2, 3, 4), on_step=lambda *step: steps.append(step), canceled=never))
    assert told(images) == ["2 images a call", 0, 1, 2, 3]
    assert images[0] == MemoryLowered("2 images a call", ERROR)
    assert (memory.refused, memory.fitted) == ([4], [2] * 2 * STEPS)
    assert steps == [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
    rendered(engine, a_request(1, 2, 3, 4))
    assert memory.refused == [4]
    memory.images_max = 4
    rendered(engine, a_request(1, 2, 3, 4, width=32, height=64))
    assert memory.fitted[-STEPS:] == [4] * STEPS, "twice as many of half the size"


def test_no_image_is_painted_twice_when_memory_shrinks_midway(engine: SdxlEngine) -> None:
    memory = Memory(engine, images_max=2)
    images = engine.render(a_request(1, 2, 3, 4), on_step=lambda done, total: None, canceled=never)
    first = [next(images), next(images), next(images)]
    memory.images_max = 1
    assert told([*first, *images]) == ["2 images a call", 0, 1, "1 image a call", 2, 3]
    assert memory.refused == [4, 2]
    assert memory.fitted == [2] * STEPS + [1] * 2 * STEPS


def test_the_pixels_are_those_of_the_whole_batch_after_halving(engine: SdxlEngine, demo_folder: Path) -> None:
    Memory(engine, images_max=1)
    whole = pixels(rendered(SdxlEngine.load(str(demo_folder), device="cpu"), a_request(1, 2)))
    for one, other in zip(whole, pixels(rendered(engine, a_request(1, 2))), strict=True):
        assert np.abs(one - other).max() <= 3


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")
def test_running_out_of_memory_while_decoding_leaves_half_precision_as_it_was(demo_folder: Path) -> None:
    engine = SdxlEngine(from_folder(demo_folder, torch.float16), "half precision, as on a GPU")
    whole = rendered(engine, a_request(1, 2))
    decodes: list[torch.dtype] = []

    def second_fails(_decoder: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        decodes.append(inputs[0].dtype)
        if len(decodes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    engine._pipeline.vae.decoder.register_forward_pre_hook(second_fails)
    halved = rendered(engine, a_request(1, 2))
    assert decodes == [torch.float32] * 4
    for one, other in zip(pixels(whole), pixels(halved), strict=True):
        assert np.abs(one - other).mean() < 2


def test_the_ladder_goes_down_to_its_end_and_the_next_call_begins_there(engine: SdxlEngine) -> None:
    memory = Memory(engine, images_max=0)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match="One image of 64 x 64 pixels does not fit into the memory of cpu"):
            renderings(engine, a_request(1, 2, 3, 4))
    assert memory.refused == [4, 2, 1, 1, 1]
    memory.images_max = 9
    assert told(renderings(engine, a_request(1, 2))) == [0, 1]
    assert memory.fitted == [1] * 2 * STEPS


def test_a_vae_that_runs_out_of_memory_decodes_in_tiles(engine: SdxlEngine, demo_folder: Path) -> None:
    """It stands for a GPU on which the decoder takes no more than 12 x 12 latents."""
    whole = pixels(rendered(SdxlEngine.load(str(demo_folder), device="cpu"), a_request(1, width=160, height=128)))
    decoded: list[tuple[int, int]] = []

    def decode(_decoder: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        if height * width > 150:
            raise torch.OutOfMemoryError(ERROR)
        decoded.append((width, height))

    engine._pipeline.vae.decoder.register_forward_pre_hook(decode)
    painted = renderings(engine, a_request(1, 2, width=160, height=128))
    assert told(painted) == ["1 image a call", "1 image a call, VAE in tiles", 0, 1]
    assert max(decoded) == (8, 8)
    images = pixels([image for image in painted if isinstance(image, RenderedImage)])
    assert images[0].shape == (128, 160, 3)
    assert np.abs(images[0] - whole[0]).mean() < np.abs(images[1] - whole[0]).mean() / 2, "another picture would be"
    decoded.clear()
    assert told(renderings(engine, a_request(1, width=96, height=96))) == [0]
    assert decoded == [(12, 12)], "a smaller image needs no tiles"


@pytest.fixture(scope="module")
def demo_folder(random_sdxl: Path) -> Path:
    """A model that follows whatever it is given, and has the layers of the full one."""
    return random_sdxl


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=on_a_gpu)])
def offloading(request: pytest.FixtureRequest, demo_folder: Path, tmp_path: Path) -> SdxlEngine:
    """A model with an adapter that may be offloaded, also where it runs on the CPU: the hooks are those of a GPU."""
    folder = tmp_path / "model"
    shutil.copytree(demo_folder, folder)
    install(folder, "both.safetensors")
    pipeline = from_folder(folder, torch.float32).to(request.param)
    return SdxlEngine(pipeline, "offloading", folder, can_offload=True)


def runs_out(engine: SdxlEngine, times: int) -> None:
    """The next so many calls of the UNet."""
    left = [times]

    def forward(*_: object) -> None:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError(ERROR)

    engine._pipeline.unet.register_forward_pre_hook(forward)


@pytest.mark.parametrize("what", ["models", pytest.param("layers", marks=on_a_gpu)])
def test_an_offloaded_model_paints_the_same_and_takes_references_and_lets_go_of_them(
    offloading: SdxlEngine, what: str
) -> None:
    """Layers need a GPU: accelerate takes the device that diffusers names, cpu:0, for another one than cpu."""
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    references = (GivenReference("composition", red, 0.5), GivenReference("character", red, 0.8))
    plain, guided = a_request(1), a_request(1, references=references)
    smaller = a_request(1, width=32, height=32)
    before = [rendered(offloading, request)[0].image.tobytes() for request in (plain, guided, smaller)]
    device = offloading._pipeline.device
    ladder = ["1 image a call", "1 image a call, VAE in tiles", "1 image a call, VAE in tiles, models offloaded"]
    if what == "layers":
        ladder.append("1 image a call, VAE in tiles, layers offloaded")
    runs_out(offloading, len(ladder))
    assert told(renderings(offloading, a_request(1, 2))) == [*ladder, 0, 1]
    assert hasattr(offloading._pipeline.unet, "_hf_hook")
    for _ in range(2):
        assert [rendered(offloading, request)[0].image.tobytes() for request in (plain, guided, smaller)] == before
    assert not hasattr(offloading._pipeline.unet, "_hf_hook"), "a smaller image needs no offloading"
    assert all(weights.device == device for weights in offloading._pipeline.unet.parameters())


def test_memory_that_runs_out_while_an_adapter_is_loaded_is_recovered_from(
    offloading: SdxlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 30))
    request = a_request(1, references=(GivenReference("style", red, 0.8),))
    before = rendered(offloading, request)[0].image.tobytes()
    rendered(offloading, a_request(1))
    load, asked = offloading._pipeline.unet._load_ip_adapter_weights, []

    def second_fits(*arguments: Any, **named: Any) -> None:
        load(*arguments, **named)
        asked.append(arguments)
        if len(asked) == 1:
            raise torch.OutOfMemoryError(ERROR)

    monkeypatch.setattr(offloading._pipeline.unet, "_load_ip_adapter_weights", second_fits)
    painted = renderings(offloading, request)
    assert told(painted) == ["1 image a call, VAE in tiles", 0]
    assert isinstance(painted[1], RenderedImage)
    assert painted[1].image.tobytes() == before


def poison(engine: SdxlEngine, seeds: set[int], harm: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Do harm to the latents of these seeds in the decoder, which takes one image at a time."""
    expected = {seed: latents_of(engine, seed) for seed in seeds}

    def decode(_decoder: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if any(torch.allclose(inputs[0], latents, atol=0.05) for latents in expected.values()):
            return (harm(inputs[0]),)
        return inputs

    engine._pipeline.vae.decoder.register_forward_pre_hook(decode)


def latents_of(engine: SdxlEngine, seed: int) -> torch.Tensor:
    """What the decoder is given for this seed."""
    given: list[torch.Tensor] = []
    handle = engine._pipeline.vae.decoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    rendered(engine, a_request(seed))
    handle.remove()
    return given[0]


def overflow(latents: torch.Tensor) -> torch.Tensor:
    latents = latents.clone()
    latents[..., 0, 0] = float("nan")
    return latents


def fail(_latents: torch.Tensor) -> torch.Tensor:
    raise ValueError("this one cannot be decoded")


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """NumPy says "invalid value encountered in cast" where numbers that are none become pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def test_an_image_that_is_not_finite_leaves_its_siblings(engine: SdxlEngine) -> None:
    good = pixels(rendered(engine, a_request(1, 2, 3)))
    poison(engine, {2}, overflow)
    first, second, third = renderings(engine, a_request(1, 2, 3))
    assert isinstance(second, OutputFailed)
    assert (second.position, type(second.error)) == (1, UnusableOutput)
    assert "pixels that are no numbers" in str(second.error)
    for image, expected in ((first, good[0]), (third, good[2])):
        assert isinstance(image, RenderedImage)
        assert (np.asarray(image.image) == expected).all()


def test_an_image_that_cannot_be_decoded_leaves_its_siblings(engine: SdxlEngine) -> None:
    good = pixels(rendered(engine, a_request(1, 2, 3)))
    poison(engine, {2}, fail)
    first, third, second = renderings(engine, a_request(1, 2, 3))
    assert isinstance(second, OutputFailed)
    assert (second.position, str(second.error)) == (1, "this one cannot be decoded")
    assert second.error.__traceback__ is not None
    for image, expected in ((first, good[0]), (third, good[2])):
        assert isinstance(image, RenderedImage)
        assert np.abs(np.asarray(image.image) - expected).max() <= 3


def test_a_failure_of_all_is_the_engines_and_not_each_ones(engine: SdxlEngine) -> None:
    poison(engine, {1, 2}, fail)
    with pytest.raises(ValueError, match="cannot be decoded"):
        renderings(engine, a_request(1, 2))
    assert told(renderings(engine, a_request(3))) == [0]


def test_a_broken_device_is_not_asked_for_the_other_images(engine: SdxlEngine) -> None:
    calls: list[int] = []

    def forward(*_: object) -> None:
        calls.append(1)
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    engine._pipeline.unet.register_forward_pre_hook(forward)
    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        renderings(engine, a_request(1, 2, 3))
    assert len(calls) == 1
