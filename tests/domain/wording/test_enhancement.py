"""What the rules add to a prompt: what it leaves open, and nothing of what it names."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from domain.recipes.recipe import Kind
from domain.wording import enhancement as rules
from domain.wording.enhancement import ADDED_CHARACTERS_MAX, CHARACTERS_MAX, enhance

KNOWN_WORDS = sorted({word for aspects in rules.ASPECTS.values() for one in aspects for word in one.settled_by})
PROMPTS = some.one_of(
    some.text(max_size=300), some.lists(some.sampled_from([*KNOWN_WORDS, "a", "cat", "."]), max_size=40).map(" ".join)
)


def added(prompt: str, kind: Kind = Kind.IMAGE) -> str:
    richer = enhance(prompt, kind)
    assert richer.startswith(prompt)
    return richer.removeprefix(prompt)


def test_a_bare_prompt_gets_every_aspect_of_a_picture() -> None:
    assert enhance("a lighthouse", Kind.IMAGE) == (
        "a lighthouse, soft natural light that shapes the subject, balanced composition with one clear centre of "
        "interest, fine detail and true-to-life textures, harmonious colours"
    )


def test_a_video_gets_motion_and_camera_first() -> None:
    assert added("a lighthouse", Kind.VIDEO).startswith(
        ", smooth, natural motion that holds together from frame to frame, a calm, steady camera, soft natural light"
    )


@pytest.mark.parametrize(
    ("prompt", "aspect"),
    [
        ("a lighthouse at sunset", rules.LIGHT),
        ("a lighthouse, no shadows", rules.LIGHT),
        ("Moonlight over a harbour", rules.LIGHT),
        ("a close-up of a lighthouse", rules.COMPOSITION),
        ("a lighthouse, bird's-eye view", rules.COMPOSITION),
        ("a minimalist lighthouse", rules.DETAIL),
        ("a red lighthouse", rules.COLOUR),
        ("a black and white lighthouse", rules.COLOUR),
        ("waves crashing, slow motion", rules.MOTION),
        ("a man walking", rules.MOTION),
        ("a lighthouse without any motion", rules.MOTION),
        ("a drone flies around a lighthouse", rules.CAMERA),
    ],
)
def test_what_the_prompt_names_is_left_alone(prompt: str, aspect: rules.Aspect) -> None:
    extra = added(prompt, Kind.VIDEO)
    assert extra
    assert aspect.phrase not in extra


def test_a_lighthouse_says_nothing_of_the_light() -> None:
    assert rules.LIGHT.phrase in added("a lighthouse")


def test_a_drawn_picture_gets_no_words_of_photographs() -> None:
    extra = added("watercolor of a lighthouse")
    assert "true-to-life" not in extra
    assert rules.DETAIL.drawn_phrase in extra


def test_a_short_prompt_gets_more_than_a_long_one() -> None:
    prompts = [" ".join(["cat", *["and dog"] * half]) for half in (0, 5, 10, 14, 20, 29, 40, 59, 61, 100)]
    lengths = [len(added(prompt, Kind.VIDEO)) for prompt in prompts]
    assert all(shorter >= longer for shorter, longer in pairwise(lengths))
    assert lengths[0] > lengths[2] > lengths[4] > lengths[6] > lengths[-1] == 0


@pytest.mark.parametrize(
    ("prompt", "goes_on"),
    [
        ("A cat.", " Soft natural light that shapes"),
        ("A cat!", " Soft natural light that shapes"),
        ("a cat,", " soft natural light that shapes"),
        ("a cat", ", soft natural light that shapes"),
        ("猫。", " Soft natural light that shapes"),
    ],
)
def test_it_goes_on_as_the_prompt_ends(prompt: str, goes_on: str) -> None:
    extra = added(prompt)
    assert extra.startswith(goes_on)
    assert extra.endswith(".") == (goes_on[1] == "S")


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_nothing_stays_nothing(prompt: str) -> None:
    assert enhance(prompt, Kind.IMAGE) == prompt


def test_a_prompt_that_says_it_all_stays_as_it_is() -> None:
    prompt = "a detailed wide shot of a red lighthouse at dusk"
    assert enhance(prompt, Kind.IMAGE) == prompt


def test_no_prompt_grows_beyond_what_may_be_submitted() -> None:
    word = "x" * (CHARACTERS_MAX - 20)
    assert enhance(word, Kind.IMAGE) == word


@given(PROMPTS, some.sampled_from(Kind))
def test_any_prompt_stays_whole_grows_within_bounds_and_only_once(prompt: str, kind: Kind) -> None:
    richer = enhance(prompt, kind)
    assert richer == enhance(prompt, kind)
    assert richer.startswith(prompt.rstrip())
    assert len(richer) <= max(CHARACTERS_MAX, len(prompt))
    assert len(richer) - len(prompt.rstrip()) <= max(ADDED_CHARACTERS_MAX, len(prompt) - len(prompt.rstrip()))
    assert enhance(richer, kind) == richer
