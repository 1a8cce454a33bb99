"""Histories as people and workers make them, driven through the ledger, and the views that follow it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from domain.commands import AssetCommand, JobCommand
from domain.recipe import Kind, asset_id
from projections import ALL
from services.database import Database
from services.flusher import Commit, NewEvent
from services.ledger import AssetExecuted, Context, JobExecuted, Ledger, PostgresRecorder
from services.projector import Projector, View
from tests.spec import OWNER, SUBMIT, WORKER, recipe, report_completed, start

Row = dict[str, Any]


class Story:
    """Commands of people and workers. Each has its own moment, for which `now` is asked; `then` follows each."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], then: Callable[[], object] = lambda: None) -> None:
        self.ledger = ledger
        self._now = now
        self._then = then

    def submit(
        self,
        quantity: int = 3,
        *,
        owner: str = OWNER,
        prompt: str = "a lighthouse in fog",
        pool: str = "sdxl",
        kind: Kind = Kind.IMAGE,
        priority: int = 0,
        deadline: datetime | None = None,
    ) -> UUID:
        """A new job; its id."""
        job_id = uuid4()
        asked = replace(
            SUBMIT,
            job_id=job_id,
            owner=owner,
            recipe=recipe(quantity).model_copy(update={"prompt": prompt}),
            pool=pool,
            kind=kind,
            priority=priority,
            deadline=deadline,
            now=self._now(),
        )
        self.ledger.execute(job_id, asked, Context(owner, owner))
        self._then()
        return job_id

    def tell(self, job_id: UUID, *commands: JobCommand) -> JobExecuted:
        """These commands about the job, one after the other; what the last one did."""
        for command in commands:
            executed = self.ledger.execute(job_id, replace(command, now=self._now()), Context(WORKER))
            self._then()
        return executed

    def curate(self, job_id: UUID, index: int, *commands: AssetCommand) -> AssetExecuted:
        """These commands about one of the job's assets."""
        for command in commands:
            moment = replace(command, now=self._now())
            executed = self.ledger.execute_asset(asset_id(job_id, index), moment, Context(OWNER, OWNER))
            self._then()
        return executed

    def finished(self, quantity: int = 1, **about: Any) -> UUID:
        """A new job that a worker took and completed; its id."""
        job_id = self.submit(quantity, **about)
        self.tell(job_id, start(1), *(report_completed(index) for index in range(quantity)))
        return job_id


class Views:
    """The live views of a database."""

    def __init__(self, database: Database, ledger: Ledger, *views: View) -> None:
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
