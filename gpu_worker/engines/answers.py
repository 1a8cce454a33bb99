"""What a language model says, made into the prompt that it was asked for; or the reason why that is none."""

import re
from typing import Final

from domain.enhancement import CHARACTERS_MAX

INTRODUCTION: Final = re.compile(
    r"(?:(?:sure|certainly|of course|okay|here is|here[\u2019']s)\b[^:\n]{0,100}|(?:\w+ ){0,3}prompt\s*):\s*",
    re.IGNORECASE,
)
"""What stands before a prompt though it was not asked for: `Here is a richer prompt:`, `Enhanced prompt:`."""

REMARK: Final = re.compile(r"(?:note|explanation|remark|changes|this (?:version|prompt|rewrite))\b", re.IGNORECASE)
"""How a paragraph begins that speaks of the prompt."""

REFUSAL: Final = re.compile(
    r"(?:i['\u2019]m sorry|i am sorry|sorry,|i can(?:not|['\u2019]t)|as an ai)\b", re.IGNORECASE
)

MARKUP: Final = re.compile(r"\*\*|__|`+|^\s*(?:#+|[-*•]|\d+[.)])\s+", re.MULTILINE)
QUOTED: Final = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "‘": "’", "「": "」"}  # noqa: RUF001
SENTENCE: Final = re.compile(r".*[.!?。！？](?=\s|$)", re.DOTALL)  # noqa: RUF001


class NoAnswer(Exception):
    """What the model said cannot be used. The text goes on after `failed:`."""


def cleaned(answer: str, prompt: str, *, cut_off: bool) -> str:
    """One paragraph: the prompt in an answer, without what a model says around it. Raises NoAnswer.

    `cut_off`: the answer had to end before the model did; its last, unfinished sentence goes.
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
    """Without the quotes around all of it; quotes inside stay."""
    while len(text) > 1 and text[-1] == QUOTED.get(text[0]) and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
