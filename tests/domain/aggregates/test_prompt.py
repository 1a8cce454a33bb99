"""Saved prompts: what may be made of one, and what a repeat does."""

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import hypothesis
import pytest
from hypothesis import strategies as st

from domain.aggregates.prompt import DeletedPrompt, Prompt, Saved, UnknownPrompt, decide, evolve, owner_of, prompt_id
from domain.commands import DeletePrompt, EditPrompt, PromptCommand, SavePrompt
from domain.errors import IdempotencyKeyReused, NotFound
from domain.events import PromptDeleted, PromptEdited, PromptEvent, PromptSaved
from domain.recipes.recipe import Task
from tests.spec import NOW, OWNER

SAVE = SavePrompt(
    owner=OWNER,
    title="Fox",
    prompt="a fox in fog",
    negative_prompt="blurry",
    model="sdxl-demo",
    job_type="sdxl_image_fast",
    task=Task.TEXT_TO_IMAGE,
    tags=("fog", "animal", "fog"),
    now=NOW,
)
SAVED = PromptSaved(
    owner=OWNER,
    title="Fox",
    prompt="a fox in fog",
    negative_prompt="blurry",
    model="sdxl-demo",
    job_type="sdxl_image_fast",
    task=Task.TEXT_TO_IMAGE,
    tags=("animal", "fog"),
)
CONTENT = PromptEdited(**SAVED.model_dump(exclude={"owner"}))
DELETE = DeletePrompt(NOW)


def given(*facts: PromptEvent) -> Prompt:
    """The prompt after these facts."""
    prompt: Prompt = UnknownPrompt()
    for fact in facts:
        prompt = evolve(prompt, fact)
    return prompt


def test_a_prompt_is_saved_with_its_tags_in_order() -> None:
    assert decide(SAVE, UnknownPrompt()) == [SAVED]
    assert given(SAVED) == Saved(SAVED, CONTENT)


@pytest.mark.parametrize("negative", [None, ""])
def test_an_empty_negative_prompt_counts_as_absent(negative: str | None) -> None:
    (saved,) = decide(replace(SAVE, negative_prompt=negative), UnknownPrompt())
    assert isinstance(saved, PromptSaved)
    assert saved.negative_prompt is None


@pytest.mark.parametrize(
    "later", [(), (CONTENT.model_copy(update={"title": "Cat"}),), (PromptDeleted(),)], ids=["", "edited", "deleted"]
)
def test_saving_again_changes_nothing_whatever_became_of_it(later: tuple[PromptEvent, ...]) -> None:
    prompt = given(SAVED, *later)
    assert decide(SAVE, prompt) == []
    assert decide(replace(SAVE, model="sdxl", task=Task.MULTI), prompt) == []  # the catalog's job type changed
    for other in (
        replace(SAVE, title="Cat"),
        replace(SAVE, prompt="a cat"),
        replace(SAVE, negative_prompt=None),
        replace(SAVE, tags=()),
        replace(SAVE, job_type=None),
        replace(SAVE, job_type="sdxl_image_high"),
    ):
        with pytest.raises(IdempotencyKeyReused):
            decide(other, prompt)


def test_for_a_model_alone_the_model_counts() -> None:
    plain = replace(SAVE, job_type=None)
    prompt = given(*decide(plain, UnknownPrompt()))
    assert decide(replace(plain, task=Task.MULTI), prompt) == []
    with pytest.raises(IdempotencyKeyReused):
        decide(replace(plain, model="sdxl"), prompt)


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (EditPrompt(NOW, title="Cat"), {"title": "Cat"}),
        (EditPrompt(NOW, prompt="a cat", tags=("b", "a", "b")), {"prompt": "a cat", "tags": ("a", "b")}),
        (EditPrompt(NOW, negative_prompt=""), {"negative_prompt": None}),
        (EditPrompt(NOW, tags=()), {"tags": ()}),
        (
            EditPrompt(NOW, model="wan", job_type="video_fast", task=Task.TEXT_TO_VIDEO),
            {"model": "wan", "job_type": "video_fast", "task": Task.TEXT_TO_VIDEO},
        ),
        (
            EditPrompt(NOW, model="wan", task=Task.TEXT_TO_VIDEO),
            {"model": "wan", "job_type": None, "task": Task.TEXT_TO_VIDEO},
        ),
    ],
)
def test_what_an_edit_does_not_name_stays(command: EditPrompt, changed: dict[str, object]) -> None:
    edited = CONTENT.model_copy(update=changed)
    assert decide(command, given(SAVED)) == [edited]
    assert given(SAVED, edited) == Saved(SAVED, edited)
    assert decide(command, given(SAVED, edited)) == []


def test_deleting_twice_is_deleting_once() -> None:
    assert decide(DELETE, given(SAVED)) == [PromptDeleted()]
    assert decide(DELETE, given(SAVED, PromptDeleted())) == []
    assert given(SAVED, PromptDeleted()) == DeletedPrompt(SAVED)


@pytest.mark.parametrize(
    ("command", "prompt"),
    [
        (EditPrompt(NOW, title="Cat"), given()),
        (EditPrompt(NOW, title="Cat"), given(SAVED, PromptDeleted())),
        (DELETE, given()),
    ],
)
def test_what_is_not_there_cannot_be_changed(command: PromptCommand, prompt: Prompt) -> None:
    with pytest.raises(NotFound, match="There is no prompt"):
        decide(command, prompt)


@pytest.mark.parametrize("prompt", [given(), given(SAVED, PromptDeleted())])
def test_history_after_the_end_is_no_error(prompt: Prompt) -> None:
    assert evolve(prompt, CONTENT) == prompt
    assert evolve(prompt, PromptDeleted()) == prompt


def test_it_belongs_to_who_saved_it_also_when_it_is_gone() -> None:
    assert [owner_of(prompt) for prompt in (given(), given(SAVED), given(SAVED, PromptDeleted()))] == [
        None,
        OWNER,
        OWNER,
    ]


def test_a_key_has_one_id_for_each_owner() -> None:
    assert prompt_id(OWNER, "k") == prompt_id(OWNER, "k") == UUID("d1b259ad-48c3-5bb0-9119-e93fb34300b4")
    assert len({prompt_id(owner, key) for owner in ("ada", "bob") for key in ("k", "l")}) == 4


Commands = st.lists(
    st.one_of(
        st.just(SAVE),
        st.just(DELETE),
        st.builds(
            EditPrompt,
            now=st.just(NOW),
            title=st.none() | st.sampled_from(["Fox", "Cat"]),
            negative_prompt=st.none() | st.sampled_from(["", "text"]),
            tags=st.none() | st.sampled_from([(), ("b", "a")]),
        ),
        st.sampled_from([
            EditPrompt(NOW, model="wan", task=Task.TEXT_TO_VIDEO),
            EditPrompt(NOW, model="wan", job_type="video_fast", task=Task.TEXT_TO_VIDEO),
            EditPrompt(NOW, model="sdxl-demo", job_type="sdxl_image_fast", task=Task.TEXT_TO_IMAGE),
        ]),
    ),
    max_size=12,
)  # fmt: skip


@hypothesis.given(Commands)
def test_whatever_is_said_a_repeat_changes_nothing_and_nothing_follows_the_end(commands: list[PromptCommand]) -> None:
    facts: list[PromptEvent] = []
    for command in commands:
        with suppress(NotFound):
            facts += decide(command, given(*facts))
            assert decide(command, given(*facts)) == []
    assert sum(isinstance(fact, PromptSaved) for fact in facts) <= 1
    assert all(not isinstance(fact, PromptDeleted) for fact in facts[:-1])
    prompt = given(*facts)
    if isinstance(prompt, Saved):
        assert (prompt.content.task == Task.TEXT_TO_VIDEO) == (prompt.content.model == "wan")
        assert prompt.content.job_type in {None, "video_fast" if prompt.content.model == "wan" else "sdxl_image_fast"}
