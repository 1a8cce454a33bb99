"""Text that shows nothing, and text that looks alike."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.wording.text import is_blank, normalized, normalized_tags

INVISIBLE = [
    "",
    " ",
    "\n\t",
    "\u00a0",  # no-break space
    "\u00ad",  # soft hyphen
    "\u034f",
    "\u115f\u1160",
    "\u180e",
    "\u200b",  # zero width space
    "\u200c\u200d",  # joiners
    "\u202e",  # right-to-left override
    "\u2060",
    "\u2800",  # Braille pattern without dots
    "\u3000",  # ideographic space
    "\u3164",
    "\ufe0f",  # variation selector
    "\ufeff",
    "\uffa0",
    "\U0001d173",
    "\U000e0041",
]


@pytest.mark.parametrize("text", INVISIBLE)
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text + " \u200b")
    assert not is_blank(text + "x")


@pytest.mark.parametrize("text", ["x", ".", "🦊", "แมว", "猫", "é", "\u0301", "👩\u200d🚀", "-", "\u0600x"])
def test_what_shows_something_is_not_blank(text: str) -> None:
    assert not is_blank(text)


@given(st.text(alphabet=st.sampled_from("".join(INVISIBLE)), max_size=20))
def test_invisible_characters_are_blank_in_any_order(text: str) -> None:
    assert is_blank(text)


@given(st.lists(st.text(max_size=8), max_size=8))
def test_tags_are_a_sorted_set_whatever_their_form(tags: list[str]) -> None:
    decomposed = [unicodedata.normalize("NFD", tag) for tag in reversed(tags)]
    assert (
        normalized_tags(tags) == normalized_tags(decomposed + tags) == tuple(sorted({normalized(tag) for tag in tags}))
    )
