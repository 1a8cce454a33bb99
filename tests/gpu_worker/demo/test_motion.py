"""The world in motion, its captions, its tokenizer, and what is measured in a clip."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from gpu_worker.demo.videos.measure import SeenMotion, measure
from gpu_worker.demo.videos.model import tokenizer
from gpu_worker.demo.videos.motion import (
    DIRECTIONS,
    FRAMES,
    PIXELS,
    WAYS,
    WORDINGS,
    MovingScene,
    caption,
    film,
    moving_scenes,
    random_moving_scene,
    track,
)
from gpu_worker.demo.videos.t5_tokens import QUALITY_WORDS, UNKNOWN
from gpu_worker.demo.world import COLOURS, held_out

SCENE = MovingScene("red", "circle", "black", "right")


def test_a_clip_has_17_frames_of_96_pixels_and_comes_back_from_its_seed() -> None:
    clip = film(SCENE, np.random.default_rng(1))
    assert clip.shape == (FRAMES, PIXELS, PIXELS, 3) == (17, 96, 96, 3)
    assert clip.dtype == np.uint8
    assert np.array_equal(clip, film(SCENE, np.random.default_rng(1)))
    assert not np.array_equal(clip, film(SCENE, np.random.default_rng(2)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_shape_goes_straight_and_stays_inside(direction: str) -> None:
    figures = track(MovingScene("red", "star", "white", direction), np.random.default_rng(3), FRAMES)
    steps = {(round(b.x - a.x, 6), round(b.y - a.y, 6)) for a, b in pairwise(figures)}
    assert len(steps) == 1
    assert np.sign(next(iter(steps))).tolist() == list(DIRECTIONS[direction])
    assert all(f.radius < at < 1 - f.radius for f in figures for at in (f.x, f.y))


def test_training_never_sees_what_is_held_out_and_evaluation_sees_nothing_else() -> None:
    rng = np.random.default_rng(4)
    seen = [random_moving_scene(rng) for _ in range(300)] + moving_scenes(2000, rng)
    unseen = [random_moving_scene(rng, unseen=True) for _ in range(300)]
    assert not any(held_out(scene.colour, scene.shape, scene.background) for scene in seen)
    assert all(held_out(scene.colour, scene.shape, scene.background) for scene in unseen)
    assert not any(scene.colour == scene.background for scene in seen + unseen)


def test_a_data_set_holds_every_scene_equally_often() -> None:
    scenes = moving_scenes(2304, np.random.default_rng(5))
    counts = [scenes.count(scene) for scene in set(scenes)]
    assert max(counts) - min(counts) <= 1


def test_a_caption_says_colour_shape_background_and_way() -> None:
    assert caption(SCENE) == "a red circle moving left to right on a black background"
    rng = np.random.default_rng(6)
    said = {caption(SCENE, rng) for _ in range(300)}
    assert len(said) == len(WORDINGS) * len(WAYS["right"])
    assert all({"red", "circle", "black", "right"} <= set(text.replace(",", "").split()) for text in said)


def test_every_word_of_a_caption_is_one_token_in_any_case() -> None:
    tokens, rng = tokenizer(), np.random.default_rng(7)
    for _ in range(200):
        text = caption(random_moving_scene(rng), rng)
        words = text.replace(",", " ,").split()
        assert len(tokens(text).input_ids) == len(words) + 1
        assert tokens(text.upper()).input_ids == tokens(text).input_ids
    assert len(tokens(" ".join(QUALITY_WORDS)).input_ids) == len(QUALITY_WORDS) + 1


@pytest.mark.parametrize("text", ["", "a zebra-coloured quartz vase!", "  two\n lines\t", "été 漢字 🙂", "x" * 3000])
def test_any_text_has_tokens_and_ends_within_the_limit(text: str) -> None:
    tokens = tokenizer()
    ids = tokens(text, padding="max_length", max_length=512, truncation=True).input_ids
    assert len(ids) == 512
    assert tokens.eos_token_id in ids
    assert text.isascii() != (tokens.convert_tokens_to_ids(UNKNOWN) in ids)


def test_the_tokenizer_loads_from_its_folder_alone(tmp_path: Path) -> None:
    built = tokenizer()
    built.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded(caption(SCENE)).input_ids == built(caption(SCENE)).input_ids


def test_measuring_finds_what_was_drawn() -> None:
    rng = np.random.default_rng(8)
    scenes = [random_moving_scene(rng, unseen=number % 2 == 0) for number in range(150)]
    wrong = [
        scene
        for scene in scenes
        if measure(film(scene, rng)) != SeenMotion(scene.colour, scene.background, scene.direction)
    ]
    assert wrong == []


def test_measuring_sees_through_noise_and_finds_no_motion_in_a_still_picture() -> None:
    rng = np.random.default_rng(9)
    clip = film(SCENE, rng)
    noisy = np.clip(clip + rng.normal(0, 8, clip.shape), 0, 255).astype(np.uint8)
    assert measure(noisy) == SeenMotion("red", "black", "right")
    assert measure(np.repeat(clip[:1], FRAMES, axis=0)) == SeenMotion("red", "black", None)
    empty = np.full_like(clip, COLOURS["green"])
    assert measure(empty) == SeenMotion(None, "green", None)
