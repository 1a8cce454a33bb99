"""Texts in a body: prompts, titles, names and tags. Bounded, and with at least one visible character."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from domain.bounds import TAGS_MAX
from domain.recipes.recipe import PROMPT_CHARACTERS_MAX
from domain.wording.text import is_blank, normalized

TITLE_CHARACTERS_MAX: Final = 200
NAME_CHARACTERS_MAX: Final = 200
COLLECTION_CHARACTERS_MAX: Final = 100
TEMPLATE_CHARACTERS_MAX: Final = 100
TAG_CHARACTERS_MAX: Final = 64


def _visible(text: str) -> str:
    if is_blank(text):
        raise ValueError("must have a character that can be seen; white space and invisible characters alone are empty")
    return text


Visible = AfterValidator(_visible)
"""Refuses a text of only white space and invisible characters."""


Prompt = Annotated[str, Field(min_length=1, max_length=PROMPT_CHARACTERS_MAX), Visible]
NegativePrompt = Annotated[str, Field(max_length=PROMPT_CHARACTERS_MAX)]
Title = Annotated[str, Field(min_length=1, max_length=TITLE_CHARACTERS_MAX), Visible]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"\S"), Visible]
Collection = Annotated[str, Field(min_length=1, max_length=COLLECTION_CHARACTERS_MAX, pattern=r"\S"), Visible]
Template = Annotated[str, Field(min_length=1, max_length=TEMPLATE_CHARACTERS_MAX, pattern=r"\S"), Visible]
Tag = Annotated[str, Field(min_length=1, max_length=TAG_CHARACTERS_MAX), Visible, AfterValidator(normalized)]
Tags = Annotated[list[Tag], Field(max_length=TAGS_MAX)]
