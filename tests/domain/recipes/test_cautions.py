"""What a person learns about a job that is accepted all the same."""

import time
from typing import Any, Literal

import pytest

from domain.recipes.cautions import RecipeCaution, cautions_for
from domain.recipes.recipe import Reference

SOURCE = "media:6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40"


def reference(kind: Literal["style", "composition", "character"], strength: float = 0.5) -> Reference:
    """A reference of this type."""
    return Reference(type=kind, source=SOURCE, strength=strength)


def recipe(*references: Reference, **changes: Any) -> dict[str, Any]:
    """A recipe as JSON."""
    return {
        "prompt": "a lighthouse (at dusk), 16:9",
        "negative_prompt": None,
        "params": {"width": 128, "height": 128, "guidance": 6.0},
        "references": [each.model_dump() for each in references],
        "media": {},
        "files": {},
    } | changes


def codes(*references: Reference, **changes: Any) -> list[str]:
    """The codes of the cautions."""
    return [caution.code for caution in cautions_for(recipe(*references, **changes))]


def only(**changes: Any) -> RecipeCaution:
    """The one caution."""
    (caution,) = cautions_for(recipe(**changes))
    return caution


def of_picture(width: int | None, height: int | None, fit: str = "crop", **changes: Any) -> list[RecipeCaution]:
    """The cautions about a first frame of this size, for a video of 128 x 128."""
    file = {"kind": "image", "width": width, "height": height}
    params = {"width": 128, "height": 128, "guidance": 6.0, "fit": fit}
    return cautions_for(recipe(**({"media": {"image": SOURCE}, "files": {SOURCE: file}, "params": params} | changes)))


def test_other_references_need_no_caution() -> None:
    assert codes() == codes(reference("style", 1.0), reference("composition")) == []


def test_a_character_is_cautioned_about() -> None:
    assert codes(reference("style"), reference("character")) == ["character_reference"]


def test_two_characters_mix_and_a_strong_one_outweighs_the_prompt() -> None:
    pair = (reference("character", 0.8), reference("character", 0.81))
    assert codes(*pair) == ["character_reference", "character_references_mix", "character_reference_strong"]


@pytest.mark.parametrize(
    "words",
    [
        "(fog:1.3)", "(thick fog: 0.8)", "((fog))", "(((thick fog)))", "[fog]", "[fog:0.5]", "(fog:-1)", "(fog)1.2",
        "(fog)++", "(fog:.5)", "(thick, white fog:1.)",
    ],
)  # fmt: skip
def test_weights_in_brackets_are_read_as_words(words: str) -> None:
    for field in ("prompt", "negative_prompt"):
        caution = only(**{field: f"a lighthouse in {words}, at dusk"})
        assert caution.code == "prompt_weights_ignored"
        assert words in caution.detail
        assert "dusk" not in caution.detail


@pytest.mark.parametrize("tag", ["<lora:pixel_art:0.8>", "<LoRA:x>", "<lyco:a:1>", "<hypernet:b:1>", "embedding:bad"])
def test_a_tag_of_an_adapter_loads_none(tag: str) -> None:
    caution = only(prompt=f"a lighthouse {tag}")
    assert (caution.code, tag in caution.detail) == ("adapter_tag_ignored", True)


@pytest.mark.parametrize("words", ["{red|blue}", "[red|blue]", "__animals__", "{a|b|c}"])
def test_nothing_is_chosen_of_alternatives(words: str) -> None:
    caution = only(prompt=f"a {words} lighthouse")
    assert (caution.code, words in caution.detail) == ("prompt_alternatives_ignored", True)


@pytest.mark.parametrize(
    "prompt",
    [
        "a lighthouse (at dusk)", "at (12:30) o'clock", "in the ratio (16:9)", "a < b > c", "x__y__z", "f(a, b)",
        "a sign that says: go (now)", "C++ -- a book", "{one thing}", "snake_case __init",
    ],
)  # fmt: skip
def test_plain_writing_needs_no_caution(prompt: str) -> None:
    assert codes(prompt=prompt) == []


@pytest.mark.parametrize("piece", ["(", "[", "{", "<lora:", "__a", "((a:", "[a|", "{a|", "(a", "<", "embedding:"])
def test_the_longest_prompt_is_looked_through_at_once(piece: str) -> None:
    began = time.process_time()
    cautions_for(recipe(prompt=(piece * 10_000)[:10_000]))
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1, 1.0])
def test_a_negative_prompt_without_guidance_is_ignored(guidance: float) -> None:
    params = {"width": 128, "height": 128, "guidance": guidance}
    caution = only(negative_prompt="blurry, text", params=params)
    assert (caution.code, "blurry, text" in caution.detail) == ("negative_prompt_ignored", True)
    assert codes(negative_prompt=" ", params=params) == codes(params=params) == []
    assert codes(negative_prompt="blurry", params=params | {"guidance": 1.01}) == []
    assert codes(negative_prompt="blurry", params={"width": 8, "height": 8}) == []


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [(64, 256, "top and bottom are lost, 75%"), (256, 64, "left and right are lost, 75%"), (1, 8192, "top and bottom")],
)
def test_a_picture_of_another_shape_is_cut_and_the_owner_hears_what(width: int, height: int, told: str) -> None:
    (caution,) = of_picture(width, height)
    assert caution.code == "picture_cropped"
    assert told in caution.detail
    assert f"{width} x {height}" in caution.detail
    assert of_picture(width, height, "pad") == of_picture(width, height, "stretch") == []


@pytest.mark.parametrize(("width", "height"), [(64, 64), (1, 1), (1000, 1001), (None, None)])
def test_a_picture_of_the_same_shape_is_not_cut(width: int | None, height: int | None) -> None:
    assert of_picture(width, height) == []


@pytest.mark.parametrize(("kind", "shape"), [("composition", "128 x 64"), ("style", "square"), ("character", "square")])
def test_every_kind_of_reference_can_be_cut(kind: Any, shape: str) -> None:
    params = {"width": 128, "height": 64, "fit": "crop"}
    pictures = of_picture(64, 256, media={}, references=[reference(kind).model_dump()], params=params)
    (caution,) = [each for each in pictures if each.code == "picture_cropped"]
    assert f"is cut to {shape}" in caution.detail


def test_a_recipe_of_before_has_no_sizes_and_no_caution() -> None:
    assert cautions_for({"prompt": "a cat", "params": {"fit": "crop", "width": 8, "height": 8}}) == []
    file = {"kind": "image", "media_type": "image/png", "sha256": "0", "path": "x"}
    assert of_picture(1, 1, files={SOURCE: file}) == []
