"""Read the ledger: raw events, decoded events, and the state folded from them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

import orjson

from domain.aggregates.asset import Asset
from domain.aggregates.batch import Opened
from domain.aggregates.generation import Generation
from domain.aggregates.media import Media, Uploaded
from domain.codec import UnknownEvent
from domain.envelope import Recorded, Unreadable
from domain.errors import NotFound
from services.ledger.aggregates import ASSET, BATCH, JOB, MEDIA, Aggregate, CommandT, DecisionT, Loaded, StateT
from services.ledger.mapper import EventMapper
from services.ledger.recorders import RawEvent, Recorder
from services.restore.epochs import Epochs


class LedgerReader:
    """The reading half of a `Ledger`. Thread-safe; every method may raise `Unavailable`."""

    _given: Recorder
    _mapper: EventMapper

    def generation(self, job_id: UUID, *, owner: str | None = None) -> Generation:
        """The current state of the job and its assets. Raises `NotFound`, also for a job of another owner."""
        return self._read(JOB, job_id, owner).state

    def request_of(self, job_id: UUID, *, owner: str) -> dict[str, Any]:
        """The `job.queued` of the owner's job as JSON, even if this version cannot decode the event.

        Raises `NotFound`, also if the owner cannot be determined.
        """
        for stored in self._given.read_streams([job_id])[:1]:
            recorded = self._mapper.read(*stored)
            if isinstance(recorded, Recorded):
                if recorded.name == "job.queued" and recorded.envelope.owner == owner:
                    return recorded.data
            elif stored.topic.startswith("job.queued."):
                state = _json_of(stored.state)
                if _json_of_field(state, "meta").get("owner") == owner:
                    return _json_of_field(state, "data")
        raise NotFound("job", job_id)

    def generations_of(self, job_ids: Sequence[UUID]) -> dict[UUID, Generation]:
        """Several jobs with their assets in one read.

        Jobs that need more are left out: unknown, unreadable, or with many assets.
        """
        return {job_id: loaded.state for job_id, loaded in self._load_together(JOB, job_ids).items()}

    def asset(self, asset: UUID, *, owner: str | None = None) -> Asset:
        """The current state of the asset. Raises `NotFound`, also for an asset of another owner."""
        return self._read(ASSET, asset, owner).state

    def media(self, media_id: UUID, *, owner: str | None = None) -> Uploaded:
        """The current state of the upload. Raises `NotFound`, also if it belongs to another owner or was deleted."""
        media = self._read(MEDIA, media_id, owner).state
        if not isinstance(media, Uploaded):
            raise NotFound("media", media_id)
        return media

    def batch(self, batch_id: UUID, *, owner: str | None = None) -> tuple[Opened, int]:
        """The current state of the batch and its last position.

        Raises `NotFound`, also for a batch of another owner.
        """
        loaded = self._read(BATCH, batch_id, owner)
        return cast("Opened", loaded.state), loaded.position

    def any_media(self, media_id: UUID) -> Media:
        """The current state of the upload, including unknown and deleted ones. For storing an upload."""
        return self._load(MEDIA, media_id).state

    def read(self, after: int, limit: int) -> list[Recorded | Unreadable]:
        """The next events in ledger order; no position is ever skipped."""
        return [self._mapper.read(*stored) for stored in self._given.read_after(after, limit)]

    def read_of(self, kinds: Sequence[str], after: int, upto: int) -> list[Recorded | Unreadable]:
        """The events after `after` up to `upto` of these kinds (see `domain.codec.of_kinds`); no kinds: all events."""
        return [self._mapper.read(*stored) for stored in self._given.read_of(after, upto, kinds)]

    def stream(self, stream_id: UUID) -> list[Recorded | Unreadable]:
        """All events of one stream by version."""
        return [self._mapper.read(*stored) for stored in self._given.read_streams([stream_id])]

    def read_raw(self, after: int, limit: int) -> Sequence[RawEvent]:
        """The next events like `read`, without decoding."""
        return self._given.read_after(after, limit)

    def head(self) -> int:
        """The last position; 0 for an empty ledger."""
        return self._given.head()

    def epochs(self) -> Epochs:
        """The incarnations of this ledger."""
        return self._given.epochs()

    def stopped(self) -> str | None:
        """Why appends are refused; None if they are accepted."""
        return self._given.stopped()

    def _read(self, kind: Aggregate[StateT, CommandT, DecisionT], stream: UUID, owner: str | None) -> Loaded[StateT]:
        self._refuse_early(kind, stream, owner)
        loaded = self._load(kind, stream)
        require_owner(kind.kind, stream, kind.owner_of(loaded.state), owner)
        return loaded

    def _refuse_early(self, kind: Aggregate[StateT, CommandT, DecisionT], stream: UUID, owner: str | None) -> None:
        """Refuse what belongs to another owner by its first event, as fast as what is unknown. Raises `NotFound`.

        A batch of a thousand items takes long to fold: the time of the refusal would reveal that it exists.
        """
        if owner is None or not kind.long:
            return
        first = self._given.read_first(stream)
        recorded = None if first is None else self._mapper.read(*first)
        if recorded is None or (isinstance(recorded, Recorded) and recorded.envelope.owner != owner):
            raise NotFound(kind.kind, stream)

    def _load(self, kind: Aggregate[StateT, CommandT, DecisionT], stream: UUID) -> Loaded[StateT]:
        streams = kind.streams_of(stream)
        loaded = self._fold(kind, streams, self._given.read_streams(streams))
        every = kind.streams_of(stream, loaded.state)
        if len(every) <= len(streams):
            return loaded
        return self._fold(kind, every, self._given.read_streams(every))

    def _load_together(
        self, kind: Aggregate[StateT, CommandT, DecisionT], wanted: Sequence[UUID]
    ) -> dict[UUID, Loaded[StateT]]:
        """See `generations_of`."""
        if not wanted:
            return {}
        streams = {stream: kind.streams_of(stream) for stream in wanted}
        stored: dict[UUID, list[RawEvent]] = {}
        for one in self._given.read_streams([each for ids in streams.values() for each in ids]):
            stored.setdefault(one.stream_id, []).append(one)
        found: dict[UUID, Loaded[StateT]] = {}
        for stream, ids in streams.items():
            with suppress(NotFound, UnknownEvent):
                loaded = self._fold(kind, ids, [one for each in ids for one in stored.get(each, ())])
                if stream in loaded.versions and len(kind.streams_of(stream, loaded.state)) <= len(ids):
                    found[stream] = loaded
        return found

    def _fold(
        self, kind: Aggregate[StateT, CommandT, DecisionT], streams: Sequence[UUID], stored: Sequence[RawEvent]
    ) -> Loaded[StateT]:
        return kind.fold(streams, [self._readable(one) for one in stored])

    def _readable(self, stored: RawEvent) -> Recorded:
        recorded = self._mapper.read(*stored)
        if isinstance(recorded, Unreadable):
            raise UnknownEvent(f"Event {recorded.position} of the ledger cannot be read: {recorded.reason}")
        return recorded


def _json_of(state: bytes) -> object:
    try:
        return orjson.loads(state)
    except orjson.JSONDecodeError:
        return None


def _json_of_field(value: object, name: str) -> dict[str, Any]:
    """The object under `name`; an empty one if it is something else."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def require_owner(kind: str, identifier: UUID, actual: str | None, wanted: str | None) -> None:
    """Raises `NotFound` if the owner is unknown or differs from `wanted`."""
    if actual is None or (wanted is not None and actual != wanted):
        raise NotFound(kind, identifier)
