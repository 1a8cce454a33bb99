"""Text that people type: whether it is visibly empty, and one spelling for text that looks the same."""

import unicodedata
from collections.abc import Collection
from typing import Final

INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Unicode categories of controls, formats (joiners, directions, soft hyphens) and every kind of space."""

INVISIBLE_RANGES: Final = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2065, 0x2065),
    (0x2800, 0x2800),  # the Braille pattern without dots
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # half-width Hangul filler
    (0xFFF0, 0xFFF8),
    (0x1D159, 0x1D159),  # musical null note head
    (0xE0000, 0xE0FFF),  # tags and variation selectors
)
"""First and last of invisible code points in other categories: Default_Ignorable_Code_Point of Unicode 16
(DerivedCoreProperties.txt), the empty Braille pattern and the null note head."""


def is_blank(text: str) -> bool:
    """Whether the text is empty or has only white space and invisible characters."""
    if text[:1].isascii() and text[:1].isalnum():  # nearly always
        return False
    return all(_is_invisible(character) for character in text)


def normalized(text: str) -> str:
    """The composed form (NFC): é is one character, whatever the keyboard or file system."""
    return unicodedata.normalize("NFC", text)


def normalized_tags(tags: Collection[str]) -> tuple[str, ...]:
    """A set of tags, sorted, each in its composed form."""
    return tuple(sorted({normalized(tag) for tag in tags})) if tags else ()


def _is_invisible(character: str) -> bool:
    if unicodedata.category(character) in INVISIBLE_CATEGORIES:
        return True
    return any(first <= ord(character) <= last for first, last in INVISIBLE_RANGES)
