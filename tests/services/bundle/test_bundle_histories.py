"""Whatever happened: what is exported arrives, everything or a job or a batch, and once."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from domain.aggregates.asset import Completed, Reserved
from domain.aggregates.job import Finished, attempt_of
from domain.commands import DismissAsset, RateAsset, TagAsset, TitleAsset, TrashAsset
from domain.errors import Refused
from services.bundle.errors import JobUnfinished
from tests.databases import Databases
from tests.services.places import NOW, Place, opened
from tests.spec import CANCEL, INVALID_INPUT, confirm, expire, release, report_failed

OWNERS_SAY = (RateAsset(4, NOW), TitleAsset("fög", NOW), TagAsset(("sea",), NOW), TrashAsset(NOW), DismissAsset(NOW))


@dataclass
class Told:
    """What happened at a place so far."""

    place: Place
    jobs: list[UUID] = field(default_factory=list)
    batches: list[UUID] = field(default_factory=list)
    uploads: list[UUID] = field(default_factory=list)

    def pick(self, of: list[UUID], number: int) -> UUID:
        """One of them."""
        if not of:
            raise Refused
        return of[number % len(of)]

    def asset(self, number: int, state: type) -> tuple[UUID, int]:
        """An asset in this state."""
        found = [
            (job_id, index)
            for job_id in self.jobs
            for index, asset in enumerate(self.place.ledger.generation(job_id).assets)
            if isinstance(asset, state)
        ]
        if not found:
            raise Refused
        return found[number % len(found)]

    def submit(self, number: int) -> None:
        """From an upload, an asset, or neither."""
        place, quantity = self.place, 1 + number % 2
        if number % 3 == 0 and self.uploads:
            photo = self.pick(self.uploads, number)
            self.jobs.append(place.submit(place.from_upload(photo, quantity=quantity), uploads=[photo]))
        elif number % 3 == 1:
            job_id, index = self.asset(number, Completed)
            self.jobs.append(place.submit(place.from_asset(job_id, index, quantity=quantity)))

    def batch(self, number: int) -> None:
        """One or two items."""
        batch_id, jobs = self.place.batch(1 + number % 2)
        self.batches.append(batch_id)
        self.jobs += jobs

    def complete(self, number: int) -> None:
        """An asset, begun if it has to be."""
        job_id, index = self.asset(number, Reserved)
        with suppress(Refused):
            self.place.begin(job_id)
        self.place.complete(job_id, index)

    def interrupt(self, number: int) -> None:
        """What ends a try, or a job."""
        job_id, index = self.asset(number, Reserved)
        attempt = max(1, attempt_of(self.place.ledger.generation(job_id).job))
        commands = (
            CANCEL,
            expire(attempt),
            release(attempt),
            confirm(attempt),
            report_failed(index, attempt, INVALID_INPUT),
        )
        self.place.story.tell(job_id, commands[number % len(commands)])

    def curate(self, number: int) -> None:
        """What its owner makes of an asset."""
        job_id, index = self.asset(number, Completed)
        self.place.story.curate(job_id, index, OWNERS_SAY[number % len(OWNERS_SAY)])

    def thumbnail(self, number: int) -> None:
        """Of an asset."""
        self.place.thumbnail(*self.asset(number, Completed))

    def upload(self, number: int) -> None:
        """One of three files."""
        self.uploads.append(self.place.upload(f"photo {number % 3}".encode()))

    def delete(self, number: int) -> None:
        """An upload that nothing starts from."""
        media = self.pick(self.uploads, number)
        self.place.delete_upload(media)
        self.uploads = [each for each in self.uploads if each != media]

    def enhance(self, _: int) -> None:
        """A prompt alone."""
        self.place.enhance()

    def unfinished(self) -> list[UUID]:
        """The jobs that have not ended."""
        return [job for job in self.jobs if not isinstance(self.place.ledger.generation(job).job, Finished)]


WORDS: dict[str, Callable[[Told, int], None]] = {
    name: getattr(Told, name)
    for name in ("submit", "batch", "complete", "interrupt", "curate", "thumbnail", "upload", "delete", "enhance")
}
Steps = st.lists(
    st.tuples(st.sampled_from([*WORDS, "submit", "complete", "complete", "complete"]), st.integers(0, 30)),
    min_size=15,
    max_size=40,
)


# Without shrinking: each try fills three databases, and the steps of the first failure tell enough.
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(steps=Steps, unfinished=st.booleans(), cut=st.floats(0, 1, exclude_max=True))
def test_whatever_happened_arrives(
    databases: Databases, steps: list[tuple[str, int]], unfinished: bool, cut: float
) -> None:
    with ExitStack() as stack:
        here, there, elsewhere = (_place(stack, databases) for _ in range(3))
        told = Told(here)
        told.jobs.append(here.finished())
        early = here.folder.with_name("early.zip")
        for number, (word, which) in enumerate(steps):
            if number == int(cut * len(steps)):
                here.export(None, early)
            with suppress(Refused):  # what the rules do not allow leaves no trace
                WORDS[word](told, which)
        late = here.folder.with_name("late.zip")
        made = here.export(None, late, unfinished=unfinished)

        assert there.take_in(late).checksum == made.checksum
        assert there.streams().items() <= here.streams().items()
        assert there.files().items() <= here.files().items()
        if not made.left_out.jobs:
            assert (there.rows(), there.commits(), there.files()) == (here.rows(), here.commits(), here.files())
            assert there.checksums() == here.checksums()
        assert there.take_in(late).appended == 0
        assert there.views.catch_up().parked() == []
        there.require_chain()

        elsewhere.take_in(early)  # by and by, the same
        for identifier in (*told.jobs[-3:], *told.batches[-2:]):
            _bring(told, identifier, elsewhere)
        assert elsewhere.take_in(late).checksum == made.checksum
        assert there.streams().items() <= elsewhere.streams().items() <= here.streams().items()
        assert there.files().items() <= elsewhere.files().items() <= here.files().items()
        assert elsewhere.views.catch_up().parked() == []
        elsewhere.require_chain()


def _place(stack: ExitStack, databases: Databases) -> Place:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "blobs"
    folder.mkdir()
    return stack.enter_context(opened(stack.enter_context(databases.migrated()), folder))


def _bring(told: Told, identifier: UUID, where: Place) -> None:
    """The bundle of one job or batch; refused only when something in it has not ended."""
    here = told.place
    file = here.folder.with_name(f"{identifier}.zip")
    running = told.unfinished()
    with suppress(JobUnfinished):
        made = here.export(identifier, file)
        assert identifier not in running
        assert made.unfinished == 0
        assert where.take_in(file).checksum == made.checksum
    assert file.exists() or running


def test_a_process_that_dies_in_mid_import_leaves_nothing_and_it_is_imported_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        here, there = (_place(stack, databases) for _ in range(2))
        for _ in range(3):
            here.finished()
        file = here.folder.with_name("bundle.zip")
        made = here.export(None, file)
        monkeypatch.setattr("services.bundle.intake.GROUP_COMMITS_MAX", 2)
        landed = 0

        class Killed(BaseException):
            """Nobody catches it."""

        def told(what: str, number: int, count: int) -> None:
            nonlocal landed
            if what == "events appended":
                landed = number
                assert there.rows() == []  # nobody sees a part
                assert there.files() == here.files()  # before the ledger names them
                if number > count / 2:
                    raise Killed

        with pytest.raises(Killed):
            there.take_in(file, told)
        assert 0 < landed < made.events
        assert there.rows() == []
        assert there.take_in(file).checksum == made.checksum
        assert there.rows() == here.rows()
        there.require_chain()
