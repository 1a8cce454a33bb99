"""What commands are executed on: a job with its assets, an asset, an upload, a batch, a prompt, a pool, a worker.

Each is a decider of the domain with what the ledger needs to know of it: its streams, its owner, its correlation id.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Generic, Protocol, TypeVar, cast
from uuid import UUID

from domain.aggregates import asset as assets_of
from domain.aggregates import batch as batch_of
from domain.aggregates import fleet as fleet_of
from domain.aggregates import generation as generations
from domain.aggregates import job as jobs
from domain.aggregates import media as media_of
from domain.aggregates import prompt as prompts_of
from domain.aggregates.asset import Asset
from domain.aggregates.batch import Batch
from domain.aggregates.generation import Decision, Generation
from domain.aggregates.media import Media
from domain.aggregates.prompt import Prompt
from domain.commands import (
    AssetCommand,
    BatchCommand,
    FleetCommand,
    JobCommand,
    MediaCommand,
    OpenBatch,
    PromptCommand,
    SavePrompt,
    SubmitJob,
    UploadMedia,
)
from domain.envelope import Recorded
from domain.errors import IdempotencyKeyReused, NotFound
from domain.events import AssetEvent, BatchEvent, Event, JobEvent, MediaEvent, PoolEvent, PromptEvent, WorkerEvent
from domain.recipes.recipe import asset_id

ASSETS_LOADED_AT_ONCE: Final = 6
"""Number of assets that are read together with a job: their ids follow from its id. More need a second read."""


class Timed(Protocol):
    """A command with a time."""

    @property
    def now(self) -> datetime:
        """The time of the command."""
        ...


StateT = TypeVar("StateT")
CommandT = TypeVar("CommandT", bound=Timed)
DecisionT = TypeVar("DecisionT")
EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[StateT]):
    """A folded state, the version of each of its streams that has events, and the position of its last event."""

    state: StateT
    versions: dict[UUID, int] = field(default_factory=dict)
    position: int = 0


@dataclass(frozen=True, slots=True)
class Executed(Generic[StateT, DecisionT]):
    """Result of a command: the new state and what was decided. Read views from `position`, that of the last event.

    An empty decision: the command repeats an earlier one, and nothing was appended.
    """

    state: StateT
    decision: DecisionT
    position: int


class Aggregate(ABC, Generic[StateT, CommandT, DecisionT]):
    """How commands on one kind of thing are decided, and in which streams its events are.

    `unknown` is its state before the first event. `cached`: the ledger may decide on the state that it wrote last.
    `long`: its fold takes so long that it would reveal to a stranger that it exists; ask for the owner first.
    """

    kind: str
    unknown: Loaded[StateT]
    cached: ClassVar[bool] = False
    long: bool

    @abstractmethod
    def decide(self, command: CommandT, state: StateT) -> DecisionT:
        """The decider of the domain. Raises a `Refused`."""

    @abstractmethod
    def evolve(self, state: StateT, decision: DecisionT) -> StateT:
        """Apply a decision."""

    @abstractmethod
    def may_open(self, command: CommandT, loaded: Loaded[StateT]) -> bool:
        """Whether the command needs no owner, because it may be the first one."""

    @abstractmethod
    def owner_of(self, state: StateT) -> str | None:
        """Its owner; None if it is unknown."""

    @abstractmethod
    def conversation_of(self, stream: UUID, state: StateT) -> UUID:
        """The correlation id of its events."""

    @abstractmethod
    def events_of(self, stream: UUID, command: CommandT, decision: DecisionT) -> Iterable[tuple[UUID, Event]]:
        """The decided events in ledger order, each with its stream."""

    @abstractmethod
    def fold(self, streams: Sequence[UUID], events: Sequence[Recorded]) -> Loaded[StateT]:
        """The state after the events of these streams, its own first. Raises `NotFound` if that is of another kind."""

    def streams_of(self, stream: UUID, state: StateT | None = None) -> list[UUID]:
        """Its streams, its own first; without a state those that it most likely has."""
        return [stream]

    def unread(self, command: CommandT) -> Loaded[StateT] | None:
        """The state that a command most likely finds; None if only the ledger knows."""
        return None

    def repeated(self, command: CommandT, state: StateT, decision: DecisionT) -> DecisionT:
        """The decision to report when the command id is already in the ledger, which then has this state."""
        return decision


@dataclass(frozen=True)
class OneStream(Aggregate[StateT, CommandT, tuple[EventT, ...]]):
    """An aggregate of one stream. The names of its events begin with `kind`; `opening` is the first command, if any."""

    kind: str
    nothing: StateT
    decider: Callable[[CommandT, StateT], list[EventT]]
    evolver: Callable[[StateT, EventT], StateT]
    owner: Callable[[StateT], str | None]
    conversation: Callable[[UUID, StateT], UUID] = lambda stream, _: stream
    opening: tuple[type, ...] = ()
    long: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "unknown", Loaded(self.nothing))

    def decide(self, command: CommandT, state: StateT) -> tuple[EventT, ...]:
        return tuple(self.decider(command, state))

    def evolve(self, state: StateT, decision: tuple[EventT, ...]) -> StateT:
        for event in decision:
            state = self.evolver(state, event)
        return state

    def may_open(self, command: CommandT, loaded: Loaded[StateT]) -> bool:
        return not loaded.versions and isinstance(command, self.opening)

    def owner_of(self, state: StateT) -> str | None:
        return self.owner(state)

    def conversation_of(self, stream: UUID, state: StateT) -> UUID:
        return self.conversation(stream, state)

    def events_of(self, stream: UUID, command: CommandT, decision: tuple[EventT, ...]) -> Iterable[tuple[UUID, Event]]:
        return [(stream, event) for event in decision]

    def fold(self, streams: Sequence[UUID], events: Sequence[Recorded]) -> Loaded[StateT]:
        state = self.nothing
        for one in events:
            if not one.name.startswith(f"{self.kind}."):
                raise NotFound(self.kind, streams[0])
            state = self.evolver(state, cast("EventT", one.event))
        return Loaded(state, {streams[0]: events[-1].version}, events[-1].position) if events else self.unknown


class JobWithAssets(Aggregate[Generation, JobCommand, Decision]):
    """A job is decided together with its assets, each of which has a stream of its own."""

    kind = "job"
    unknown = Loaded(Generation())
    cached = True
    long = False

    def decide(self, command: JobCommand, state: Generation) -> Decision:
        return generations.decide(command, state)

    def evolve(self, state: Generation, decision: Decision) -> Generation:
        return generations.evolve(state, decision)

    def may_open(self, command: JobCommand, loaded: Loaded[Generation]) -> bool:
        return isinstance(command, SubmitJob)

    def owner_of(self, state: Generation) -> str | None:
        return jobs.owner_of(state.job)

    def conversation_of(self, stream: UUID, state: Generation) -> UUID:
        return stream

    def events_of(self, stream: UUID, command: JobCommand, decision: Decision) -> Iterable[tuple[UUID, Event]]:
        # A job's first event precedes its assets, its ending follows theirs.
        of_job: list[tuple[UUID, Event]] = [(stream, event) for event in decision.job]
        of_assets: list[tuple[UUID, Event]] = [
            (asset_id(stream, index), event) for index, events in sorted(decision.assets.items()) for event in events
        ]
        return of_job + of_assets if isinstance(command, SubmitJob) else of_assets + of_job

    def streams_of(self, stream: UUID, state: Generation | None = None) -> list[UUID]:
        assets = ASSETS_LOADED_AT_ONCE
        if state is not None and not isinstance(state.job, jobs.NotSubmitted):
            assets = state.job.queued.recipe.quantity
        return [stream, *(asset_id(stream, index) for index in range(assets))]

    def fold(self, streams: Sequence[UUID], events: Sequence[Recorded]) -> Loaded[Generation]:
        job: jobs.Job = jobs.NotSubmitted()
        assets: dict[UUID, Asset] = {}
        for one in events:
            if one.stream_id != streams[0]:
                before = assets.get(one.stream_id, assets_of.UnknownAsset())
                assets[one.stream_id] = assets_of.evolve(before, cast("AssetEvent", one.event))
            elif one.name.startswith("job."):
                job = jobs.evolve(job, cast("JobEvent", one.event))
            else:
                raise NotFound("job", streams[0])
        by_index = tuple(assets[each] for each in streams[1:] if each in assets)
        versions = {one.stream_id: one.version for one in events}
        return Loaded(Generation(job, by_index), versions, max((one.position for one in events), default=0))

    def unread(self, command: JobCommand) -> Loaded[Generation] | None:
        return self.unknown if isinstance(command, SubmitJob) else None

    def repeated(self, command: JobCommand, state: Generation, decision: Decision) -> Decision:
        """Of a submission: nothing, if it was submitted before. Raises `IdempotencyKeyReused`."""
        if not isinstance(command, SubmitJob):
            return decision
        if isinstance(state.job, jobs.NotSubmitted):
            raise IdempotencyKeyReused  # for another job
        if state.job.queued != decision.job[0]:
            return Decision(job=tuple(jobs.submit(command, state.job)))
        return decision


JOB: Final = JobWithAssets()
ASSET: Final[OneStream[Asset, AssetCommand, AssetEvent]] = OneStream(
    kind="asset",
    nothing=assets_of.UnknownAsset(),
    decider=assets_of.decide,
    evolver=assets_of.evolve,
    owner=assets_of.owner_of,
    conversation=lambda stream, asset: assets_of.job_of(asset) or stream,
)
MEDIA: Final[OneStream[Media, MediaCommand, MediaEvent]] = OneStream(
    kind="media",
    nothing=media_of.UnknownMedia(),
    decider=media_of.decide,
    evolver=media_of.evolve,
    owner=media_of.owner_of,
    opening=(UploadMedia,),
)
BATCH: Final[OneStream[Batch, BatchCommand, BatchEvent]] = OneStream(
    kind="batch",
    nothing=batch_of.UnknownBatch(),
    decider=batch_of.decide,
    evolver=batch_of.evolve,
    owner=batch_of.owner_of,
    opening=(OpenBatch,),
    long=True,
)
PROMPT: Final[OneStream[Prompt, PromptCommand, PromptEvent]] = OneStream(
    kind="prompt",
    nothing=prompts_of.UnknownPrompt(),
    decider=prompts_of.decide,
    evolver=prompts_of.evolve,
    owner=prompts_of.owner_of,
    opening=(SavePrompt,),
)
POOL: Final[OneStream[fleet_of.State, FleetCommand, PoolEvent]] = OneStream(
    kind="pool",
    nothing=fleet_of.Open(),
    decider=fleet_of.decide_pool,
    evolver=fleet_of.evolve_pool,
    owner=lambda _: fleet_of.OWNER,
)
WORKER: Final[OneStream[fleet_of.State, FleetCommand, WorkerEvent]] = OneStream(
    kind="worker",
    nothing=fleet_of.Open(),
    decider=fleet_of.decide_worker,
    evolver=fleet_of.evolve_worker,
    owner=lambda _: fleet_of.OWNER,
)

JobExecuted = Executed[Generation, Decision]
AssetExecuted = Executed[Asset, tuple[AssetEvent, ...]]
MediaExecuted = Executed[Media, tuple[MediaEvent, ...]]
BatchExecuted = Executed[Batch, tuple[BatchEvent, ...]]
PromptExecuted = Executed[Prompt, tuple[PromptEvent, ...]]
PoolExecuted = Executed[fleet_of.State, tuple[PoolEvent, ...]]
WorkerExecuted = Executed[fleet_of.State, tuple[WorkerEvent, ...]]
