"""A batch: opened once, its items run again one after the other, and preferences between its variants."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from domain.aggregates.batch import (
    Batch,
    BatchEntry,
    Opened,
    UnknownBatch,
    batch_id,
    decide,
    evolve,
    item_job_id,
    owner_of,
    rerun_job_id,
    title_of,
)
from domain.commands import BatchCommand, NewItem, OpenBatch, PreferAsset, RenameBatch, RunItemsAgain
from domain.errors import BatchMovedOn, IdempotencyKeyReused, InvalidInput, NotAComparison, NotFound
from domain.events import BatchEvent, BatchItemAdded, BatchOpened, BatchPreferred, BatchRenamed, ItemProblem
from tests.spec import NOW, OWNER, REQUEST_SHA256

FOX, OWL, HARE, AGAIN = (UUID(int=number) for number in range(1, 5))
FOX_PICTURE, OWL_PICTURE = UUID(int=11), UUID(int=12)
PROBLEM = ItemProblem(code="invalid_input", detail="prompt: required", problems=(("prompt", "required"),))

OPEN = OpenBatch(
    owner=OWNER,
    kind="batch",
    name="Foxes",
    items=(NewItem(0, "Fox", FOX), NewItem(1, "Wolf", None, PROBLEM), NewItem(2, "Owl", OWL)),
    now=NOW,
    collection="Autumn",
    request_sha256=REQUEST_SHA256,
)
OPENED = BatchOpened(owner=OWNER, kind="batch", name="Foxes", collection="Autumn", request_sha256=REQUEST_SHA256)
ITEMS = (
    BatchItemAdded(index=0, template="Fox", job_id=FOX),
    BatchItemAdded(index=1, template="Wolf", problem=PROBLEM),
    BatchItemAdded(index=2, template="Owl", job_id=OWL),
)
COMPARING = OPENED.model_copy(update={"kind": "comparison"})
PREFER = PreferAsset(FOX_PICTURE, OWL_PICTURE, blind=False, now=NOW, winner_job=FOX, loser_job=OWL)
PREFERRED = BatchPreferred(winner=FOX_PICTURE, loser=OWL_PICTURE, blind=False)
RUN_FOX_AGAIN = RunItemsAgain((NewItem(0, "Fox", AGAIN, instead_of=FOX),), NOW)
FOX_AGAIN = BatchItemAdded(index=0, template="Fox", job_id=AGAIN)


def given(*facts: BatchEvent) -> Batch:
    """The batch after these facts."""
    batch: Batch = UnknownBatch()
    for fact in facts:
        batch = evolve(batch, fact)
    return batch


def item_of(batch: Batch, index: int) -> BatchEntry:
    """One item of it."""
    assert isinstance(batch, Opened)
    return batch.items[index]


def test_opening_says_what_became_of_each_item() -> None:
    assert decide(OPEN, UnknownBatch()) == [OPENED, *ITEMS]
    batch = given(OPENED, *ITEMS)
    assert [item_of(batch, index).job_id for index in range(3)] == [FOX, None, OWL]
    assert item_of(batch, 1) == BatchEntry("Wolf", (), PROBLEM)
    assert (owner_of(UnknownBatch()), owner_of(batch)) == (None, OWNER)


def test_the_same_request_again_opens_nothing() -> None:
    assert decide(replace(OPEN, items=()), given(OPENED, *ITEMS)) == []


@pytest.mark.parametrize("sha256", ["ab" * 32, None])
def test_another_request_under_the_same_key_is_refused(sha256: str | None) -> None:
    with pytest.raises(IdempotencyKeyReused):
        decide(replace(OPEN, request_sha256=sha256), given(OPENED, *ITEMS))


def test_a_batch_without_a_key_is_never_taken_for_another_one() -> None:
    unnamed = OPENED.model_copy(update={"request_sha256": None})
    with pytest.raises(IdempotencyKeyReused):
        decide(replace(OPEN, request_sha256=None), given(unnamed))


@pytest.mark.parametrize("command", [RUN_FOX_AGAIN, RenameBatch("Reds", NOW), PREFER])
def test_nothing_is_done_to_a_batch_that_never_was(command: BatchCommand) -> None:
    with pytest.raises(NotFound):
        decide(command, UnknownBatch())


def test_an_item_that_runs_again_has_another_job_from_then_on() -> None:
    batch = given(OPENED, *ITEMS)
    assert decide(RUN_FOX_AGAIN, batch) == [FOX_AGAIN]
    again = given(OPENED, *ITEMS, FOX_AGAIN)
    assert item_of(again, 0).jobs == (FOX, AGAIN)
    assert isinstance(again, Opened)
    assert [again.index_of(job) for job in (FOX, AGAIN, OWL, HARE)] == [0, 0, 2, None]


def test_the_same_request_to_run_again_starts_nothing_twice() -> None:
    more = replace(RUN_FOX_AGAIN, items=(*RUN_FOX_AGAIN.items, NewItem(2, "Owl", HARE, instead_of=OWL)))
    assert decide(more, given(OPENED, *ITEMS, FOX_AGAIN)) == []


def test_an_item_that_another_request_ran_again_is_looked_at_again() -> None:
    late = RunItemsAgain((NewItem(0, "Fox", HARE, instead_of=FOX),), NOW)
    with pytest.raises(BatchMovedOn, match="Item 0") as caught:
        decide(late, given(OPENED, *ITEMS, FOX_AGAIN))
    assert caught.value.index == 0


def test_an_item_that_the_batch_does_not_have_cannot_run() -> None:
    with pytest.raises(NotFound):
        decide(RunItemsAgain((NewItem(7, None, AGAIN),), NOW), given(OPENED, *ITEMS))


def test_a_batch_is_renamed_and_the_same_name_again_is_nothing() -> None:
    batch = given(OPENED)
    assert decide(RenameBatch("Reds", NOW), batch) == [BatchRenamed(name="Reds")]
    assert decide(RenameBatch("Foxes", NOW), batch) == []
    assert decide(RenameBatch("Reds", NOW), given(OPENED, BatchRenamed(name="Reds"))) == []
    assert decide(RenameBatch("Foxes", NOW), given(OPENED, BatchRenamed(name="Reds"))) == [BatchRenamed(name="Foxes")]


def test_one_variant_is_preferred_to_another() -> None:
    batch = given(COMPARING, *ITEMS)
    assert decide(PREFER, batch) == [PREFERRED]
    assert decide(PREFER, given(COMPARING, *ITEMS, PREFERRED)) == []


def test_a_change_of_mind_and_another_way_of_looking_are_said_again() -> None:
    batch = given(COMPARING, *ITEMS, PREFERRED)
    turned = PreferAsset(OWL_PICTURE, FOX_PICTURE, blind=False, now=NOW, winner_job=OWL, loser_job=FOX)
    assert decide(turned, batch) == [BatchPreferred(winner=OWL_PICTURE, loser=FOX_PICTURE, blind=False)]
    assert decide(replace(PREFER, blind=True), batch) == [
        BatchPreferred(winner=FOX_PICTURE, loser=OWL_PICTURE, blind=True)
    ]
    back = given(COMPARING, *ITEMS, PREFERRED, *decide(turned, batch))
    assert decide(PREFER, back) == [PREFERRED]


def test_what_a_job_before_made_is_of_its_item_still() -> None:
    batch = given(COMPARING, *ITEMS, FOX_AGAIN)
    assert decide(PREFER, batch) == [PREFERRED]
    with pytest.raises(InvalidInput):
        decide(replace(PREFER, loser_job=AGAIN), batch)


@pytest.mark.parametrize("job", [HARE, None])
@pytest.mark.parametrize("side", ["winner", "loser"])
def test_what_is_not_of_the_comparison_cannot_be_preferred(side: str, job: UUID | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        decide(replace(PREFER, **{f"{side}_job": job}), given(COMPARING, *ITEMS))
    assert [problem.path for problem in caught.value.problems] == [side]


def test_two_assets_of_one_item_are_not_compared() -> None:
    with pytest.raises(InvalidInput) as caught:
        decide(replace(PREFER, loser_job=FOX), given(COMPARING, *ITEMS))
    assert [problem.path for problem in caught.value.problems] == ["loser"]


def test_templates_of_a_batch_are_not_compared() -> None:
    with pytest.raises(NotAComparison):
        decide(PREFER, given(OPENED, *ITEMS))


@pytest.mark.parametrize("event", [*ITEMS, BatchRenamed(name="Reds"), PREFERRED])
def test_a_batch_that_goes_on_without_a_beginning_is_damage(event: BatchEvent) -> None:
    with pytest.raises(ValueError, match="darkroom verify"):
        evolve(UnknownBatch(), event)


def test_ids_follow_from_what_they_stand_for() -> None:
    assert batch_id(OWNER, "form-17") == UUID("88d458b7-6376-5a70-ab4a-10ab34db362d")
    batch = uuid4()
    ids = [
        batch_id("bob", "form-17"),
        batch_id(OWNER, "form-18"),
        *(item_job_id(batch, index) for index in range(3)),
        *(rerun_job_id(batch, key, index) for key in ("a", "b") for index in range(3)),
    ]
    assert len(set(ids)) == len(ids)
    assert item_job_id(batch, 1) == item_job_id(batch, 1)


@pytest.mark.parametrize(
    ("collection", "template", "title"),
    [("Autumn", "Fox", "Autumn - Fox"), (None, "Fox", "Fox"), ("Autumn", None, "Autumn"), (None, None, None)],
)
def test_assets_are_called_by_what_there_is(collection: str | None, template: str | None, title: str | None) -> None:
    assert title_of(collection, template) == title
