"""Histories as people and workers make them, driven through the ledger, and the views that follow it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID, uuid4

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from domain.aggregates.batch import item_job_id, title_of
from domain.aggregates.fleet import pool_stream, worker_stream
from domain.aggregates.generation import recipe_of_retry
from domain.aggregates.media import media_id
from domain.commands import (
    AssetCommand,
    BatchCommand,
    Drain,
    JobCommand,
    NewItem,
    OpenBatch,
    Pause,
    PromptCommand,
    Resume,
    RunItemsAgain,
    SavePrompt,
    SubmitJob,
    UploadMedia,
)
from domain.envelope import Envelope
from domain.events import BatchPreferred, Event, ItemProblem
from domain.recipes.recipe import Kind, Task, asset_id
from projections import ALL
from projections.projection import Projection
from services.database import Database
from services.ledger import (
    ASSET,
    BATCH,
    JOB,
    MEDIA,
    POOL,
    PROMPT,
    WORKER,
    AssetExecuted,
    BatchExecuted,
    Context,
    EventMapper,
    JobExecuted,
    Ledger,
    PostgresRecorder,
)
from services.ledger.commits import Commit, NewEvent
from services.views.projector import Projector
from tests import spec
from tests.spec import OWNER, SUBMIT, recipe, report_completed, start

Row = dict[str, Any]

REJECTED = ItemProblem(code="invalid_input", detail="prompt: too short", problems=(("prompt", "too short"),))
MAPPER = EventMapper()


class Story:
    """Commands of people and workers. Each has its own moment, for which `now` is asked; `then` follows each."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], then: Callable[[], object] = lambda: None) -> None:
        self.ledger = ledger
        self._now = now
        self._then = then

    def submit(self, quantity: int = 3, **about: Any) -> UUID:
        """A new job; its id."""
        asked = self._job(quantity, **about)
        self.ledger.execute(JOB, asked.job_id, asked, Context(asked.owner, asked.owner))
        self._then()
        return asked.job_id

    def _job(
        self,
        quantity: int,
        *,
        owner: str = OWNER,
        prompt: str = "a lighthouse in fog",
        pool: str = "sdxl",
        kind: Kind = Kind.IMAGE,
        priority: int = 0,
        deadline: datetime | None = None,
        batch_id: UUID | None = None,
        **of_recipe: str,
    ) -> SubmitJob:
        """A job as it is asked for. `of_recipe` are `model` and `job_type` where they are not the usual ones."""
        return replace(
            SUBMIT,
            job_id=uuid4(),
            owner=owner,
            recipe=recipe(quantity).model_copy(update={"prompt": prompt, **of_recipe}),
            pool=pool,
            kind=kind,
            priority=priority,
            deadline=deadline,
            batch_id=batch_id,
            now=self._now(),
        )

    def tell(self, job_id: UUID, *commands: JobCommand) -> JobExecuted:
        """These commands about the job, one after the other; what the last one did."""
        for command in commands:
            executed = self.ledger.execute(JOB, job_id, replace(command, now=self._now()), Context(spec.WORKER))
            self._then()
        return executed

    def curate(self, job_id: UUID, index: int, *commands: AssetCommand) -> AssetExecuted:
        """These commands about one of the job's assets."""
        for command in commands:
            moment = replace(command, now=self._now())
            executed = self.ledger.execute(ASSET, asset_id(job_id, index), moment, Context(OWNER, OWNER))
            self._then()
        return executed

    def hold(self, which: int, word: int, reason: str | None = None) -> None:
        """Hold back or release a pool (even) or a worker (odd): of three words one."""
        name = f"gpu-{which}"
        command = (Pause, Drain, Resume)[word % 3](name, self._now(), reason)
        kind, stream = ((POOL, pool_stream(name)), (WORKER, worker_stream(name)))[which % 2]
        self.ledger.execute(kind, stream, command, Context("admin"))
        self._then()

    def finished(self, quantity: int = 1, kind: Kind = Kind.IMAGE, **about: Any) -> UUID:
        """A new job that a worker took and completed; its id."""
        job_id = self.submit(quantity, kind=kind, **about)
        self.tell(job_id, start(1), *(report_completed(index, kind=kind) for index in range(quantity)))
        return job_id

    def compared(self, *models: str, owner: str = OWNER, quantity: int = 1, **about: Any) -> tuple[UUID, list[UUID]]:
        """A comparison of these models, an item and a job each, all of them completed; the ids of batch and jobs."""
        batch_id = uuid4()
        jobs = [self._job(quantity, batch_id=batch_id, owner=owner, model=model, **about) for model in models]
        items = tuple(NewItem(index, None, job.job_id) for index, job in enumerate(jobs))
        asked = OpenBatch(owner, "comparison", "Which one?", items, self._now(), prompt="a lighthouse in fog", seed=42)
        self.ledger.execute(BATCH, batch_id, asked, Context(owner, owner), jobs)
        self._then()
        for job in jobs:
            self.tell(job.job_id, start(1), *(report_completed(index) for index in range(quantity)))
        return batch_id, [job.job_id for job in jobs]

    def prefer(self, batch_id: UUID, winner: UUID, loser: UUID, *, index: int = 0, owner: str = OWNER) -> None:
        """Of these two jobs' assets at `index`, the first is the better one."""
        said = BatchPreferred(winner=asset_id(winner, index), loser=asset_id(loser, index))
        self.append(batch_id, owner, said)

    def save_prompt(self, title: str = "Fog", owner: str = OWNER) -> UUID:
        """A prompt, kept; its id."""
        identifier = uuid4()
        asked = SavePrompt(
            owner=owner,
            title=title,
            prompt="a lighthouse in fog",
            negative_prompt="blurry",
            model="sdxl-demo",
            job_type="sdxl_image_fast",
            task=Task.TEXT_TO_IMAGE,
            tags=("fog", "sea"),
            now=self._now(),
        )
        self.ledger.execute(PROMPT, identifier, asked, Context(owner, owner))
        self._then()
        return identifier

    def change_prompt(self, identifier: UUID, *commands: PromptCommand) -> None:
        """These commands about the prompt."""
        for command in commands:
            self.ledger.execute(PROMPT, identifier, replace(command, now=self._now()), Context(OWNER, OWNER))
            self._then()

    def append(self, stream_id: UUID, owner: str, *events: Event) -> None:
        """These events on their stream, past its decider."""
        version = len(self.ledger.stream(stream_id))
        envelope = Envelope(owner, owner, self._now(), uuid4(), correlation_id=stream_id)
        new = [MAPPER.encode(stream_id, version + number, event, envelope) for number, event in enumerate(events, 1)]
        cast("PostgresRecorder", self.ledger.recorder).write(Commit(envelope.command_id, new))
        self._then()

    def upload(self, number: int, owner: str = OWNER) -> UUID:
        """A file of theirs, another one for each number; its id."""
        sha256 = f"{number:064x}"
        asked = UploadMedia(owner, "image", "image/png", 9, sha256, self._now(), 64, 48)
        identifier = media_id(owner, sha256)
        self.ledger.execute(MEDIA, identifier, asked, Context(owner, owner))
        self._then()
        return identifier

    def open_batch(
        self,
        *quantities: int,
        owner: str = OWNER,
        kind: Literal["batch", "comparison"] = "batch",
        name: str = "Foxes",
        collection: str | None = "Autumn",
        deadline: datetime | None = None,
    ) -> tuple[UUID, list[UUID]]:
        """A batch of jobs with so many assets each; 0 for an item that is rejected. Its id, and those of its jobs."""
        identifier, now = uuid4(), self._now()
        items: list[NewItem] = []
        jobs: list[SubmitJob] = []
        for index, quantity in enumerate(quantities):
            template = f"Template {index}"
            if quantity == 0:
                items.append(NewItem(index, template, None, REJECTED))
                continue
            job_id = item_job_id(identifier, index)
            items.append(NewItem(index, template, job_id))
            title = title_of(collection, template)
            job = replace(SUBMIT, job_id=job_id, owner=owner, recipe=recipe(quantity), request_sha256=None, now=now)
            jobs.append(replace(job, batch_id=identifier, title=title, deadline=deadline))
        command = OpenBatch(owner=owner, kind=kind, name=name, items=tuple(items), now=now, collection=collection)
        self.ledger.execute(BATCH, identifier, command, Context(owner, owner), jobs)
        self._then()
        return identifier, [job.job_id for job in jobs]

    def tell_batch(self, identifier: UUID, command: BatchCommand, *jobs: SubmitJob) -> BatchExecuted:
        """A command about a batch, with the jobs that it starts."""
        moment = replace(command, now=self._now())
        executed = self.ledger.execute(BATCH, identifier, moment, Context(OWNER, OWNER), jobs)
        self._then()
        return executed

    def run_again(self, identifier: UUID, index: int) -> UUID:
        """The lost outputs of an item, as a new job: its id. Raises what the rules do not allow."""
        item = self.ledger.batch(identifier)[0].items[index]
        before = item.jobs[-1]
        again = recipe_of_retry(self.ledger.generation(before))
        job = replace(SUBMIT, job_id=uuid4(), recipe=again, request_sha256=None, now=self._now(), parent_id=before)
        entry = NewItem(index, item.template, job.job_id, instead_of=before)
        self.tell_batch(identifier, RunItemsAgain((entry,), job.now), replace(job, batch_id=identifier))
        return job.job_id


class Views:
    """The live views of a database."""

    def __init__(self, database: Database, ledger: Ledger, *views: Projection) -> None:
        self.database = database
        self.ledger = ledger
        self.projector = Projector(database, ledger, views or ALL)

    def catch_up(self) -> "Views":
        """Project until the ledger's end."""
        while self.projector.step():
            pass
        return self

    def rows(self, table: str, *, schema: str = "views") -> list[Row]:
        """Every row of a table, in an order of their own content."""
        query = SQL("select * from {} t order by t::text").format(Identifier(schema, table))
        with self.database.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query).fetchall()

    def all_rows(self, *, schema: str = "views") -> dict[str, list[Row]]:
        """Every row of every table."""
        return {table: self.rows(table, schema=schema) for view in ALL for table in view.tables}

    def ask(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The answer to a query."""
        with self.database.connection() as connection:
            cursor = connection.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def positions(self) -> dict[str, int]:
        """How far each live view has read the ledger."""
        return dict(self.ask("select view, position from view_progress where slot = 'live'"))

    def parked(self) -> list[tuple[str, UUID, int, str]]:
        """What could not be taken: view, stream, position and reason."""
        return self.ask("select view, stream_id, position, reason from parked_events where slot = 'live' order by 1, 3")


def append_raw(recorder: PostgresRecorder, stream_id: UUID, version: int, topic: str, state: bytes) -> int:
    """An event past the deciders, as another version of Darkroom or a damaged disk would leave it; its position."""
    commit = Commit(uuid4(), [NewEvent(stream_id, version, topic, state)])
    return recorder.append(commit).result(timeout=15).first_position
