"""The SDXL engine, on the demo model: seeds, memory, cancel, and models that are not there or not whole."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpu_worker.engines import InvalidRequest, ModelUnavailable, RenderCanceled, RenderedImage, Rendering
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from tests.gpu_worker.rendering import STEPS, Memory, a_request, never, pixels, rendered


def test_the_same_seeds_paint_the_same_pixels_and_other_seeds_others(engine: SdxlEngine) -> None:
    first, again = rendered(engine, a_request(1, 2)), rendered(engine, a_request(1, 2))
    assert [image.position for image in first] == [0, 1]
    assert [image.image.tobytes() for image in first] == [image.image.tobytes() for image in again]
    assert first[0].image.tobytes() != first[1].image.tobytes()
    assert all(image.image.size == (64, 64) and image.render_ms > 0 for image in first)


def test_a_seed_decides_its_image_whatever_its_index_and_siblings(engine: SdxlEngine) -> None:
    _, _, seven = pixels(rendered(engine, a_request(5, 6, 7)))
    alone, other = pixels(rendered(engine, a_request(7))), pixels(rendered(engine, a_request(8)))
    # Sums are rounded differently in batches of different sizes: equal to the eye, not to the bit.
    assert np.abs(seven - alone[0]).max() <= 3
    assert np.abs(seven - other[0]).max() > 30


def test_prompts_and_negative_prompts_matter(engine: SdxlEngine) -> None:
    plain = rendered(engine, a_request(1))[0].image.tobytes()
    assert plain != rendered(engine, a_request(1, prompt="a large blue star"))[0].image.tobytes()
    assert plain != rendered(engine, a_request(1, negative_prompt=None))[0].image.tobytes()


def test_three_images_are_one_pipeline_call_and_every_step_is_reported(engine: SdxlEngine) -> None:
    memory, steps = Memory(engine, images_max=3), []
    images = list(engine.render(a_request(1, 2, 3), on_step=lambda *step: steps.append(step), canceled=never))
    assert [image.position for image in images] == [0, 1, 2]
    assert memory.fitted == [3] * STEPS
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_cancel_stops_after_the_step_and_the_engine_goes_on(engine: SdxlEngine) -> None:
    memory, steps = Memory(engine, images_max=3), []
    with pytest.raises(RenderCanceled):
        list(
            engine.render(
                a_request(1, 2, 3, steps=20),
                on_step=lambda *step: steps.append(step),
                canceled=lambda: len(steps) >= 2,
            )
        )
    assert steps == [(1, 20), (2, 20)]
    assert len(memory.fitted) == 2
    assert len(rendered(engine, a_request(1, 2, 3))) == 3


def test_a_cancel_between_calls_keeps_the_images_that_exist(engine: SdxlEngine) -> None:
    memory = Memory(engine, images_max=1)
    kept: list[Rendering] = []
    images = engine.render(a_request(1, 2), on_step=lambda *_: None, canceled=lambda: bool(kept))
    rendered(engine, a_request(1, 2))
    kept.append(next(images))
    with pytest.raises(RenderCanceled):
        next(images)
    assert [type(rendering) for rendering in kept] == [RenderedImage]
    assert memory.fitted == [1] * 3 * STEPS


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "word " * 2000,
        "ж" * 10_000,
        "日本 עברית 🎈👩‍👩‍👧 \u0301\ufeff\x01\u2028",
        "<|endoftext|> <|startoftext|>",
        "\t\n ",
    ],
    ids=["empty", "10,000 characters", "10,000 letters", "unicode", "specials", "blanks"],
)
def test_any_prompt_renders(engine: SdxlEngine, prompt: str) -> None:
    assert len(rendered(engine, a_request(1, prompt=prompt, negative_prompt=prompt, steps=1))) == 1


@pytest.mark.parametrize("changes", [{"width": 100}, {"height": 0}, {"width": -8}, {"steps": 0}, {"steps": 1001}])
def test_what_the_pipeline_refuses_is_an_invalid_request(engine: SdxlEngine, changes: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="have to be"):
        rendered(engine, a_request(1, **changes))


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_without_guidance_the_engine_renders_too(engine: SdxlEngine, guidance: float) -> None:
    assert len(rendered(engine, a_request(1, 2, guidance=guidance, steps=1))) == 2


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def say_other_class(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "StableDiffusionPipeline"}))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (shutil.rmtree, "There is no model at .*/model; give the path of an SDXL folder"),
        (lambda folder: (folder / "model_index.json").unlink(), "it has no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json cannot be read"),
        (say_other_class, "is not SDXL but StableDiffusionPipeline"),
        (
            lambda folder: cut(folder / "unet" / "diffusion_pytorch_model.safetensors"),
            r"unet/diffusion_pytorch_model.safetensors are cut off",
        ),
        (lambda folder: cut(folder / "text_encoder" / "model.safetensors"), "are cut off or no safetensors"),
        (lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "cannot be loaded: .*vae"),
        (lambda folder: shutil.rmtree(folder / "tokenizer_2"), "its tokenizer_2 is missing"),
    ],
    ids=[
        "missing",
        "no index",
        "broken index",
        "other class",
        "cut UNet",
        "cut text encoder",
        "no VAE",
        "no tokenizer",
    ],
)
def test_a_model_that_is_not_there_or_not_whole_is_one_sentence(
    demo_folder: Path, tmp_path: Path, harm: Callable[[Path], object], sentence: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(demo_folder, folder)
    harm(folder)
    with pytest.raises(ModelUnavailable, match=sentence) as unavailable:
        SdxlEngine.load(str(folder), device="cpu")
    assert str(folder) in str(unavailable.value)
    assert "\n" not in str(unavailable.value)
    assert len(str(unavailable.value)) < 600


def test_a_single_file_that_is_not_sdxl_is_one_sentence(tmp_path: Path) -> None:
    other, broken = tmp_path / "sd15.safetensors", tmp_path / "broken.safetensors"
    save_file({"cond_stage_model.weight": torch.zeros(1)}, other)
    broken.write_bytes(b"no weights")
    with pytest.raises(ModelUnavailable, match="is not SDXL: it lacks the second text encoder"):
        SdxlEngine.load(str(other), device="cpu")
    with pytest.raises(ModelUnavailable, match="are cut off or no safetensors"):
        SdxlEngine.load(str(broken), device="cpu")


def test_a_folder_never_asks_the_network(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*where: object, **_how: object) -> None:
        asked.append(where)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    SdxlEngine.load(str(demo_folder), device="cpu")
    assert asked == []


def test_a_relative_folder_loads(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_folder.parent)
    assert rendered(SdxlEngine.load(demo_folder.name, device="cpu"), a_request(1, steps=1))


def test_the_revision_changes_with_the_weights_alone(demo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(demo_folder, folder)
    (folder / "README.md").write_text("A model card.")
    original = SdxlEngine.load(str(demo_folder), device="cpu").model_revision
    assert SdxlEngine.load(str(folder), device="cpu").model_revision == original
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert SdxlEngine.load(str(folder), device="cpu").model_revision != original


def test_folders_as_published_load_too(engine: SdxlEngine, demo_folder: Path, tmp_path: Path) -> None:
    """Full models come with vocab.json and merges.txt, and many folders hold the fp16 variant alone."""
    folder = tmp_path / "published"
    shutil.copytree(demo_folder, folder)
    for part in ("tokenizer", "tokenizer_2"):
        bpe = json.loads((folder / part / "tokenizer.json").read_text())["model"]
        (folder / part / "tokenizer.json").unlink()
        (folder / part / "vocab.json").write_text(json.dumps(bpe["vocab"]))
        merges = (" ".join(pair) for pair in bpe["merges"])
        (folder / part / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    for weights in folder.rglob("*.safetensors"):
        weights.rename(weights.with_name(weights.stem + ".fp16.safetensors"))
    published = SdxlEngine.load(str(folder), device="cpu")
    request = a_request(1, prompt="a small red circle, \N{BALLOON} 42")
    assert pixels(rendered(published, request))[0].tolist() == pixels(rendered(engine, request))[0].tolist()
