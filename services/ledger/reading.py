"""Read the ledger: raw events, decoded events, and the state folded from them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast
from uuid import UUID

import orjson

from domain.aggregates import asset as assets_of
from domain.aggregates import job as jobs
from domain.aggregates.asset import Asset
from domain.aggregates.batch import Opened
from domain.aggregates.generation import Generation
from domain.aggregates.media import Media, Uploaded
from domain.codec import UnknownEvent
from domain.envelope import Recorded, Unreadable
from domain.errors import NotFound
from domain.events import AssetEvent, JobEvent
from domain.recipes.recipe import asset_id
from services.ledger.aggregates import ASSET, BATCH, MEDIA, Aggregate, CommandT, EventT, StateT
from services.ledger.mapper import EventMapper
from services.ledger.recent import Loaded
from services.ledger.recorders import RawEvent, Recorder
from services.restore.epochs import Epochs

ASSETS_LOADED_AT_ONCE: Final = 6
"""Number of assets that are read together with a job: their ids follow from its id. More need a second read."""


class LedgerReader:
    """The reading half of a `Ledger`. Thread-safe; every method may raise `Unavailable`."""

    _given: Recorder
    _mapper: EventMapper

    def generation(self, job_id: UUID, *, owner: str | None = None) -> Generation:
        """The current state of the job and its assets. Raises `NotFound`, also for a job of another owner."""
        generation = self._load(job_id).generation
        require_owner("job", job_id, jobs.owner_of(generation.job), owner)
        return generation

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
        return {job_id: loaded.generation for job_id, loaded in self._load_together(job_ids).items()}

    def asset(self, asset: UUID, *, owner: str | None = None) -> Asset:
        """The current state of the asset. Raises `NotFound`, also for an asset of another owner."""
        return self._read_one(ASSET, asset, owner)

    def media(self, media_id: UUID, *, owner: str | None = None) -> Uploaded:
        """The current state of the upload. Raises `NotFound`, also if it belongs to another owner or was deleted."""
        media = self._read_one(MEDIA, media_id, owner)
        if not isinstance(media, Uploaded):
            raise NotFound("media", media_id)
        return media

    def batch(self, batch_id: UUID, *, owner: str | None = None) -> tuple[Opened, int]:
        """The current state of the batch and its last position.

        Raises `NotFound`, also for a batch of another owner.
        """
        if owner is not None:
            self._require_batch_of(owner, batch_id)
        batch, _, position = self._load_one(BATCH, batch_id)
        require_owner(BATCH.kind, batch_id, BATCH.owner_of(batch), owner)
        return cast("Opened", batch), position

    def _require_batch_of(self, owner: str, batch_id: UUID) -> None:
        """Refuse another owner's batch by its first event, as fast as an unknown one. Raises `NotFound`.

        A batch of a thousand items takes long to fold: the time of the refusal would reveal that it exists.
        """
        first = self._given.read_first(batch_id)
        recorded = None if first is None else self._mapper.read(*first)
        if recorded is None or (isinstance(recorded, Recorded) and recorded.envelope.owner != owner):
            raise NotFound(BATCH.kind, batch_id)

    def any_media(self, media_id: UUID) -> Media:
        """The current state of the upload, including unknown and deleted ones. For storing an upload."""
        media, _, _ = self._load_one(MEDIA, media_id)
        return media

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

    def _read_one(self, kind: Aggregate[StateT, CommandT, EventT], stream: UUID, owner: str | None) -> StateT:
        state, _, _ = self._load_one(kind, stream)
        require_owner(kind.kind, stream, kind.owner_of(state), owner)
        return state

    def _load(self, job_id: UUID) -> Loaded:
        guessed = _guessed(job_id)
        loaded = self._fold(job_id, guessed, self._given.read_streams([job_id, *guessed]))
        job = loaded.generation.job
        if isinstance(job, jobs.NotSubmitted) or job.queued.recipe.quantity <= len(guessed):
            return loaded
        every = [asset_id(job_id, index) for index in range(job.queued.recipe.quantity)]
        return self._fold(job_id, every, self._given.read_streams([job_id, *every]))

    def _load_together(self, job_ids: Sequence[UUID]) -> dict[UUID, Loaded]:
        """See `generations_of`."""
        if not job_ids:
            return {}
        streams = {job_id: [job_id, *_guessed(job_id)] for job_id in job_ids}
        stored = self._read_together([each for ids in streams.values() for each in ids])
        found: dict[UUID, Loaded] = {}
        for job_id, ids in streams.items():
            with suppress(NotFound, UnknownEvent):
                loaded = self._fold(job_id, ids[1:], [one for each in ids for one in stored.get(each, ())])
                job, assets = loaded.generation.job, loaded.generation.assets
                if not isinstance(job, jobs.NotSubmitted) and len(assets) == job.queued.recipe.quantity:
                    found[job_id] = loaded
        return found

    def _read_together(self, streams: Sequence[UUID]) -> dict[UUID, list[RawEvent]]:
        """The events of each stream that has any, by version."""
        stored: dict[UUID, list[RawEvent]] = {}
        for one in self._given.read_streams(streams):
            stored.setdefault(one.stream_id, []).append(one)
        return stored

    def _fold(self, job_id: UUID, asset_ids: Sequence[UUID], stored: Sequence[RawEvent]) -> Loaded:
        recorded = [self._readable(one) for one in stored]
        job: jobs.Job = jobs.NotSubmitted()
        assets: dict[UUID, Asset] = {}
        for one in recorded:
            if one.stream_id == job_id:
                if not one.name.startswith("job."):
                    raise NotFound("job", job_id)
                job = jobs.evolve(job, cast("JobEvent", one.event))
            else:
                before = assets.get(one.stream_id, assets_of.UnknownAsset())
                assets[one.stream_id] = assets_of.evolve(before, cast("AssetEvent", one.event))
        folded = tuple(assets[each] for each in asset_ids if each in assets)
        versions = {one.stream_id: one.version for one in recorded}
        return Loaded(Generation(job, folded), versions, max((one.position for one in recorded), default=0))

    def _load_one(self, kind: Aggregate[StateT, CommandT, EventT], stream: UUID) -> tuple[StateT, int, int]:
        """The state of an aggregate, its version and the position of its last event."""
        return self._fold_one(kind, stream, self._given.read_streams([stream]))

    def _fold_one(
        self, kind: Aggregate[StateT, CommandT, EventT], stream: UUID, of_stream: Sequence[RawEvent]
    ) -> tuple[StateT, int, int]:
        state = kind.unknown
        version, position = 0, 0
        for stored in of_stream:
            recorded = self._readable(stored)
            if not recorded.name.startswith(f"{kind.kind}."):
                raise NotFound(kind.kind, stream)
            state = kind.evolve(state, cast("EventT", recorded.event))
            version, position = recorded.version, recorded.position
        return state, version, position

    def _readable(self, stored: RawEvent) -> Recorded:
        recorded = self._mapper.read(*stored)
        if isinstance(recorded, Unreadable):
            raise UnknownEvent(f"Event {recorded.position} of the ledger cannot be read: {recorded.reason}")
        return recorded


def _guessed(job_id: UUID) -> list[UUID]:
    """The ids of the first assets of a job; most jobs have no more."""
    return [asset_id(job_id, index) for index in range(ASSETS_LOADED_AT_ONCE)]


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
