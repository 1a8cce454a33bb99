"""Execute commands: load the state, let the domain decide, append the events; start over after a conflict."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory, Mapper
from eventsourcing.popo import POPOFactory
from eventsourcing.utils import Environment

from domain.commands import SubmitJob
from domain.errors import Refused
from domain.events import EnhancementMade
from services.database import Unavailable
from services.ledger.aggregates import (
    JOB,
    MEDIA,
    Aggregate,
    CommandT,
    DecisionT,
    Executed,
    Loaded,
    StateT,
)
from services.ledger.commits import Commit, Conflict, Receipt
from services.ledger.mapper import EventMapper
from services.ledger.planning import Context, Instruction, Plan, Planner
from services.ledger.reading import LedgerReader
from services.ledger.recent import RecentJobs
from services.ledger.recorders import InMemoryRecorder, PostgresRecorder, Recorder
from services.observability.telemetry import job_span, submitted, submitting

T = TypeVar("T")

CONFLICTS_S_MAX: Final = 10.0
"""Seconds for which a command starts over after conflicts. Of those who write to a stream at once one always succeeds,
so with a hundred of them the last needs a hundred tries; longer means a fault."""


class Ledger(LedgerReader, Application[UUID]):
    """Executes commands. Thread-safe; every method may raise `Unavailable`."""

    def __init__(self, recorder: PostgresRecorder | InMemoryRecorder, mapper: EventMapper | None = None) -> None:
        self._given: Recorder = recorder
        self._mapper = mapper or EventMapper()
        self._recent = RecentJobs()
        self._planner = Planner(self._mapper, lambda media_id: self._load(MEDIA, media_id))
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

    def execute(
        self,
        kind: Aggregate[StateT, CommandT, DecisionT],
        stream: UUID,
        command: CommandT,
        context: Context,
        jobs: Sequence[SubmitJob] = (),
    ) -> Executed[StateT, DecisionT]:
        """Execute a command on the `kind` of aggregate whose stream it is. Raises refusals of the domain.

        Safe to repeat. `jobs`: new jobs in the same commit, for batches.
        """
        asked = Instruction(kind, stream, command, context, jobs)
        name = {"darkroom.command": type(command).__name__}
        with job_span("ledger commit", stream, name) if kind.cached else nullcontext():
            return self._execute_unread(asked) or _retry_conflicts(lambda: self._execute_loaded(asked))

    def execute_each(
        self, asked: Sequence[Instruction[StateT, CommandT, DecisionT]]
    ) -> list[Executed[StateT, DecisionT] | Exception]:
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
        plan = self._planner.plan(Instruction(JOB, command.job_id, command, context), JOB.unknown)
        receipt = self._given.append(cast("Commit", plan.commit))
        submitting(command.job_id, receipt)
        return receipt

    def keep_enhancement(self, identifier: UUID, made: EnhancementMade, now: datetime, context: Context) -> int:
        """Append an enhancement to a stream of its own; returns its position. Raises `Conflict` if the id exists."""
        envelope = context.envelope(made.owner, now, identifier)
        event = self._mapper.encode(identifier, 1, made, envelope)
        return self._given.write(Commit(envelope.command_id, [event])).last_position

    def stop(self, reason: str) -> None:
        """Refuse every append from now on, in every process, until `darkroom restored`. The first reason is kept."""
        self._given.stop(reason)

    def _execute_unread(self, asked: Instruction[StateT, CommandT, DecisionT]) -> Executed[StateT, DecisionT] | None:
        """Decide without reading the ledger first; None if a read is needed.

        The append checks that every stream is still at the remembered version. A refusal or an empty decision has no
        append, so it needs a read.
        """
        # A new job has nothing to read; if it exists after all, the append conflicts.
        known = asked.kind.unread(asked.command) or self._remembered(asked)
        if known is None:
            return None
        try:
            executed = self._execute_on(asked, known)
        except (Conflict, Refused):
            self._recent.forget(asked.stream)
            return None
        return executed if executed.decision else None

    def _execute_loaded(self, asked: Instruction[StateT, CommandT, DecisionT]) -> Executed[StateT, DecisionT]:
        if not asked.kind.may_open(asked.command, asked.kind.unknown):
            self._refuse_early(asked.kind, asked.stream, asked.context.owner)
        return self._execute_on(asked, self._load(asked.kind, asked.stream))

    def _execute_on(
        self, asked: Instruction[StateT, CommandT, DecisionT], loaded: Loaded[StateT]
    ) -> Executed[StateT, DecisionT]:
        plan = self._planner.plan(asked, loaded)
        if plan.commit is None:
            return Executed(loaded.state, plan.decision, loaded.position)
        receipt = self._given.write(plan.commit)
        if not receipt.repeated:
            return self._landed(asked, plan, receipt)
        # The command id is already in the ledger, so the recorded result counts, not the new decision.
        state = self._load(asked.kind, asked.stream).state
        decision = asked.kind.repeated(asked.command, state, plan.decision)
        return Executed(state, decision, receipt.last_position)

    def _execute_together(
        self, asked: Sequence[Instruction[StateT, CommandT, DecisionT]]
    ) -> dict[int, Executed[StateT, DecisionT] | Exception]:
        """Results by index in `asked`: of aggregates with one command that appended something."""
        firsts: dict[UUID, int] = {}
        for number, one in enumerate(asked):
            firsts.setdefault(one.stream, number)
        remembered = {stream: self._remembered(asked[number]) for stream, number in firsts.items()}
        unknown = [stream for stream, known in remembered.items() if known is None]
        read = self._load_together(asked[0].kind, unknown) if unknown else {}
        planned: list[tuple[int, Plan[StateT, DecisionT], Commit]] = []
        for stream, number in firsts.items():
            known = remembered[stream] or read.get(stream)
            with suppress(Refused):
                plan = known and self._planner.plan(asked[number], known)
                if plan and plan.commit:
                    planned.append((number, plan, plan.commit))
        verdicts = self._given.write_each([commit for _, _, commit in planned])
        return {
            number: self._landed(asked[number], plan, verdict)
            for (number, plan, _), verdict in zip(planned, verdicts, strict=True)
            if isinstance(verdict, Receipt) and not verdict.repeated
        }

    def _outcome(self, one: Instruction[StateT, CommandT, DecisionT]) -> Executed[StateT, DecisionT] | Exception:
        try:
            return self.execute(one.kind, one.stream, one.command, one.context, one.jobs)
        except Exception as error:
            return error

    def _remembered(self, asked: Instruction[StateT, CommandT, DecisionT]) -> Loaded[StateT] | None:
        return self._recent.get(asked.stream) if asked.kind.cached else None

    def _landed(
        self, asked: Instruction[StateT, CommandT, DecisionT], plan: Plan[StateT, DecisionT], receipt: Receipt
    ) -> Executed[StateT, DecisionT]:
        for job in plan.jobs:
            submitted(job.job_id)
        if asked.kind.cached:
            self._recent.put(asked.stream, replace(plan.after, position=receipt.last_position))
        return Executed(plan.after.state, plan.decision, receipt.last_position)


def _retry_conflicts(decide: Callable[[], T]) -> T:
    until = time.monotonic() + CONFLICTS_S_MAX
    while time.monotonic() < until:
        try:
            return decide()
        except Conflict:
            continue
    raise Unavailable("Too many others change the same thing at this moment; try again.")
