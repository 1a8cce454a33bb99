"""The invariants of batches under any commands in any order, also of clients who do not know of each other."""

from uuid import UUID, uuid5

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.aggregates.batch import Batch, Opened, UnknownBatch, decide, evolve
from domain.commands import BatchCommand, NewItem, OpenBatch, PreferAsset, RenameBatch, RunItemsAgain
from domain.errors import Refused
from domain.events import BatchEvent, BatchItemAdded, BatchPreferred
from domain.recipes.recipe import asset_id
from tests.domain.aggregates.test_batch import PROBLEM
from tests.spec import NOW, OWNER

BATCH = UUID(int=1)
INDEXES = st.integers(0, 4)
BACK = st.sampled_from([0, 0, 0, 1, 2])
"""How many jobs behind the one that stands for the item somebody is who asks."""


class Batches(RuleBasedStateMachine):
    """A batch, and every event of it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[BatchEvent] = []
        self.batch: Batch = UnknownBatch()
        self.asked = 0

    def tell(self, command: BatchCommand) -> list[BatchEvent]:
        """What the command leads to; a refusal leads to nothing."""
        try:
            decided = decide(command, self.batch)
        except Refused:
            return []
        for event in decided:
            self.batch = evolve(self.batch, event)
        self.events += decided
        assert not decided or decide(command, self.batch) == [], "a repeated command returns no events"
        return decided

    def jobs_of(self, index: int) -> tuple[UUID, ...]:
        """The jobs that made an item."""
        assert isinstance(self.batch, Opened)
        return self.batch.items[index].jobs if index in self.batch.items else ()

    @initialize(accepted=st.lists(st.booleans(), min_size=2, max_size=5), comparing=st.booleans())
    def open(self, accepted: list[bool], *, comparing: bool) -> None:
        """Some items are rejected."""
        items = tuple(
            NewItem(index, None, uuid5(BATCH, str(index)) if saved else None, None if saved else PROBLEM)
            for index, saved in enumerate(accepted)
        )
        kind = "comparison" if comparing else "batch"
        self.tell(OpenBatch(owner=OWNER, kind=kind, name="Foxes", items=items, now=NOW, request_sha256="ab" * 32))

    @rule(indexes=st.lists(INDEXES, min_size=1, max_size=3, unique=True), back=BACK)
    def run_again(self, indexes: list[int], back: int) -> None:
        """Whoever asks may have looked some time ago."""
        self.asked += 1
        items = []
        for index in indexes:
            known = self.jobs_of(index)[: len(self.jobs_of(index)) - back]
            job_id = uuid5(BATCH, f"{self.asked} {index}")
            items.append(NewItem(index, None, job_id, instead_of=known[-1] if known else None))
        before = self.batch
        started = self.tell(RunItemsAgain(tuple(items), NOW))
        assert isinstance(before, Opened)
        assert len(started) in (0, len(items)), "items asked for together run again together"
        if started and back:
            assert not any(before.items[index].jobs for index in indexes), "nobody replaces a job they have not seen"

    @rule(
        winner=st.tuples(INDEXES, st.integers(0, 1)), loser=st.tuples(INDEXES, st.integers(0, 1)), blind=st.booleans()
    )
    def prefer(self, winner: tuple[int, int], loser: tuple[int, int], *, blind: bool) -> None:
        """Of the last jobs of two items."""
        jobs = [self.jobs_of(index)[-1:] for index, _ in (winner, loser)]
        found = [job[0] if job else UUID(int=9) for job in jobs]
        assets = [asset_id(job, index) for job, (_, index) in zip(found, (winner, loser), strict=True)]
        self.tell(PreferAsset(assets[0], assets[1], blind, NOW, found[0], found[1]))

    @rule(name=st.sampled_from(["Foxes", "Reds"]))
    def rename(self, name: str) -> None:
        """There and back."""
        self.tell(RenameBatch(name, NOW))

    @invariant()
    def a_job_stands_for_one_item_at_most(self) -> None:
        """And the last one that was added is it."""
        added = [event for event in self.events if isinstance(event, BatchItemAdded) and event.job_id is not None]
        assert len({event.job_id for event in added}) == len(added)
        if isinstance(self.batch, Opened):
            latest = {event.index: event.job_id for event in added}
            assert {index: item.job_id for index, item in self.batch.items.items() if item.jobs} == latest

    @invariant()
    def a_preference_is_between_different_items_of_a_comparison(self) -> None:
        """And each pair has one at most that counts: the last."""
        preferred = [event for event in self.events if isinstance(event, BatchPreferred)]
        if isinstance(self.batch, Opened):
            assert not preferred or self.batch.opened.kind == "comparison"
            latest = {frozenset((event.winner, event.loser)): event for event in preferred}
            assert self.batch.preferences == latest
        assert all(event.winner != event.loser for event in preferred)

    @invariant()
    def folding_from_scratch_gives_the_running_state(self) -> None:
        """History is all there is."""
        batch: Batch = UnknownBatch()
        for event in self.events:
            batch = evolve(batch, event)
        assert batch == self.batch


TestBatches = Batches.TestCase
TestBatches.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
