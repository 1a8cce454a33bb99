"""What the rule makes of a prompt: general flaws always, those of bodies for beings, those of several for several."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from domain.wording import negative_prompt as rule
from domain.wording.beings import ANIMALS, ANYBODY, MEN, WOMEN
from domain.wording.negative_prompt import LENGTH_MAX, Term, negative_prompt_for

GENERAL = [term.text for term in rule.GENERAL]
PERSON = [term.text for term in (*rule.FOR_BEINGS, *rule.FOR_PEOPLE)]
ANIMAL = [term.text for term in (*rule.FOR_BEINGS, *rule.FOR_ANIMALS)]
BOTH = [term.text for term in (*rule.FOR_BEINGS, *rule.FOR_PEOPLE, *rule.FOR_ANIMALS)]
SEVERAL = [term.text for term in rule.FOR_SEVERAL_BEINGS]
THINGS = [term.text for term in rule.FOR_SEVERAL_THINGS]
EVERY = [
    *rule.GENERAL, *rule.FOR_BEINGS, *rule.FOR_PEOPLE, *rule.FOR_ANIMALS, *rule.FOR_SEVERAL_BEINGS,
    *rule.FOR_SEVERAL_THINGS,
]  # fmt: skip

KNOWN_WORDS = sorted(
    {word for term in EVERY for word in term.asked_by}
    | ANYBODY | WOMEN | MEN | ANIMALS | {"no", "without", "or", "and", "two", "three", "both", "of", ",", "."}
)  # fmt: skip
PROMPTS = some.one_of(some.text(max_size=300), some.lists(some.sampled_from(KNOWN_WORDS), max_size=40).map(" ".join))


def terms(prompt: str) -> list[str]:
    answer = negative_prompt_for(prompt)
    return answer.split(", ") if answer else []


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a lighthouse in fog", GENERAL),
        ("", GENERAL),
        ("ein Leuchtturm im Nebel", GENERAL),
        ("an empty street, no people", GENERAL),
        ("a forest without animals or people", GENERAL),
        ("portrait of an old fisherman", GENERAL + PERSON),
        ("a macro photo of weathered hands", GENERAL + PERSON),
        ("a red fox in the snow", GENERAL + ANIMAL),
        ("portrait of a dog", GENERAL + ANIMAL),
        ("a puppy dog", GENERAL + ANIMAL),
        ("a woman, a queen in a long robe", GENERAL + PERSON),
    ],
)
def test_one_being_or_none(prompt: str, expected: list[str]) -> None:
    assert terms(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("two women at a table", PERSON + SEVERAL),
        ("a man and a woman dancing", PERSON + SEVERAL),
        ("a woman facing a man", PERSON + SEVERAL),
        ("a king and a wizard", PERSON + SEVERAL),
        ("a couple walking in the rain", PERSON + SEVERAL),
        ("a group of hikers", PERSON + SEVERAL),
        ("a family at the beach", PERSON + SEVERAL),
        ("friends around a fire", PERSON + SEVERAL),
        ("a crowd in a station", PERSON + SEVERAL),
        ("a boy looking at himself, both smiling", PERSON + SEVERAL),
        ("a dancer and a drummer looking at each other", PERSON + SEVERAL),
        ("3 astronauts", PERSON + SEVERAL),
        ("two deer in a clearing", ANIMAL + SEVERAL),
        ("a cat chasing a mouse", ANIMAL + SEVERAL),
        ("a flock of sheep", ANIMAL + SEVERAL),
        ("wolves", ANIMAL + SEVERAL),
        ("a girl with her cat", BOTH + SEVERAL),
        ("a cowboy riding a horse", BOTH + SEVERAL),
        ("three red fishing boats", THINGS),
        ("a couple of old cars", THINGS),
        ("12 lanterns on a wall", THINGS),
    ],
)
def test_several_get_more(prompt: str, expected: list[str]) -> None:
    assert terms(prompt) == GENERAL + expected


@pytest.mark.parametrize(
    "prompt",
    [
        "a glass house",
        "a three quarters view of a car",
        "two years of rain",
        "a 1980 car",
        "4k wallpaper of a lake",
        "²² x",
    ],
)
def test_not_everything_that_counts_counts_things(prompt: str) -> None:
    assert terms(prompt) == GENERAL


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("a blurry photo of a street", "blurry"),
        ("BLURRY street", "blurry"),
        ("a flower with soft bokeh", "blurry"),
        ("low-poly fox, pixel art", "pixelated"),
        ("neon city at night", "oversaturated"),
        ("a poster with the text HELLO", "text"),
        ('a shop front that is called "Ada"', "text"),
        ("a bank note with a watermark", "watermark"),
        ("a bank note with a watermark", "text"),
        ("a low quality webcam picture", "quality"),
        ("a deformed clay figure of a man", "deformed"),
        ("a six fingered man", "fingers"),
        ("the goddess Kali dancing", "limbs"),
        ("identical twins", "duplicated"),
        ("two ghosts floating over soldiers", "floating"),
    ],
)
def test_what_the_prompt_asks_for_is_left_out(prompt: str, word: str) -> None:
    assert word not in negative_prompt_for(prompt).replace(",", " ").split()


@pytest.mark.parametrize("prompt", ["a cat, no text", "a cat without any watermark or text", "a cat (not blurry)"])
def test_what_the_prompt_does_not_want_stays(prompt: str) -> None:
    assert terms(prompt) == GENERAL + ANIMAL


@pytest.mark.parametrize("term", EVERY, ids=lambda term: str(term.text))
def test_no_term_survives_a_prompt_that_names_it(term: Term) -> None:
    assert term.text not in terms(f"a man, a dog and three {term.text} things")


@pytest.mark.parametrize("word", ["black and white", "monochrome", "low poly", "cartoon", "sketch", "dark", "old"])
def test_no_style_is_ever_forbidden(word: str) -> None:
    assert word not in ", ".join(term.text for term in EVERY)


def test_the_longest_answer_fits_into_what_clip_reads() -> None:
    longest = negative_prompt_for("a man and a woman with their dogs")
    assert set(terms(longest)) <= {term.text for term in EVERY}
    assert 45 < length(negative_prompt_for("a man and a woman with their dogs")) <= LENGTH_MAX


@given(PROMPTS)
def test_any_text_gets_a_short_answer_without_what_it_names(prompt: str) -> None:
    answer = negative_prompt_for(prompt)
    assert answer == negative_prompt_for(prompt)
    assert length(answer) <= LENGTH_MAX
    assert len(set(terms(prompt))) == len(terms(prompt))
    if not re.search(r"\b(no|not|without|never|nor|zero|avoid)\b", prompt, re.IGNORECASE):
        lowered = " ".join(re.findall(r"\w+", prompt.casefold()))
        assert not [
            word
            for word in ("blurry", "text", "watermark", "signature")
            if word in lowered.split() and word in terms(prompt)
        ]


def length(answer: str) -> int:
    """Words and commas."""
    return len(re.findall(r"\w+|,", answer))
