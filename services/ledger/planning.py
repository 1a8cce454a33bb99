"""Plan what a command appends: the decision, the new state, and the commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, cast
from uuid import UUID, uuid4

from domain.aggregates.media import Media
from domain.commands import SubmitJob, UseMedia
from domain.envelope import Envelope
from domain.errors import NotFound
from domain.events import Event
from services.ledger.aggregates import JOB, MEDIA, Aggregate, CommandT, DecisionT, Loaded, StateT
from services.ledger.commits import Commit, Guard, NewEvent
from services.ledger.mapper import EventMapper
from services.ledger.reading import require_owner


@dataclass(frozen=True, slots=True)
class Context:
    """Who sends the command and why. `owner` None: a service that may act on the jobs of all owners."""

    actor: str
    owner: str | None = None
    command_id: UUID | None = None
    causation_id: UUID | None = None

    def envelope(self, owner: str, at: datetime, correlation_id: UUID) -> Envelope:
        """The envelope of events of this command; a command without an id gets a random one."""
        return Envelope(
            actor=self.actor,
            owner=owner,
            at=at,
            command_id=self.command_id or uuid4(),
            correlation_id=correlation_id,
            causation_id=self.causation_id,
        )


@dataclass(frozen=True, slots=True)
class Instruction(Generic[StateT, CommandT, DecisionT]):
    """A command on an aggregate. `jobs`: new jobs in the same commit, for batches."""

    kind: Aggregate[StateT, CommandT, DecisionT]
    stream: UUID
    command: CommandT
    context: Context
    jobs: Sequence[SubmitJob] = ()


@dataclass(frozen=True, slots=True)
class Plan(Generic[StateT, DecisionT]):
    """What a command changes. `after` is the state once `commit` is appended; its position is not known yet.

    `commit` None: there is nothing to append. `jobs` are the new ones in the commit.
    """

    decision: DecisionT
    after: Loaded[StateT]
    commit: Commit | None = None
    jobs: Sequence[SubmitJob] = ()


class Planner:
    """Plans commits. `load_media` loads an upload that a new job uses."""

    def __init__(self, mapper: EventMapper, load_media: Callable[[UUID], Loaded[Media]]) -> None:
        self._mapper = mapper
        self._load_media = load_media

    def plan(self, asked: Instruction[StateT, CommandT, DecisionT], loaded: Loaded[StateT]) -> Plan[StateT, DecisionT]:
        """Let the domain decide on the loaded state. Raises a `Refused`."""
        kind, stream, command = asked.kind, asked.stream, asked.command
        if not kind.may_open(command, loaded):
            require_owner(kind.kind, stream, kind.owner_of(loaded.state), asked.context.owner)
        decision = kind.decide(command, loaded.state)
        if not decision:
            return Plan(decision, loaded)
        state = kind.evolve(loaded.state, decision)
        envelope = asked.context.envelope(
            cast("str", kind.owner_of(state)), command.now, kind.conversation_of(stream, state)
        )
        versions = dict(loaded.versions)
        events = [
            self._encoded(versions, of, event, envelope) for of, event in kind.events_of(stream, command, decision)
        ]
        jobs = (command,) if isinstance(command, SubmitJob) else asked.jobs
        for job in asked.jobs:
            events += self._opening(job, asked.context)
        if any(job.uploads for job in jobs):
            events += self._first_uses(jobs, asked.context)
        guards = [Guard(of, version) for of, version in loaded.versions.items() if versions[of] == version]
        return Plan(decision, Loaded(state, versions), Commit(envelope.command_id, events, guards), jobs)

    def _opening(self, job: SubmitJob, context: Context) -> Sequence[NewEvent]:
        """The events of a new job and its assets, without the first uses of its uploads."""
        alone = Instruction(JOB, job.job_id, replace(job, uploads=()), context)
        commit = self.plan(alone, JOB.unknown).commit
        return () if commit is None else commit.events

    def _first_uses(self, jobs: Sequence[SubmitJob], context: Context) -> list[NewEvent]:
        """A `media.used` for each upload that no job has used: it conflicts with a concurrent deletion.

        Raises `NotFound` for an upload that was deleted, that is not at the recipe's path, or that belongs to another
        owner.
        """
        first = {media_id: job for job in reversed(jobs) for media_id in reversed(job.uploads)}
        events: list[NewEvent] = []
        for media_id, job in reversed(first.items()):
            loaded = self._load_media(media_id)
            require_owner(MEDIA.kind, media_id, MEDIA.owner_of(loaded.state), job.owner)
            try:
                used = MEDIA.decide(UseMedia(job.job_id, job.now, _file_of(job, media_id)), loaded.state)
            except NotFound:
                raise NotFound(MEDIA.kind, media_id) from None
            envelope, versions = context.envelope(job.owner, job.now, media_id), dict(loaded.versions)
            events += [self._encoded(versions, media_id, event, envelope) for event in used]
        return events

    def _encoded(self, versions: dict[UUID, int], stream: UUID, event: Event, envelope: Envelope) -> NewEvent:
        """The next event of the stream, which `versions` then counts."""
        versions[stream] = versions.get(stream, 0) + 1
        return self._mapper.encode(stream, versions[stream], event, envelope)


def _file_of(job: SubmitJob, media_id: UUID) -> str | None:
    """The path of an upload in the recipe; None if the recipe does not use it."""
    sources = {source.lower(): file for source, file in job.recipe.files.items()}
    file = sources.get(f"media:{media_id}")
    return None if file is None else file.path
