"""The shipped image model: whole, small, the same again, and unharmed by words that it does not know."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image
from transformers import CLIPTokenizer

from gpu_worker.demo import SDXL_DEMO
from gpu_worker.demo.images.clip_tokens import DEMO_WORDS
from gpu_worker.demo.images.evaluate import IMAGE_LIMITS, draw, held_out_trials, judge
from gpu_worker.engines.diffusers.sdxl import SdxlEngine


@pytest.fixture(scope="module")
def engine() -> SdxlEngine:
    return SdxlEngine.load(str(SDXL_DEMO), device="cpu")


def test_it_weighs_at_most_twelve_megabytes_and_has_a_card() -> None:
    assert sum(file.stat().st_size for file in SDXL_DEMO.rglob("*") if file.is_file()) <= 12_000_000
    card = (SDXL_DEMO / "README.md").read_text(encoding="utf-8")
    assert all(part in card for part in ("## What it draws", "## Training", "## Limits", "## Licence"))


@pytest.mark.parametrize("folder", ["tokenizer", "tokenizer_2"])
def test_its_words_are_one_token_each_and_every_text_has_tokens(folder: str) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(SDXL_DEMO / folder)
    assert [tokenizer.tokenize(word) for word in DEMO_WORDS] == [[f"{word}</w>"] for word in DEMO_WORDS]
    text = "zürich 日本 🎈"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_same_seed_gives_the_same_pixels_and_another_one_others(engine: SdxlEngine) -> None:
    first, again, other = (
        draw(engine, "a red circle on a white background", seed, guidance=6.0, steps=4)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("prompt", ["", "an astronaut riding a horse, 4k", "日本 🎈", "red " * 200])
def test_words_from_out_of_its_world_do_no_harm(engine: SdxlEngine, prompt: str) -> None:
    assert draw(engine, prompt, 0, guidance=6.0, steps=2)[0].shape == (128, 128, 3)


def test_pictures_can_be_changed_too() -> None:
    load: Any = StableDiffusionXLImg2ImgPipeline.from_pretrained
    pipeline = load(SDXL_DEMO, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    before = Image.new("RGB", (128, 128), (25, 150, 60))
    changed = pipeline("a yellow star on a green background", image=before, num_inference_steps=4, strength=0.5)
    assert changed.images[0].size == (128, 128)


def test_it_draws_what_it_never_saw(engine: SdxlEngine) -> None:
    verdict = judge(engine, held_out_trials(12), guidance=6.0)
    assert verdict.reaches({name: limit - 0.15 for name, limit in IMAGE_LIMITS.items()}), verdict.failures


def test_the_model_is_inside_the_package() -> None:
    assert Path("gpu_worker", "demo", "weights", "sdxl-demo").parts == SDXL_DEMO.parts[-4:]
