"""What an event may hold: at each bound it is taken, beyond it refused, and old ones decode all the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from domain.aggregates.media import EXTENSIONS
from domain.bounds import NAME_CHARACTERS_MAX, NUMBER_MAX, require_bounds
from domain.codec import CURRENT, Codec
from domain.errors import InvalidInput
from domain.events import Event, JobQueued
from domain.recipes.recipe import InputFile
from tests.spec import file_of, queued

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.json"))
MEGABYTE = "x" * 1_000_000


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_every_event_that_was_ever_released_is_within_its_bounds(file: Path) -> None:
    _, event, _ = Codec().decode(file.stem, json.loads(file.read_text()))
    require_bounds(event)


def texts_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where free texts stand in the JSON of an event."""
    if isinstance(value, str):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in texts_of(inner, (*path, key))]


def changed(value: Any, path: tuple[Any, ...], text: str) -> Any:
    """A copy with another text there."""
    if not path:
        return text
    inner = changed(value[path[0]], path[1:], text)
    return (
        {**value, path[0]: inner}
        if isinstance(value, dict)
        else [inner if place == path[0] else each for place, each in enumerate(value)]
    )


PLACES = [
    (file.stem, path) for file in GOLDEN if file.stem in CURRENT for path in texts_of(json.loads(file.read_text()))
]


@pytest.mark.parametrize(
    ("topic", "path"), PLACES, ids=[f"{topic}:{'.'.join(map(str, path))}" for topic, path in PLACES]
)
@pytest.mark.parametrize("text", [MEGABYTE, "a\0b"], ids=["a megabyte", "a NUL"])
def test_no_text_of_any_event_is_without_a_bound(topic: str, path: tuple[Any, ...], text: str) -> None:
    """Whatever text of whatever event: a megabyte and a NUL are refused, by the type of the field or by its bound."""
    content = json.loads((GOLDEN[0].parent / f"{topic}.json").read_text())
    try:
        event = CURRENT[topic].model_validate(changed(content, path, text))
    except ValueError:
        return  # an id, a time, a literal or a hash
    with pytest.raises(InvalidInput):
        require_bounds(event)


@given(some.text())
def test_a_media_type_is_one_of_the_list_or_refused(media_type: str) -> None:
    event = file_of(0, 1).model_copy(update={"media_type": media_type})
    if media_type in EXTENSIONS:
        require_bounds(event)
    else:
        with pytest.raises(InvalidInput, match="media_type"):
            require_bounds(event)


UPLOADED = CURRENT["media.uploaded.v1"].model_validate_json((GOLDEN[0].parent / "media.uploaded.v1.json").read_text())
KINDS = ("image", "video", "audio")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("media_type", EXTENSIONS)
def test_an_upload_has_a_type_of_its_kind_or_is_refused(media_type: str, kind: str) -> None:
    event = UPLOADED.model_copy(update={"media_type": media_type, "kind": kind})
    if media_type.startswith(f"{kind}/"):
        require_bounds(event)
    else:
        with pytest.raises(InvalidInput, match=f"media_type: must be a type of {kind}"):
            require_bounds(event)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_starts_from_files_whose_types_are_of_their_kinds(kind: Any) -> None:
    file = InputFile(kind=kind, media_type="image/webp", sha256="a" * 64, path="uploads/ada/a.webp")
    [event] = queued(1).job
    assert isinstance(event, JobQueued)
    event = event.model_copy(update={"recipe": event.recipe.model_copy(update={"files": {"media:1": file}})})
    if kind == "image":
        require_bounds(event)
    else:
        with pytest.raises(InvalidInput, match=f"files: must be a type of {kind}"):
            require_bounds(event)


@pytest.mark.parametrize("value", [NUMBER_MAX + 1, 10**400, float("inf"), float("nan"), -float("inf")])
def test_a_number_that_json_does_not_carry_exactly_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput):
        require_bounds(file_of(0, 1).model_copy(update={"render_ms": value}))


@pytest.mark.parametrize("length", [NAME_CHARACTERS_MAX, NAME_CHARACTERS_MAX + 1])
def test_a_bound_is_the_most_that_is_taken(length: int) -> None:
    event: Event = file_of(0, 1).model_copy(update={"worker_versions": {"torch": "2" * length}})
    if length <= NAME_CHARACTERS_MAX:
        require_bounds(event)
    else:
        with pytest.raises(InvalidInput):
            require_bounds(event)
