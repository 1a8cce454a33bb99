"""Both recorders behind the library's own interface, and events of a real size to put into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from domain.envelope import Envelope
from domain.events import AssetReserved, AssetSaved, Event
from domain.recipes.recipe import Kind, asset_path
from services.database import Database
from services.ledger import EventMapper, PostgresRecorder
from services.ledger.flusher import Flusher

NOW = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)


@contextmanager
def our_recorder(dsn: str) -> Iterator[PostgresRecorder]:
    """Darkroom's recorder with its group commit, on a migrated database."""
    with Database(dsn) as database, Flusher(dsn) as flusher:
        recorder = PostgresRecorder(database, flusher)
        try:
            yield recorder
        finally:
            recorder.datastore.close()


@contextmanager
def library_recorder(dsn: str, connections: int) -> Iterator[PostgresApplicationRecorder]:
    """The library's recorder as it documents it, with a connection for each writer."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    datastore = PostgresDatastore(
        dbname=parts["dbname"],
        host=parts["host"],
        port=parts["port"],
        user=parts["user"],
        password=parts.get("password", ""),
        pool_size=connections,
        connect_timeout=30.0,
    )
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    try:
        yield recorder
    finally:
        datastore.close()


def reserved_events(number: int) -> list[StoredEvent]:
    """So many events, each the first of a stream of its own: `asset.reserved`, the commonest, of 412 bytes."""
    return [StoredEvent(uuid4(), 1, *_RESERVED) for _ in range(number)]


def saved_events(number: int) -> list[StoredEvent]:
    """The same with `asset.saved`, of 213 bytes: with more, the library hangs already on 1,000 events at once."""
    return [StoredEvent(uuid4(), 1, *_SAVED) for _ in range(number)]


def _stored(event: Event) -> tuple[str, bytes]:
    envelope = Envelope("admin", "admin", NOW, UUID(int=8), _JOB)
    encoded = EventMapper().encode(UUID(int=9), 1, event, envelope)
    return encoded.topic, encoded.state


_JOB = UUID(int=7)
_RESERVED = _stored(
    AssetReserved(
        owner="admin",
        job_id=_JOB,
        index=0,
        seed=42,
        kind=Kind.IMAGE,
        bucket="sdxl_image_fast",
        path=asset_path("sdxl_image_fast", "admin", _JOB, 0, "png"),
    )
)
_SAVED = _stored(AssetSaved())
