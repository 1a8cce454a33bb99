"""A prompt as words: what it asks for, and what it excludes."""

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

TOKEN: Final = re.compile(r"[^\W_]+|[^\w\s'\u2019\-]|\n")
"""A word, or a punctuation mark that ends a clause. Hyphen and apostrophe do not: low-poly equals low poly."""

DENIALS: Final = frozenset({"no", "not", "without", "never", "nor", "zero", "avoid"})
DENIED_WORDS: Final = 2
"""Number of words that a negation covers: `no people`, `without any text`; an `or` extends it."""

PHRASE_WORDS_MAX: Final = 4
"""Maximum number of words in a phrase that `ask_for` finds."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a prompt in lower case, with an empty one at the end of a clause and for negated words."""

    tokens: tuple[str, ...]
    phrases: frozenset[str]

    def ask_for(self, phrases: Set[str]) -> bool:
        """Whether the prompt asks for one of these words or phrases."""
        return not self.phrases.isdisjoint(phrases)

    def between(self, first: int, last: int) -> tuple[str, ...]:
        """The words after `first` up to `last`, both excluded."""
        return self.tokens[first + 1 : last]

    def following(self, at: int, count: int) -> tuple[str, ...]:
        """The next `count` words of the same clause."""
        following = self.tokens[at + 1 : at + 1 + count]
        return following[: following.index("")] if "" in following else following


def words_of(prompt: str, *, heed_denials: bool = True) -> Words:
    """Split any text into words. Without `heed_denials`, `no text` asks for text as well."""
    tokens: list[str] = []
    denied, left = False, 0  # whether the last word was negated, and how many of the next ones are
    for found in TOKEN.findall(prompt.casefold()):
        if heed_denials and (found in DENIALS or (denied and found == "or")):
            denied, left = True, DENIED_WORDS
        elif not found[0].isalnum():
            denied, left = False, 0
        else:
            denied, left = left > 0, max(left - 1, 0)
            tokens.append("" if denied else found)
            continue
        tokens.append("")
    return Words(tuple(tokens), frozenset(_phrases(tokens)))


def _phrases(tokens: list[str]) -> set[str]:
    phrases: set[str] = set()
    for first in range(len(tokens)):
        for last in range(first, min(first + PHRASE_WORDS_MAX, len(tokens))):
            if not tokens[last]:
                break
            phrases.add(" ".join(tokens[first : last + 1]))
    return phrases


def listed(words: str) -> frozenset[str]:
    """Words separated by white space; an underscore joins those of a phrase."""
    return frozenset(word.replace("_", " ") for word in words.split())
