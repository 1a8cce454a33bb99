"""Workers announce themselves and learn whether they may take jobs; the holds of operators are read here.

A worker's claims are bounded, and kept in a table that may be emptied at any time. They are not trusted further: the
ledger says which job it has, and the recorder whether it may start one.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, LiteralString, TypeVar
from uuid import UUID

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from psycopg import Connection
from psycopg.rows import TupleRow, class_row
from pydantic import ValidationError

from domain.commands import Held
from projections.sql import load
from services.database import Database, Unavailable
from services.messaging.broker import Broker
from services.messaging.wire import (
    ANNOUNCEMENT_BYTES_MAX,
    ANNOUNCEMENTS,
    LEASE_S,
    RECORDERS,
    Announcement,
    AnnouncementReply,
    sender_of,
    user_of,
)

log = logging.getLogger(__name__)

SQL = load("fleet.sql", "services.queue")

T = TypeVar("T")

AT_ONCE_MAX: Final = 16
"""Maximum number of announcements processed at a time; more wait in NATS."""

OF_USER_MAX: Final = 200
"""Maximum number of workers of one NATS user: limits the rows that its password can create."""

KEPT_S: Final = 86_400.0
"""Seconds for which a silent worker is still shown."""

NAME_CHARACTERS_MAX: Final = 200

HOLDS_S: Final = 0.25
"""Maximum age in seconds of the holds when a start is judged: a hold takes effect within this, and a start needs no
query."""


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A pool or a worker that takes no further job."""

    kind: Literal["pool", "worker"]
    name: str
    hold: Literal["paused", "drained"]
    reason: str | None
    actor: str
    since: datetime


@dataclass(slots=True)
class WorkerRow:
    """A worker that was heard of or is held. Its job is the one in the ledger."""

    name: str
    pools: list[str] | None
    models: list[dict[str, Any]] | None
    device: str | None
    version: str | None
    started_at: datetime | None
    idle_since: datetime | None
    heard_at: datetime | None
    is_alive: bool
    hold: Literal["paused", "drained"] | None
    hold_reason: str | None
    held_by: str | None
    held_since: datetime | None
    job_id: UUID | None
    job_owner: str | None
    attempt: int | None
    job_type: str | None
    job_pool: str | None
    job_started_at: datetime | None
    job_cost_s: float | None
    job_elapsed_s: float | None

    def __post_init__(self) -> None:
        self.started_at, self.idle_since = _utc(self.started_at), _utc(self.idle_since)
        self.heard_at, self.held_since = _utc(self.heard_at), _utc(self.held_since)
        self.job_started_at = _utc(self.job_started_at)


@dataclass(slots=True)
class PoolRow:
    """A pool: the number of workers that could take its next job, when one was last seen, and its hold."""

    pool: str
    workers: int
    last_seen_at: datetime | None
    hold: Literal["paused", "drained"] | None
    hold_reason: str | None
    held_by: str | None
    held_since: datetime | None

    def __post_init__(self) -> None:
        self.last_seen_at, self.held_since = _utc(self.last_seen_at), _utc(self.held_since)


def read_holds(connection: Connection[TupleRow]) -> list[HoldRow]:
    """All holds."""
    return _rows(connection, HoldRow, SQL["holds"], {})


def read_workers(connection: Connection[TupleRow], lease_s: float = LEASE_S) -> list[WorkerRow]:
    """All workers by name. A worker that was silent for `lease_s` is not alive."""
    return _rows(connection, WorkerRow, SQL["workers"], {"alive_s": lease_s})


def read_pools(connection: Connection[TupleRow], pools: Sequence[str], lease_s: float = LEASE_S) -> list[PoolRow]:
    """Each of these pools."""
    return _rows(connection, PoolRow, SQL["pools"], {"pools": list(pools), "alive_s": lease_s})


class Holds:
    """The current holds, cached for `HOLDS_S`. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held = Held()
        self._until = 0.0

    def now(self) -> Held:
        """The held names. During an outage of Postgres, the last ones read: nothing can start then anyway."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + HOLDS_S
            try:
                with self._database.connection() as connection:
                    found = read_holds(connection)
            except Unavailable:
                return self._held
            self._held = Held(
                pools=frozenset(one.name for one in found if one.kind == "pool"),
                workers=frozenset(one.name for one in found if one.kind == "worker"),
            )
        return self._held


class RollCall:
    """Records workers and answers whether they may take jobs. Several may run: each message goes to one of them.

    `pools` are those of the catalog: for others, no last-seen time is kept.
    """

    def __init__(self, database: Database, broker: Broker, pools: Sequence[str]) -> None:
        self._database = database
        self._broker = broker
        self._pools = frozenset(pools)
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Answer announcements until stopped."""
        await self._broker.subscribe(ANNOUNCEMENTS, self._on_message, queue=RECORDERS)
        await stop.wait()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def hear(self, worker: str, said: Announcement) -> AnnouncementReply:
        """Record an announcement and return the answer. Raises `Unavailable`."""
        with self._database.connection() as connection:
            if said.leaving:
                connection.execute(SQL["leave"], {"name": worker})
                return AnnouncementReply()
            arguments = {
                "name": worker,
                "user": user_of(worker),
                "pools": list(said.pools),
                "known_pools": [pool for pool in dict.fromkeys(said.pools) if pool in self._pools],
                "models": orjson.dumps([model.model_dump() for model in said.models]).decode(),
                "device": said.device,
                "version": said.version,
                "up_s": said.up_s,
                "idle_s": said.idle_s,
                "kept_s": KEPT_S,
                "of_user_max": OF_USER_MAX,
            }
            connection.execute(SQL["announce"], arguments)
            row = connection.execute(SQL["hold_of_worker"], (worker,)).fetchone()
        return AnnouncementReply() if row is None else AnnouncementReply(hold=row[0], reason=row[1])

    async def _on_message(self, message: Msg) -> None:
        await self._places.acquire()
        task = asyncio.create_task(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg) -> None:
        worker = sender_of(message.subject)
        try:
            if len(message.data) > ANNOUNCEMENT_BYTES_MAX or len(worker) > NAME_CHARACTERS_MAX:
                log.warning("an announcement of worker %.200s is too large to be read", worker)
                return
            reply = await asyncio.to_thread(self.hear, worker, Announcement.model_validate_json(message.data))
            await message.respond(reply.model_dump_json().encode())
        except ValidationError as error:
            first = error.errors(include_input=False)[0]["msg"]
            log.warning("an announcement of worker %s was not understood: %s", worker, first)
        except (Unavailable, NatsError, OSError) as error:
            log.debug("an announcement was lost, the worker sends the next one: %s", error)
        finally:
            self._places.release()


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _rows(connection: Connection[TupleRow], kind: type[T], sql: LiteralString, arguments: dict[str, Any]) -> list[T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql, arguments).fetchall()
