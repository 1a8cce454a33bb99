"""Aggregates of one stream each: an asset, an upload, a batch, a saved prompt, a pool, a worker.

A job is not among them: it is decided together with all its assets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from domain.aggregates import asset as assets_of
from domain.aggregates import batch as batch_of
from domain.aggregates import fleet as fleet_of
from domain.aggregates import media as media_of
from domain.aggregates import prompt as prompts_of
from domain.aggregates.asset import Asset
from domain.aggregates.batch import Batch
from domain.aggregates.media import Media
from domain.aggregates.prompt import Prompt
from domain.commands import (
    AssetCommand,
    BatchCommand,
    FleetCommand,
    MediaCommand,
    OpenBatch,
    PromptCommand,
    SavePrompt,
    UploadMedia,
)
from domain.events import AssetEvent, BatchEvent, Event, MediaEvent, PoolEvent, PromptEvent, WorkerEvent


class Timed(Protocol):
    """A command with a time."""

    @property
    def now(self) -> datetime:
        """The time of the command."""
        ...


StateT = TypeVar("StateT")
CommandT = TypeVar("CommandT", bound=Timed)
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[StateT, CommandT, EventT]):
    """A decider with the metadata that the ledger needs.

    The names of its events begin with `kind`. `opening` is the command, if any, that may begin a stream;
    `conversation_of` returns the correlation id of its events.
    """

    kind: str
    unknown: StateT
    decide: Callable[[CommandT, StateT], list[EventT]]
    evolve: Callable[[StateT, EventT], StateT]
    owner_of: Callable[[StateT], str | None]
    conversation_of: Callable[[UUID, StateT], UUID]
    opening: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True)
class Executed(Generic[StateT, EventT]):
    """Result of a command: the new state and its events. `position` is that of the last; read views from there."""

    state: StateT
    events: tuple[EventT, ...]
    position: int


ASSET: Final[Aggregate[Asset, AssetCommand, AssetEvent]] = Aggregate(
    kind="asset",
    unknown=assets_of.UnknownAsset(),
    decide=assets_of.decide,
    evolve=assets_of.evolve,
    owner_of=assets_of.owner_of,
    conversation_of=lambda stream, asset: assets_of.job_of(asset) or stream,
)
MEDIA: Final[Aggregate[Media, MediaCommand, MediaEvent]] = Aggregate(
    kind="media",
    unknown=media_of.UnknownMedia(),
    decide=media_of.decide,
    evolve=media_of.evolve,
    owner_of=media_of.owner_of,
    conversation_of=lambda stream, _: stream,
    opening=(UploadMedia,),
)
BATCH: Final[Aggregate[Batch, BatchCommand, BatchEvent]] = Aggregate(
    kind="batch",
    unknown=batch_of.UnknownBatch(),
    decide=batch_of.decide,
    evolve=batch_of.evolve,
    owner_of=batch_of.owner_of,
    conversation_of=lambda stream, _: stream,
    opening=(OpenBatch,),
)
PROMPT: Final[Aggregate[Prompt, PromptCommand, PromptEvent]] = Aggregate(
    kind="prompt",
    unknown=prompts_of.UnknownPrompt(),
    decide=prompts_of.decide,
    evolve=prompts_of.evolve,
    owner_of=prompts_of.owner_of,
    conversation_of=lambda stream, _: stream,
    opening=(SavePrompt,),
)
POOL: Final[Aggregate[fleet_of.State, FleetCommand, PoolEvent]] = Aggregate(
    kind="pool",
    unknown=fleet_of.Open(),
    decide=fleet_of.decide_pool,
    evolve=fleet_of.evolve_pool,
    owner_of=lambda _: fleet_of.OWNER,
    conversation_of=lambda stream, _: stream,
)
WORKER: Final[Aggregate[fleet_of.State, FleetCommand, WorkerEvent]] = Aggregate(
    kind="worker",
    unknown=fleet_of.Open(),
    decide=fleet_of.decide_worker,
    evolve=fleet_of.evolve_worker,
    owner_of=lambda _: fleet_of.OWNER,
    conversation_of=lambda stream, _: stream,
)
