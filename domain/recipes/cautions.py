"""Warnings about a job that is accepted nevertheless."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.warning_codes import WarningCode

STRONG: Final = 0.8
"""Strength from which a character reference outweighs the prompt's description of the character."""

GUIDANCE_OFF: Final = 1.0
"""Guidance at or below which a model ignores the negative prompt."""

CUT_SHARE_MIN: Final = 0.02
"""Smallest share of an image whose cropping is reported. Rounding a ratio of 3:2 to whole pixel steps crops less."""

QUOTED_CHARACTERS_MAX: Final = 300
"""Maximum number of prompt characters that a warning quotes."""

SYNTAX: Final = re.compile(r"[(\[{<:_]")
"""A character that all of the syntax below needs. Most prompts have none, and this is checked for every submission."""

WEIGHTS: Final = re.compile(
    r"\([^()]*(?<!\d):\s*[+-]?(?:\d\.\d*|\d|\.\d+)\s*\)"  # (word:1.3)
    r"|\({2,}[^()]+\){2,}"  # ((word))
    r"|\([^()]+\)(?:\++|-+|\d\.\d+)"  # (word)++ and (word)1.3
    r"|\[[^\[\]|]+\]"  # [word] and [word:0.8]
)
ADAPTER_TAGS: Final = re.compile(
    r"<\s*(?:lora|lyco|locon|loha|lokr|hypernet|embedding|ti)\s*:[^<>]*>|(?<!\w)embedding:[\w./\\-]+", re.IGNORECASE
)
ALTERNATIVES: Final = re.compile(r"\{[^{}|]*\|[^{}]*\}|\[[^\[\]|]*\|[^\[\]]*\]|(?<!\w)__[A-Za-z0-9][\w*/-]*?__(?!\w)")


@dataclass(frozen=True, slots=True)
class RecipeCaution:
    """A stable code, and a sentence."""

    code: WarningCode
    detail: str


def cautions_for(recipe: Mapping[str, Any]) -> list[RecipeCaution]:
    """Requests in the recipe (as JSON) that have no effect, and the effects of character references."""
    return [
        *_about_characters(recipe.get("references", [])),
        *_about_syntax(recipe),
        *_about_guidance(recipe),
        *_about_pictures(recipe),
    ]


def quoted(words: str) -> str:
    """The words in quotation marks; long text is shortened in the middle."""
    shown = " ".join(words.split())
    if len(shown) > QUOTED_CHARACTERS_MAX:
        half = QUOTED_CHARACTERS_MAX // 2
        shown = f"{shown[:half]} … {shown[-half:]}"
    return f"“{shown}”"


def reads_negative_prompt(params: Mapping[str, Any]) -> bool:
    """Whether a negative prompt has an effect at the guidance of these parameters."""
    guidance = params.get("guidance")
    return not isinstance(guidance, int | float) or guidance > GUIDANCE_OFF


def _about_characters(references: list[Mapping[str, Any]]) -> Iterator[RecipeCaution]:
    """Character references often disappoint, and they show a person."""
    characters = [reference for reference in references if reference["type"] == "character"]
    if not characters:
        return
    yield RecipeCaution(
        WarningCode.CHARACTER_REFERENCE,
        "A character reference carries over how one figure looks, not who it is: take a picture of one clear "
        "face, and of nobody who would mind.",
    )
    if len(characters) > 1:
        yield RecipeCaution(WarningCode.CHARACTER_REFERENCES_MIX, "Several character references mix into one figure.")
    if any(reference["strength"] > STRONG for reference in characters):
        yield RecipeCaution(
            WarningCode.CHARACTER_REFERENCE_STRONG,
            f"Above a strength of {STRONG:g} the picture counts for more than the prompt's words.",
        )


def _about_syntax(recipe: Mapping[str, Any]) -> Iterator[RecipeCaution]:
    """Prompt syntax that other programs interpret and Darkroom passes to the model as text."""
    text = f"{recipe['prompt']}\n{recipe.get('negative_prompt') or ''}"
    if SYNTAX.search(text) is None:
        return
    for code, pattern, what in (
        (
            WarningCode.PROMPT_WEIGHTS_IGNORED,
            WEIGHTS,
            "Weights in brackets are not applied; the model reads them as words",
        ),
        (WarningCode.ADAPTER_TAG_IGNORED, ADAPTER_TAGS, "A tag loads no adapter; the model reads it as words"),
        (
            WarningCode.PROMPT_ALTERNATIVES_IGNORED,
            ALTERNATIVES,
            "Nothing is chosen of alternatives; the model reads them all",
        ),
    ):
        found = dict.fromkeys(match.group() for match in pattern.finditer(text))
        if found:
            yield RecipeCaution(code, f"{what}: {quoted(', '.join(found))}.")


def _about_guidance(recipe: Mapping[str, Any]) -> Iterator[RecipeCaution]:
    negative = recipe.get("negative_prompt")
    if negative and negative.strip() and not reads_negative_prompt(recipe["params"]):
        yield RecipeCaution(
            WarningCode.NEGATIVE_PROMPT_IGNORED,
            f"At a guidance of {GUIDANCE_OFF:g} and below the model reads no negative prompt; this changes nothing: "
            f"{quoted(negative)}. Ask for more guidance, or leave it out.",
        )


def _about_pictures(recipe: Mapping[str, Any]) -> Iterator[RecipeCaution]:
    """Images that `fit` crops to the shape of the output. Style and character references are read as squares."""
    params = recipe["params"]
    if params.get("fit") != "crop":
        return
    shape = params["width"], params["height"]
    shown = [
        (each["source"], shape if each["type"] == "composition" else (1, 1)) for each in recipe.get("references", [])
    ]
    shown += [(source, shape) for name, source in recipe.get("media", {}).items() if name == "image"]
    for source, (width, height) in dict.fromkeys(shown):
        file = recipe.get("files", {}).get(source)
        if file is None or not file.get("width") or not file.get("height"):
            continue
        ratio = (file["width"] / file["height"]) / (width / height)
        if min(ratio, 1 / ratio) > 1 - CUT_SHARE_MIN:
            continue
        sides = "left and right" if ratio > 1 else "top and bottom"
        into = f"{width} x {height}" if (width, height) != (1, 1) else "square"
        yield RecipeCaution(
            WarningCode.PICTURE_CROPPED,
            f"{source} is {file['width']} x {file['height']} and is cut to {into}: its {sides} are lost, "
            f"{1 - min(ratio, 1 / ratio):.0%} of it. The parameter fit can be pad or stretch instead of crop.",
        )
