"""Messages about bad values are in our own words, whatever pydantic finds."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from domain.recipes.recipe import PROMPT_CHARACTERS_MAX
from domain.validation_words import words_for


class Size(StrEnum):
    """An enumeration, as options of the command line have them."""

    SMALL = "small"
    LARGE = "large"


class Everything(BaseModel):
    """A field of each kind that bodies, settings and options have."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=2, max_length=4, pattern=r"\S")] = "name"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    ratio: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.5
    yes: bool = True
    size: Size = Size.SMALL
    kind: Literal["image", "video"] = "image"
    tags: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    unique: set[str] = set()
    named: dict[str, int] = {}
    id: UUID | None = None
    at: datetime | None = None
    file: Path | None = None
    nothing: None = None
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, even: int) -> int:
        if even % 2:
            raise ValueError("must be even")
        return even


def words(**fields: Any) -> list[str]:
    """What is said of each bad field."""
    with pytest.raises(ValidationError) as refused:
        Everything.model_validate(fields)
    return [words_for(one) for one in refused.value.errors()]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "x"}, "must have at least 2 characters"),
        ({"name": "xxxxx"}, "must have at most 4 characters"),
        ({"name": "  "}, "must not be blank"),
        ({"name": 7}, "must be a string"),
        ({"count": "x"}, "must be a whole number"),
        ({"count": 1.5}, "must be a whole number"),
        ({"count": []}, "must be a whole number"),
        ({"count": 0}, "must be at least 1"),
        ({"count": 10}, "must be at most 9"),
        ({"ratio": 0}, "must be more than 0.0"),
        ({"ratio": 1}, "must be less than 1.0"),
        ({"ratio": "x"}, "must be a number"),
        ({"ratio": float("nan")}, "must be a finite number"),
        ({"yes": "perhaps"}, "must be true or false"),
        ({"size": "huge"}, "must be small or large"),
        ({"kind": "sound"}, "must be image or video"),
        ({"tags": "a"}, "must be a list"),
        ({"tags": []}, "must have at least 1 item"),
        ({"tags": ["a", "b", "c"]}, "must have at most 2 items"),
        ({"named": []}, "must be an object"),
        ({"id": "42"}, "must be an id, as in 2f1c1f9e-4a53-5b0e-9d43-5d0f6a3f8f11"),
        ({"nothing": 1}, "must be null"),
        ({"even": 1}, "must be even"),
        ({"colour": "red"}, "unknown field; it is not taken"),
    ],
)
def test_each_kind_of_bad_value_has_its_words(fields: dict[str, Any], expected: str) -> None:
    assert words(**fields) == [expected]


def test_a_missing_field_is_called_required() -> None:
    class Needs(BaseModel):
        prompt: Annotated[str, Field(max_length=PROMPT_CHARACTERS_MAX)]

    with pytest.raises(ValidationError) as refused:
        Needs.model_validate({})
    assert words_for(refused.value.errors()[0]) == "is required"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(name=st.sampled_from(sorted(Everything.model_fields)), value=ANYTHING)
def test_no_words_of_pydantic_reach_a_person(name: str, value: Any) -> None:
    try:
        Everything.model_validate({name: value})
    except ValidationError as error:
        for one in error.errors():
            said = words_for(one)
            assert said
            assert "nput" not in said
            assert "should" not in said
            assert "valid integer" not in said


def test_a_kind_that_nobody_foresaw_is_still_a_sentence() -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Annotated[int, Field(multiple_of=3)]).validate_python(4)
    assert words_for(refused.value.errors()[0]) == "must be a multiple of 3"
