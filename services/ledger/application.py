"""Execute commands: load the state, let the domain decide, append the events; start over after a conflict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory, Mapper
from eventsourcing.popo import POPOFactory
from eventsourcing.utils import Environment

from domain.aggregates import generation as generations
from domain.aggregates import job as jobs
from domain.aggregates.asset import Asset
from domain.aggregates.batch import Batch
from domain.aggregates.fleet import State as FleetState
from domain.aggregates.fleet import pool_stream, worker_stream
from domain.aggregates.generation import Decision, Generation
from domain.aggregates.media import Media
from domain.aggregates.prompt import Prompt
from domain.codec import UnknownEvent
from domain.commands import (
    AssetCommand,
    BatchCommand,
    FleetCommand,
    JobCommand,
    MediaCommand,
    OpenBatch,
    PromptCommand,
    SubmitJob,
    UseMedia,
)
from domain.envelope import Envelope
from domain.errors import IdempotencyKeyReused, NotFound, Refused
from domain.events import (
    AssetEvent,
    BatchEvent,
    EnhancementMade,
    Event,
    MediaEvent,
    PoolEvent,
    PromptEvent,
    WorkerEvent,
)
from domain.recipes.recipe import asset_id
from services.database import Unavailable
from services.ledger.aggregates import (
    ASSET,
    BATCH,
    MEDIA,
    POOL,
    PROMPT,
    WORKER,
    Aggregate,
    CommandT,
    EventT,
    Executed,
    StateT,
)
from services.ledger.flusher import Commit, Conflict, Guard, NewEvent, Receipt
from services.ledger.mapper import EventMapper
from services.ledger.reading import LedgerReader, require_owner
from services.ledger.recent import NOTHING, Loaded, RecentJobs
from services.ledger.recorders import InMemoryRecorder, PostgresRecorder, Recorder
from services.observability.telemetry import job_span, submitted, submitting

T = TypeVar("T")

CONFLICT_RETRIES_MAX: Final = 16
"""Maximum number of retries after conflicts. More in a row mean a fault, not load."""


@dataclass(frozen=True, slots=True)
class Context:
    """Who sends the command and why. `owner` None: a service that may act on the jobs of all owners."""

    actor: str
    owner: str | None = None
    command_id: UUID | None = None
    causation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class JobExecuted:
    """Result of a command on a job. `position` is that of its last event; read views from there."""

    generation: Generation
    decision: Decision
    position: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """A command on a job."""

    job_id: UUID
    command: JobCommand
    context: Context


@dataclass(frozen=True, slots=True)
class _Planned:
    """The planned changes of a command to a job as it was loaded."""

    asked: Instruction
    loaded: Loaded
    decision: Decision
    after: Generation
    commit: Commit


AssetExecuted = Executed[Asset, AssetEvent]
MediaExecuted = Executed[Media, MediaEvent]
BatchExecuted = Executed[Batch, BatchEvent]
PromptExecuted = Executed[Prompt, PromptEvent]
FleetExecuted = Executed[FleetState, PoolEvent] | Executed[FleetState, WorkerEvent]


class Ledger(LedgerReader, Application[UUID]):
    """Executes commands. Thread-safe; every method may raise `Unavailable`."""

    def __init__(self, recorder: PostgresRecorder | InMemoryRecorder, mapper: EventMapper | None = None) -> None:
        self._given: Recorder = recorder
        self._mapper = mapper or EventMapper()
        self._recent = RecentJobs()
        recorder.when_restored(self._recent.clear)
        super().__init__()

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """Overridden: our parts are passed in and need no environment variables of the library."""
        return POPOFactory(env)

    def construct_mapper(self) -> Mapper[UUID]:
        """Overridden: the library would build its own."""
        return self._mapper

    def construct_recorder(self) -> ApplicationRecorder:
        """Overridden: the library would build its own."""
        return cast("ApplicationRecorder", self._given)

    def execute(self, job_id: UUID, command: JobCommand, context: Context) -> JobExecuted:
        """Execute a command on a job. Raises refusals of the domain; safe to repeat."""
        with job_span("ledger commit", job_id, {"darkroom.command": type(command).__name__}):
            executed = self._execute_unread(job_id, command, context)
            return executed or _retry_conflicts(
                lambda: self._decide_job(job_id, command, context, self._load(job_id)),
            )

    def execute_each(self, asked: Sequence[Instruction]) -> list[JobExecuted | Exception]:
        """Execute many commands, most of them with one read and one group commit.

        A command that fails yields its exception. Raises `Unavailable` for all. The others run one by one; once one of
        these finds Postgres unavailable, the rest fail immediately.
        """
        done = self._execute_together(asked)
        away: Unavailable | None = None
        for number, one in enumerate(asked):
            if number not in done:
                done[number] = outcome = away or self._outcome(one)
                away = outcome if isinstance(outcome, Unavailable) else None
        return [done[number] for number in range(len(asked))]

    def begin_submit(self, command: SubmitJob, context: Context) -> "Future[Receipt]":
        """Submit a new job without waiting for its commit. `Conflict`: the id exists; call `execute` to find out more.

        The future may also hold `Unavailable`. For callers that cannot block a thread per commit. Nothing is read, so a
        job with uploads must use `execute`.
        """
        if command.uploads:
            raise ValueError("what a job starts from is read first")
        decision = generations.decide(command, NOTHING.generation)
        after = generations.evolve(NOTHING.generation, decision)
        receipt = self._given.append(self._job_commit(command.job_id, command, context, NOTHING, decision, after))
        submitting(command.job_id, receipt)
        return receipt

    def execute_asset(self, asset: UUID, command: AssetCommand, context: Context) -> AssetExecuted:
        """Execute a command on one asset, like `execute`."""
        return _retry_conflicts(lambda: self._decide_one(ASSET, asset, command, context))

    def execute_assets(
        self, asked: Mapping[UUID, AssetCommand], context: Context
    ) -> dict[UUID, AssetExecuted | Exception]:
        """Execute many commands on assets, most of them with one read and one group commit.

        A command that fails yields its exception. Raises `Unavailable` for all. Each is a separate command, so the
        context has no command id.
        """
        done: dict[UUID, AssetExecuted | Exception] = dict(self._execute_assets_together(asked, context))
        for asset, command in asked.items():
            if asset not in done:
                try:
                    done[asset] = self.execute_asset(asset, command, context)
                except Unavailable:
                    raise
                except Exception as error:
                    done[asset] = error
        return done

    def execute_media(self, media_id: UUID, command: MediaCommand, context: Context) -> MediaExecuted:
        """Execute a command on one upload, like `execute`."""
        return _retry_conflicts(lambda: self._decide_one(MEDIA, media_id, command, context))

    def execute_batch(
        self, batch_id: UUID, command: BatchCommand, context: Context, submissions: Sequence[SubmitJob] = ()
    ) -> BatchExecuted:
        """Execute a command on one batch, like `execute`. Its new jobs, `submissions`, are in the same commit."""
        if context.owner is not None and not isinstance(command, OpenBatch):
            self._require_batch_of(context.owner, batch_id)
        return _retry_conflicts(lambda: self._decide_one(BATCH, batch_id, command, context, submissions))

    def execute_prompt(self, prompt_id: UUID, command: PromptCommand, context: Context) -> PromptExecuted:
        """Execute a command on one saved prompt, like `execute`."""
        return _retry_conflicts(lambda: self._decide_one(PROMPT, prompt_id, command, context))

    def execute_pool(self, command: FleetCommand, context: Context) -> FleetExecuted:
        """Execute a command on the pool of that name, which belongs to the administrator."""
        return _retry_conflicts(lambda: self._decide_one(POOL, pool_stream(command.name), command, context))

    def execute_worker(self, command: FleetCommand, context: Context) -> FleetExecuted:
        """Execute a command on the worker of that name, which belongs to the administrator."""
        return _retry_conflicts(lambda: self._decide_one(WORKER, worker_stream(command.name), command, context))

    def keep_enhancement(self, identifier: UUID, made: EnhancementMade, now: datetime, context: Context) -> int:
        """Append an enhancement to a stream of its own; returns its position. Raises `Conflict` if the id exists."""
        envelope = _new_envelope(context, made.owner, now, identifier)
        event = self._mapper.encode(identifier, 1, made, envelope)
        return self._given.write(Commit(envelope.command_id, [event])).last_position

    def stop(self, reason: str) -> None:
        """Refuse every append from now on, in every process, until `darkroom restored`. The first reason is kept."""
        self._given.stop(reason)

    def _execute_unread(self, job_id: UUID, command: JobCommand, context: Context) -> JobExecuted | None:
        """Decide without reading the ledger first; None if a read is needed.

        The append checks that every stream of the job is still at the remembered version. A refusal or an empty
        decision has no append, so it needs a read.
        """
        # A new job has nothing to read; if it exists after all, the append conflicts.
        known = NOTHING if isinstance(command, SubmitJob) else self._recent.get(job_id)
        if known is None:
            return None
        try:
            executed = self._decide_job(job_id, command, context, known)
        except (Conflict, Refused):
            self._recent.forget(job_id)
            return None
        return executed if executed.decision else None

    def _execute_together(self, asked: Sequence[Instruction]) -> dict[int, JobExecuted | Exception]:
        """Results by index in `asked`: of jobs with one command that appended something."""
        firsts = {one.job_id: number for number, one in reversed(list(enumerate(asked)))}
        remembered = {job_id: self._recent.get(job_id) for job_id in firsts}
        read = self._load_together([job_id for job_id, known in remembered.items() if known is None])
        planned: dict[int, _Planned] = {}
        for job_id, number in firsts.items():
            known = remembered[job_id] or read.get(job_id)
            with suppress(Refused):
                plan = known and self._plan(asked[number], known)
                if plan:
                    planned[number] = plan
        verdicts = self._given.write_each([plan.commit for plan in planned.values()])
        return {
            number: self._landed(plan, verdict)
            for (number, plan), verdict in zip(planned.items(), verdicts, strict=True)
            if isinstance(verdict, Receipt) and not verdict.repeated
        }

    def _execute_assets_together(
        self, asked: Mapping[UUID, AssetCommand], context: Context
    ) -> dict[UUID, AssetExecuted]:
        """Results of the commands that appended something."""
        stored = self._read_together(list(asked))
        planned: dict[UUID, tuple[Asset, Sequence[AssetEvent], Commit]] = {}
        for asset, command in asked.items():
            with suppress(Refused, UnknownEvent):
                loaded = self._fold_one(ASSET, asset, stored.get(asset, ()))
                state, decided, commit = self._plan_one(ASSET, asset, command, context, loaded)
                if commit is not None:
                    planned[asset] = state, decided, commit
        verdicts = self._given.write_each([commit for _, _, commit in planned.values()])
        return {
            asset: Executed(state, tuple(decided), verdict.last_position)
            for (asset, (state, decided, _)), verdict in zip(planned.items(), verdicts, strict=True)
            if isinstance(verdict, Receipt) and not verdict.repeated
        }

    def _outcome(self, one: Instruction) -> JobExecuted | Exception:
        try:
            return self.execute(one.job_id, one.command, one.context)
        except Exception as error:
            return error

    def _decide_job(self, job_id: UUID, command: JobCommand, context: Context, loaded: Loaded) -> JobExecuted:
        plan = self._plan(Instruction(job_id, command, context), loaded)
        if plan is None:
            return JobExecuted(loaded.generation, Decision(), loaded.position)
        receipt = self._given.write(plan.commit)
        if receipt.repeated:
            return self._served(job_id, command, plan.decision, receipt)
        return self._landed(plan, receipt)

    def _plan(self, asked: Instruction, loaded: Loaded) -> _Planned | None:
        """Decide; None if there is nothing to append."""
        generation = loaded.generation
        if not isinstance(asked.command, SubmitJob):
            require_owner("job", asked.job_id, jobs.owner_of(generation.job), asked.context.owner)
        decision = generations.decide(asked.command, generation)
        if not decision:
            return None
        after = generations.evolve(generation, decision)
        commit = self._job_commit(asked.job_id, asked.command, asked.context, loaded, decision, after)
        return _Planned(asked, loaded, decision, after, commit)

    def _landed(self, plan: _Planned, receipt: Receipt) -> JobExecuted:
        job_id, after = plan.asked.job_id, plan.after
        if isinstance(plan.asked.command, SubmitJob):
            submitted(job_id)
        own = {job_id, *(asset_id(job_id, index) for index in range(len(after.assets)))}
        news = {each.stream_id: each.version for each in plan.commit.events if each.stream_id in own}
        self._recent.put(job_id, Loaded(after, plan.loaded.versions | news, receipt.last_position))
        return JobExecuted(after, plan.decision, receipt.last_position)

    def _new_job(self, command: SubmitJob, context: Context) -> Sequence[NewEvent]:
        """The events of a new job and its assets."""
        decision = generations.decide(command, NOTHING.generation)
        after = generations.evolve(NOTHING.generation, decision)
        alone = replace(command, uploads=())
        return self._job_commit(command.job_id, alone, context, NOTHING, decision, after).events

    def _job_commit(
        self,
        job_id: UUID,
        command: JobCommand,
        context: Context,
        loaded: Loaded,
        decision: Decision,
        after: Generation,
    ) -> Commit:
        envelope = _new_envelope(context, cast("str", jobs.owner_of(after.job)), command.now, job_id)
        versions = dict(loaded.versions)
        events: list[NewEvent] = []
        # A job's first event precedes its assets, its ending follows theirs.
        opening, closing = (decision.job, ()) if isinstance(command, SubmitJob) else ((), decision.job)
        self._encode_onto(events, versions, job_id, opening, envelope)
        for index, asset_events in sorted(decision.assets.items()):
            self._encode_onto(events, versions, asset_id(job_id, index), asset_events, envelope)
        self._encode_onto(events, versions, job_id, closing, envelope)
        if isinstance(command, SubmitJob) and command.uploads:
            events += self._first_uses([command], context)
        touched = {event.stream_id for event in events}
        guards = [Guard(stream, version) for stream, version in loaded.versions.items() if stream not in touched]
        return Commit(envelope.command_id, events, guards)

    def _first_uses(self, submissions: Sequence[SubmitJob], context: Context) -> list[NewEvent]:
        """A `media.used` for each upload that no job has used: it conflicts with a concurrent deletion.

        Raises `NotFound` for an upload that was deleted, that is not at the recipe's path, or that belongs to another
        owner.
        """
        first = {media_id: command for command in reversed(submissions) for media_id in reversed(command.uploads)}
        events: list[NewEvent] = []
        for media_id, command in reversed(first.items()):
            media, version, _ = self._load_one(MEDIA, media_id)
            require_owner("media", media_id, MEDIA.owner_of(media), command.owner)
            use = UseMedia(command.job_id, command.now, _file_of(command, media_id))
            try:
                used = MEDIA.decide(use, media)
            except NotFound:
                raise NotFound("media", media_id) from None
            envelope = _new_envelope(context, command.owner, command.now, media_id)
            self._encode_onto(events, {media_id: version}, media_id, used, envelope)
        return events

    def _served(self, job_id: UUID, command: JobCommand, decision: Decision, receipt: Receipt) -> JobExecuted:
        """The command id is already in the ledger, so the recorded result counts, not the new decision."""
        generation = self._load(job_id).generation
        if isinstance(command, SubmitJob):
            job = generation.job
            if isinstance(job, jobs.NotSubmitted):
                raise IdempotencyKeyReused  # for another job
            if job.queued != decision.job[0]:
                decision = Decision(job=tuple(jobs.submit(command, job)))
        return JobExecuted(generation, decision, receipt.last_position)

    def _decide_one(
        self,
        kind: Aggregate[StateT, CommandT, EventT],
        stream: UUID,
        command: CommandT,
        context: Context,
        submissions: Sequence[SubmitJob] = (),
    ) -> Executed[StateT, EventT]:
        """Decide and append, with new jobs in the same commit."""
        loaded = self._load_one(kind, stream)
        state, decided, commit = self._plan_one(kind, stream, command, context, loaded, submissions)
        if commit is None:
            return Executed(state, (), loaded[2])
        receipt = self._given.write(commit)
        if receipt.repeated:
            state, _, _ = self._load_one(kind, stream)
        else:
            for submission in submissions:
                submitted(submission.job_id)
        return Executed(state, tuple(decided), receipt.last_position)

    def _plan_one(
        self,
        kind: Aggregate[StateT, CommandT, EventT],
        stream: UUID,
        command: CommandT,
        context: Context,
        loaded: tuple[StateT, int, int],
        submissions: Sequence[SubmitJob] = (),
    ) -> tuple[StateT, Sequence[EventT], Commit | None]:
        """Decide: the new state, the events, and the commit that appends them; None if there is nothing to append."""
        state, version, _ = loaded
        if version or not isinstance(command, kind.opening):
            require_owner(kind.kind, stream, kind.owner_of(state), context.owner)
        decided = kind.decide(command, state)
        if not decided:
            return state, (), None
        for event in decided:
            state = kind.evolve(state, event)
        correlation_id = kind.conversation_of(stream, state)
        envelope = _new_envelope(context, cast("str", kind.owner_of(state)), command.now, correlation_id)
        events: list[NewEvent] = []
        self._encode_onto(events, {stream: version}, stream, decided, envelope)
        for submission in submissions:
            events += self._new_job(submission, context)
        events += self._first_uses(submissions, context)
        return state, decided, Commit(envelope.command_id, events)

    def _encode_onto(
        self, onto: list[NewEvent], versions: dict[UUID, int], stream: UUID, events: Iterable[Event], envelope: Envelope
    ) -> None:
        for event in events:
            versions[stream] = versions.get(stream, 0) + 1
            onto.append(self._mapper.encode(stream, versions[stream], event, envelope))


def _retry_conflicts(decide: Callable[[], T]) -> T:
    for _ in range(CONFLICT_RETRIES_MAX):
        try:
            return decide()
        except Conflict:
            continue
    raise Unavailable("The ledger is too busy on this job; try again.")


def _new_envelope(context: Context, owner: str, at: datetime, correlation_id: UUID) -> Envelope:
    return Envelope(
        actor=context.actor,
        owner=owner,
        at=at,
        command_id=context.command_id or uuid4(),
        correlation_id=correlation_id,
        causation_id=context.causation_id,
    )


def _file_of(command: SubmitJob, media_id: UUID) -> str | None:
    """The path of an upload in the recipe; None if the recipe does not use it."""
    sources = {source.lower(): file for source, file in command.recipe.files.items()}
    file = sources.get(f"media:{media_id}")
    return None if file is None else file.path
