"""Extract the prompt from a language model's answer, or the reason why there is none."""

import re
from typing import Final

from domain.wording.enhancement import CHARACTERS_MAX

INTRODUCTION: Final = re.compile(
    r"(?:(?:sure|certainly|of course|okay|here is|here[\u2019']s)\b[^:\n]{0,100}|(?:\w+ ){0,3}prompt\s*):\s*",
    re.IGNORECASE,
)
"""Introductions before the prompt in an answer: `Here is a richer prompt:`, `Enhanced prompt:`."""

REMARK: Final = re.compile(r"(?:note|explanation|remark|changes|this (?:version|prompt|rewrite))\b", re.IGNORECASE)
"""Beginnings of a paragraph about the prompt."""

REFUSAL: Final = re.compile(
    r"(?:i['\u2019]m sorry|i am sorry|sorry,|i can(?:not|['\u2019]t)|as an ai)\b", re.IGNORECASE
)

MARKUP: Final = re.compile(r"\*\*|__|`+|^\s*(?:#+|[-*•]|\d+[.)])\s+", re.MULTILINE)
QUOTED: Final = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "‘": "’", "「": "」"}  # noqa: RUF001
SENTENCE: Final = re.compile(r".*[.!?。！？](?=\s|$)", re.DOTALL)  # noqa: RUF001


class NoAnswer(Exception):
    """The model's answer cannot be used. The text is a continuation of `failed:`."""


def cleaned(answer: str, prompt: str, *, cut_off: bool) -> str:
    """The prompt in an answer as one paragraph, without the model's comments. Raises NoAnswer.

    `cut_off`: the answer reached its limit; its last, unfinished sentence is removed.
    """
    text = MARKUP.sub("", answer).strip()
    if cut_off and (whole := SENTENCE.match(text)):
        text = whole[0]
    text = INTRODUCTION.sub("", text, count=1) if INTRODUCTION.match(text) else text
    paragraphs = [paragraph.strip() for paragraph in text.splitlines() if paragraph.strip()]
    remark = next((at for at, paragraph in enumerate(paragraphs) if at and REMARK.match(paragraph)), len(paragraphs))
    text = _unquoted(" ".join(" ".join(paragraphs[:remark]).split()))
    if not any(letter.isalnum() for letter in text):
        raise NoAnswer("its answer is empty")
    if REFUSAL.match(text):
        raise NoAnswer("it refused")
    if len(text) < len(" ".join(prompt.split())):
        raise NoAnswer("its answer is shorter than the prompt")
    if len(text) > CHARACTERS_MAX:
        raise NoAnswer(f"its answer has more than {CHARACTERS_MAX} characters")
    return text


def _unquoted(text: str) -> str:
    """The text without quotes around all of it; quotes inside stay."""
    while len(text) > 1 and text[-1] == QUOTED.get(text[0]) and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
