"""What the image demo model learns from: drawn scenes by number, and their captions in ever new words."""

import string
from typing import Any

import numpy as np
import torch

from gpu_worker.demo.images.clip_tokens import QUALITY_WORDS
from gpu_worker.demo.images.model import PIXELS, tokenizer
from gpu_worker.demo.reading import NOTHING, Facts
from gpu_worker.demo.world import (
    COLOURS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Pixels,
    Scene,
    caption,
    draw,
    random_scene,
)

PICTURE, CAPTION, CROP = range(3)
"""Streams of random numbers, so that one picture's caption does not hang on how it was drawn."""
EMPTY_TEXT_SHARE = 0.08
"""Of what the text encoders learn to read: it says nothing of a picture."""
CHOICES: tuple[tuple[str, ...], ...] = (
    tuple(COLOURS),
    *(tuple(COLOURS), SHAPES, SIZES),
    tuple(PLACES),
    ("1", "2", "3"),
    RELATIONS,
    *(tuple(COLOURS), SHAPES, SIZES),
)
"""What a scene leaves open: background; the thing; its place and count; its relation to the other; the other thing."""
ANSWERS = [1 + len(choices) for choices in CHOICES]
"""To each question of `CHOICES`: one more, for nothing."""
EMBELLISHED_SHARE = 0.15
"""Of captions, with words around them that say nothing: people write such, and unknown ones."""


def scene_and_picture(seed: int, number: int) -> tuple[Scene, Pixels]:
    """Return training picture `number`, always the same one; no held-out combination is among them."""
    rng = np.random.default_rng([seed, PICTURE, number])
    scene = random_scene(rng)
    return scene, draw(scene, PIXELS, rng)


def to_tensor(pictures: list[Pixels]) -> torch.Tensor:
    """Return [batch, 3, height, width] from -1 to 1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(seed: int, step: int, count: int, pixels: int) -> torch.Tensor:
    """Return `count` squares cut from fresh pictures, [count, 3, pixels, pixels]."""
    rng = np.random.default_rng([seed, CROP, step])
    cut = []
    for _ in range(count):
        picture = draw(random_scene(rng, single=0.5), PIXELS, rng)
        top, left = (int(at) for at in rng.integers(0, PIXELS - pixels + 1, 2))
        cut.append(picture[top : top + pixels, left : left + pixels])
    return to_tensor(cut)


def captions(scenes: list[Scene], seed: int, step: int) -> list[str]:
    """Say the scenes in words that differ from step to step."""
    rng = np.random.default_rng([seed, CAPTION, step])
    return [_embellished(caption(scene, rng), rng) for scene in scenes]


def facts_of(scene: Scene) -> Facts:
    """Return the answer to each question of `CHOICES`."""
    thing, other = scene.thing, scene.other
    said: tuple[str | None, ...] = (scene.background, thing.colour, thing.shape, thing.size, scene.place)
    said += (str(scene.count), scene.relation)
    said += (other.colour, other.shape, other.size) if other else (None, None, None)
    return tuple(
        NOTHING if word is None else 1 + choices.index(word) for word, choices in zip(said, CHOICES, strict=True)
    )


def text_to_read(rng: np.random.Generator, unseen: bool) -> tuple[str, Facts]:
    """Return a caption and its facts; now and then a text of no facts."""
    if not unseen and rng.random() < EMPTY_TEXT_SHARE:
        return "" if rng.random() < 0.3 else negative_prompt(rng), (NOTHING,) * len(CHOICES)
    scene = random_scene(rng, unseen=unseen, single=0.55)
    return _embellished(caption(scene, rng), rng), facts_of(scene)


def negative_prompt(rng: np.random.Generator) -> str:
    """Return a few words that say what nobody wants."""
    return ", ".join(_empty_word(rng) for _ in range(int(rng.integers(1, 5))))


def _embellished(text: str, rng: np.random.Generator) -> str:
    if rng.random() >= EMBELLISHED_SHARE:
        return text
    more = _empty_word(rng)
    return f"{more} {text}" if rng.random() < 0.5 else f"{text}, {more}"


def _empty_word(rng: np.random.Generator) -> str:
    if rng.random() < 0.6:
        return QUALITY_WORDS[int(rng.integers(len(QUALITY_WORDS)))]
    return "".join(string.ascii_lowercase[int(letter)] for letter in rng.integers(0, 26, int(rng.integers(2, 8))))


class CaptionTokens:
    """Turns captions into tokens as the pipeline does: padded to the full length."""

    def __init__(self) -> None:
        self._tokenizer = tokenizer()
        end: Any = self._tokenizer.eos_token_id
        self.end: int = end
        """Ends a text and pads it."""

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Return [batch, TOKENS_MAX]."""
        found = self._tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        tokens: torch.Tensor = found.input_ids
        return tokens
