"""Installations without their programs: a ledger and an object store each, and what happens there, with real files."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from domain.aggregates.asset import Completed, Reserved
from domain.aggregates.job import attempt_of
from domain.aggregates.media import media_id
from domain.commands import DeleteMedia, ReportAssetCompleted, SubmitJob, ThumbnailAsset, UploadMedia
from domain.envelope import Envelope
from domain.events import (
    AssetThumbnailed,
    BatchItemAdded,
    BatchOpened,
    EnhancementMade,
    Event,
    ItemProblem,
    PromptDeleted,
    PromptSaved,
)
from domain.recipes.recipe import InputFile, Recipe, Task, asset_id
from projections import ALL
from services.bundle.export import ExportRequest, Told, export
from services.bundle.intake import Imported, take_in
from services.bundle.layout import Manifest
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import ASSET, JOB, MEDIA, Context, EventMapper, Instruction, Ledger, PostgresRecorder
from services.ledger.commits import Commit, NewEvent
from services.ledger.flusher import Flusher
from services.ledger.planning import Planner
from services.ledger.verification import verify_chain
from services.views.rebuild import matches_ledger
from tests.histories import Story, Views
from tests.spec import OWNER, SUBMIT, file_of, recipe, start

NOW = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """One installation."""

    dsn: str
    folder: Path
    database: Database
    recorder: PostgresRecorder
    ledger: Ledger
    blobs: Blobs

    @property
    def story(self) -> Story:
        """What people and workers do here."""
        return Story(self.ledger, lambda: datetime.now(UTC))

    @property
    def views(self) -> Views:
        """The views here."""
        return Views(self.database, self.ledger)

    def submit(self, recipe: Recipe, *, uploads: Sequence[UUID] = (), owner: str = OWNER) -> UUID:
        """A new job; its id."""
        job_id = uuid4()
        asked = self._asked(job_id, recipe, uploads=tuple(uploads), owner=owner)
        self.ledger.execute(JOB, job_id, asked, Context(owner, owner))
        return job_id

    def begin(self, job_id: UUID) -> None:
        """A worker takes the job."""
        attempt = attempt_of(self.ledger.generation(job_id).job) + 1
        self.story.tell(job_id, start(attempt))

    def complete(self, job_id: UUID, index: int) -> None:
        """A worker makes the file of one asset."""
        generation = self.ledger.generation(job_id)
        asset = generation.assets[index]
        assert isinstance(asset, Reserved)
        content = f"picture {index} of {job_id}".encode()
        self.blobs.put_once(asset.reservation.path, content)
        made = file_of(index, attempt_of(generation.job)).model_copy(
            update={"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        )
        self.story.tell(job_id, ReportAssetCompleted(index, made, NOW))

    def finish(self, job_id: UUID) -> UUID:
        """A worker makes all of them; the job again."""
        self.begin(job_id)
        for index in range(len(self.ledger.generation(job_id).assets)):
            self.complete(job_id, index)
        return job_id

    def finished(self, quantity: int = 2, *, owner: str = OWNER) -> UUID:
        """A job from text alone that is completed."""
        return self.finish(self.submit(recipe(quantity), owner=owner))

    def thumbnail(self, job_id: UUID, index: int, owner: str = OWNER) -> None:
        """What the thumbnailer makes of an asset."""
        asset = asset_id(job_id, index)
        content = f"small {asset}".encode()
        path = f"thumbnails/{owner}/{asset}.webp"
        self.blobs.put_once(path, content)
        sha256 = hashlib.sha256(content).hexdigest()
        made = AssetThumbnailed(sha256=sha256, bytes=len(content), width=64, height=64, path=path)
        self.ledger.execute(ASSET, asset, ThumbnailAsset(made, NOW), Context("thumbnails"))

    def upload(self, content: bytes = b"a photo", owner: str = OWNER) -> UUID:
        """Somebody brings a file; its id."""
        sha256 = hashlib.sha256(content).hexdigest()
        asked = UploadMedia(owner, "image", "image/png", len(content), sha256, datetime.now(UTC), 64, 48)
        identifier = media_id(owner, sha256)
        self.ledger.execute(MEDIA, identifier, asked, Context(owner, owner))
        self.blobs.put_once(self.ledger.media(identifier).uploaded.path, content)
        return identifier

    def delete_upload(self, media: UUID, owner: str = OWNER) -> None:
        """Its owner does not want it any more."""
        path = self.ledger.media(media).uploaded.path
        self.ledger.execute(MEDIA, media, DeleteMedia(datetime.now(UTC)), Context(owner, owner))
        self.blobs.delete(path)

    def from_upload(self, media: UUID, *, quantity: int = 1) -> Recipe:
        """What starts from an upload."""
        uploaded = self.ledger.media(media).uploaded
        file = InputFile(kind="image", media_type=uploaded.media_type, sha256=uploaded.sha256, path=uploaded.path)
        return _starting_from(f"media:{media}", file, quantity)

    def from_asset(self, job_id: UUID, index: int, *, quantity: int = 1) -> Recipe:
        """What starts from an asset of a job."""
        asset = self.ledger.generation(job_id).assets[index]
        assert isinstance(asset, Completed)
        path, completed = asset.reservation.path, asset.completed
        file = InputFile(kind="image", media_type=completed.media_type, sha256=completed.sha256, path=path)
        return _starting_from(f"asset:{asset_id(job_id, index)}", file, quantity)

    def batch(self, items: int, *, base: UUID | None = None, owner: str = OWNER) -> tuple[UUID, list[UUID]]:
        """A batch of so many jobs, and an item that was not accepted, in one commit; its id and those of the jobs."""
        batch_id = uuid4()
        jobs = [uuid4() for _ in range(items)]
        given = recipe(1) if base is None else self.from_upload(base)
        facts: list[Event] = [
            BatchOpened(owner=owner, kind="batch", name="spring", base=None if base is None else f"media:{base}"),
            *(BatchItemAdded(index=index, template=f"card {index}", job_id=job) for index, job in enumerate(jobs)),
            BatchItemAdded(index=items, problem=ItemProblem(code="invalid_input", detail="too many steps")),
        ]
        events = [_encoded(batch_id, version, fact, owner) for version, fact in enumerate(facts, start=1)]
        for job_id in jobs:
            asked = self._asked(job_id, given, owner=owner, batch_id=batch_id)
            events += _opening(asked)
        self.recorder.write(Commit(uuid4(), events))
        return batch_id, jobs

    def run_again(self, batch_id: UUID, index: int, *, version: int, owner: str = OWNER) -> UUID:
        """Another job for an item; its id."""
        job_id = uuid4()
        added = _encoded(batch_id, version, BatchItemAdded(index=index, job_id=job_id), owner)
        asked = self._asked(job_id, recipe(1), owner=owner, batch_id=batch_id)
        self.recorder.write(Commit(uuid4(), [added, *_opening(asked)]))
        return job_id

    def keep_prompt(self, owner: str = OWNER) -> None:
        """A prompt that was saved, and deleted later."""
        saved = PromptSaved(owner=owner, title="fog", prompt="a lighthouse", model="sdxl-demo", task=Task.TEXT_TO_IMAGE)
        stream = uuid4()
        for version, fact in enumerate((saved, PromptDeleted()), start=1):
            self.recorder.write(Commit(uuid4(), [_encoded(stream, version, fact, owner)]))

    def enhance(self, owner: str = OWNER) -> None:
        """A richer prompt without a job."""
        made = EnhancementMade(
            owner=owner, job_type="sdxl_image_fast", original="a fox", enhanced="a red fox", enhancer="rules"
        )
        self.ledger.keep_enhancement(uuid4(), made, datetime.now(UTC), Context(owner, owner))

    def export(self, identifier: UUID | None, file: Path, *, unfinished: bool = False, force: bool = False) -> Manifest:
        """The bundle of a job, a batch or everything."""
        asked = ExportRequest(identifier, "0.1.0", NOW, unfinished)
        return export(self.database, self.blobs, asked, file, force=force, told=_nobody)

    def take_in(self, file: Path, told: Told | None = None) -> Imported:
        """Import a bundle."""
        return take_in(self.database, self.blobs, file, told=told or _nobody)

    def rows(self) -> list[tuple[Any, ...]]:
        """The whole ledger: position, stream, version, topic and state."""
        return [
            (one.position, one.stream_id, one.version, one.topic, one.state) for one in self.ledger.read_raw(0, 10_000)
        ]

    def streams(self) -> dict[UUID, list[tuple[Any, ...]]]:
        """Version, topic and state by stream."""
        found: dict[UUID, list[tuple[Any, ...]]] = {}
        for _, stream, *rest in self.rows():
            found.setdefault(stream, []).append(tuple(rest))
        return found

    def commits(self) -> list[tuple[int, int]]:
        """First and last position of each commit."""
        return [(first, last) for first, last in self.views.ask(
            "select first_position, last_position from ledger_commands order by first_position"
        )]  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """Every file of the object store, by path."""
        return {
            str(file.relative_to(self.folder)): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()
        }

    def checksums(self) -> dict[str, str]:
        """Of every view, after it has caught up; each is also folded again and compared."""
        self.views.catch_up()
        folded = [matches_ledger(self.database, self.ledger, view) for view in ALL]
        assert all(each.same for each in folded)
        return {each.view: each.checksum for each in folded}

    def require_chain(self) -> None:
        """The hash chain holds."""
        assert verify_chain(self.database).misfit is None

    def _asked(self, job_id: UUID, given: Recipe, **about: Any) -> SubmitJob:
        return replace(SUBMIT, job_id=job_id, recipe=given, now=datetime.now(UTC), request_sha256=None, **about)


@contextmanager
def opened(dsn: str, folder: Path) -> Iterator[Place]:
    """An installation on a migrated database and an empty folder."""
    with ExitStack() as stack:
        database = stack.enter_context(Database(dsn))
        recorder = PostgresRecorder(database, stack.enter_context(Flusher(dsn)))
        stack.callback(recorder.datastore.close)
        ledger = stack.enter_context(Ledger(recorder))
        yield Place(dsn, folder, database, recorder, ledger, Blobs(folder.as_uri()))


def _starting_from(source: str, file: InputFile, quantity: int) -> Recipe:
    about = {"task": Task.IMAGE_TO_IMAGE, "media": {"image": source}, "files": {source: file}}
    return recipe(quantity).model_copy(update=about)


def _opening(job: SubmitJob) -> Sequence[NewEvent]:
    """The first events of a job."""
    planner = Planner(EventMapper(), lambda _: MEDIA.unknown)
    commit = planner.plan(Instruction(JOB, job.job_id, job, Context(job.owner, job.owner)), JOB.unknown).commit
    assert commit is not None
    return commit.events


def _encoded(stream: UUID, version: int, fact: Event, owner: str) -> NewEvent:
    envelope = Envelope(actor=owner, owner=owner, at=NOW, command_id=uuid4(), correlation_id=stream)
    return EventMapper().encode(stream, version, fact, envelope)


def _nobody(*_: object) -> None:
    """Nobody waits for progress."""
