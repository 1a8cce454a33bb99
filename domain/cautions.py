"""What a person should know about a job that is accepted all the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.recipe import Reference

STRONG: Final = 0.8
"""From this strength on a character's picture counts for more than what the prompt says about the figure."""


@dataclass(frozen=True, slots=True)
class Caution:
    """A stable code, and a sentence."""

    code: str
    detail: str


def cautions_for(references: Sequence[Reference]) -> list[Caution]:
    """About character references: they are the ones that disappoint, and that show somebody."""
    characters = [reference for reference in references if reference.type == "character"]
    if not characters:
        return []
    cautions = [
        Caution(
            "character_reference",
            "A character reference carries over how one figure looks, not who it is: take a picture of one clear "
            "face, and of nobody who would mind.",
        )
    ]
    if len(characters) > 1:
        cautions.append(Caution("character_references_mix", "Several character references mix into one figure."))
    if any(reference.strength > STRONG for reference in characters):
        cautions.append(
            Caution(
                "character_reference_strong",
                f"Above a strength of {STRONG:g} the picture counts for more than the prompt's words.",
            )
        )
    return cautions
