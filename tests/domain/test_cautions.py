"""What a person is told about a job that is accepted all the same."""

from typing import Literal

from domain.cautions import cautions_for
from domain.recipe import Reference


def reference(kind: Literal["style", "composition", "character"], strength: float = 0.5) -> Reference:
    """A reference of this type."""
    return Reference(type=kind, source="media:6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40", strength=strength)


def codes(*references: Reference) -> list[str]:
    """The codes of the cautions."""
    return [caution.code for caution in cautions_for(references)]


def test_other_references_need_no_caution() -> None:
    assert codes() == codes(reference("style", 1.0), reference("composition")) == []


def test_a_character_is_cautioned_about() -> None:
    assert codes(reference("style"), reference("character")) == ["character_reference"]


def test_two_characters_mix_and_a_strong_one_outweighs_the_prompt() -> None:
    pair = (reference("character", 0.8), reference("character", 0.81))
    assert codes(*pair) == ["character_reference", "character_references_mix", "character_reference_strong"]
