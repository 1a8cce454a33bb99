"""What language models say around a prompt goes; what is no prompt is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gpu_worker.engines.language.answers import NoAnswer, cleaned

RICHER = "a lighthouse in thick fog, seen from far below"


@pytest.mark.parametrize(
    "answer",
    [
        RICHER,
        f"  {RICHER}\n",
        f'"{RICHER}"',
        f"“{RICHER}”",
        f"Prompt: {RICHER}",
        f'Enhanced prompt: "{RICHER}"',
        f"**Enhanced Prompt:** {RICHER}",
        f"### Prompt:\n{RICHER}",
        f"Here is a richer prompt:\n\n{RICHER}",
        f"Sure! Here's the rewritten prompt for you:\n\n“{RICHER}”",
        f"{RICHER}\n\nNote: I added the fog.",
        f"Here is the prompt:\n{RICHER}\n\nThis prompt keeps the lighthouse.",
        "a lighthouse in thick fog,\nseen from far below",
        f"```\n{RICHER}\n```",
        f"1. {RICHER}",
    ],
)
def test_the_prompt_alone_is_left(answer: str) -> None:
    assert cleaned(answer, "a lighthouse", cut_off=False) == RICHER


@pytest.mark.parametrize(
    "answer",
    ['a sign that says "OPEN", lit from below', '"OPEN" and "SHUT" on two doors', "Rust: a close study of an old ship"],
)
def test_what_belongs_to_the_prompt_stays(answer: str) -> None:
    assert cleaned(answer, "a sign", cut_off=False) == answer


def test_an_answer_that_was_cut_off_ends_with_its_last_whole_sentence() -> None:
    answer = "A lighthouse at 1.5 miles. Fog lies over the sea. Gulls circle abo"
    assert cleaned(answer, "a cat", cut_off=True) == "A lighthouse at 1.5 miles. Fog lies over the sea."
    assert cleaned("a lighthouse in fog and", "a cat", cut_off=True) == "a lighthouse in fog and"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ('""', "empty"),
        ("Prompt:", "empty"),
        ("...", "empty"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I see no lighthouse.", "refused"),
        ("a cat", "shorter"),
        ("a lighthouse " * 1000, "more than 10000"),
    ],
)
def test_what_is_no_prompt_is_refused(answer: str, why: str) -> None:
    with pytest.raises(NoAnswer, match=why):
        cleaned(answer, "a lighthouse", cut_off=False)


@given(some.text(max_size=400), some.booleans())
def test_any_answer_is_one_line_or_refused(answer: str, cut_off: bool) -> None:
    try:
        text = cleaned(answer, "a", cut_off=cut_off)
    except NoAnswer:
        return
    assert text == " ".join(text.split())
    assert any(letter.isalnum() for letter in text)
