"""Repairs the ledger after a restore from an older backup: lost events are appended again if that is exact.

Everything is one transaction, in which no other process appends. If the ledger has not grown since the restore, the
lost events get their old positions, byte for byte: nothing is lost. If it has grown, whole conversations without newer
events in the ledger are appended at new positions, with their envelopes, so that a repeated old command is not executed
twice; conversations that continued differently are left out and reported. Keys follow the users' events: a revoked one
stays revoked.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, Literal
from uuid import UUID, uuid4, uuid5

import orjson
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from domain.envelope import Envelope, Recorded
from domain.events import JobHandedOver, LedgerRestored, UserKeyAdded, UserKeyRevoked
from projections.sql import load
from services.crash_points import Point, reached
from services.ledger import EventMapper, RawEvent
from services.ledger.commits import GROUP_EVENTS_MAX, Commit, NewEvent, Receipt, append_group
from services.restore.lost import Lost

log = logging.getLogger(__name__)

SQL = load("restoring.sql", "services.restore")

LEDGER_ITSELF: Final = UUID("0c2a6a52-7e0f-5d0b-8a51-6d0f7b6f3c9e")
"""The stream of events about the ledger as a whole, and the namespace of ids for commands that were split."""

ADMIN: Final = "admin"
"""The actor of the event: the person who runs the command is the administrator."""

COMMITS_AT_ONCE: Final = 256

How = Literal["taken_back", "merged", "discarded", "declared"]
MAPPER: Final = EventMapper()


class RestoreRefused(Exception):
    """The ledger changed during the comparison, or cannot take the events. Nothing was changed."""

    code = "restore_refused"


@dataclass(frozen=True, slots=True)
class Order:
    """An output that was ordered from a provider and that the ledger lost: it may be paid for twice."""

    job_id: UUID
    index: int
    provider: str
    provider_id: str


@dataclass(slots=True)
class RestorePlan:
    """What a restore would do. `back` are events to append, in order; `left_out` the others."""

    how: How
    shared: int
    head: int
    lost: int
    back: Sequence[RawEvent]
    left_out: Sequence[RawEvent]
    orders: list[Order] = field(default_factory=list)
    keys_added: list[str] = field(default_factory=list)
    keys_revoked: list[str] = field(default_factory=list)


def read_at(connection: Connection[TupleRow], position: int) -> RawEvent | None:
    """The ledger's event at a position."""
    row = connection.execute(SQL["at"], (position,), binary=True).fetchone()
    return None if row is None else RawEvent(*row)


def head_of(connection: Connection[TupleRow]) -> int:
    """The ledger's last position."""
    row = connection.execute(SQL["head"]).fetchone()
    return 0 if row is None else int(row[0])


def is_replaced(connection: Connection[TupleRow], made: str | None) -> bool:
    """Whether a restore has already replaced the stream created at that time; the relay has not yet recreated it."""
    row = connection.execute(SQL["is_replaced"], (made,)).fetchone()
    return made is not None and row is not None and bool(row[0])


def plan_of(connection: Connection[TupleRow], lost: Lost, *, discard: bool) -> RestorePlan:
    """Decide what to do with the lost events, for the ledger as it is now."""
    head = head_of(connection)
    if head == lost.shared and lost.is_whole and not discard:
        how: How = "taken_back" if lost.events else "declared"
        plan = RestorePlan(how, lost.shared, head, lost.count, lost.events, ())
    else:
        back, left_out = _sorted_out(connection, lost, discard=discard)
        count = lost.count
        how = "declared" if not count else "discarded" if discard else "merged"
        plan = RestorePlan(how, lost.shared, head, count, back, left_out)
    for recorded in _readable(plan.left_out):
        if isinstance(recorded.event, JobHandedOver):
            order = recorded.event
            plan.orders.append(Order(recorded.stream_id, order.index, order.provider, order.provider_id))
    for recorded in _readable(lost.events):
        if isinstance(recorded.event, UserKeyAdded):
            plan.keys_added.append(recorded.event.name)
        elif isinstance(recorded.event, UserKeyRevoked):
            plan.keys_revoked.append(recorded.event.name)
    return plan


def restore(connection: Connection[TupleRow], lost: Lost, *, discard: bool) -> tuple[RestorePlan, UUID]:
    """Start the ledger's next epoch: one transaction, all or nothing. Returns what was done, and the epoch.

    Raises `RestoreRefused`, and the error of Postgres for a user who does not own the ledger.
    """
    with connection.transaction():
        connection.execute(SQL["lock"])
        connection.execute(SQL["let_go"])
        plan = plan_of(connection, lost, discard=discard)
        _append(connection, plan)
        _keep_keys(connection, lost)
        _keep_epochs(connection, plan)
        goes_on = plan.how == "taken_back" or (plan.how == "declared" and plan.head == plan.shared)
        [(epoch,)] = connection.execute(
            SQL["begin_epoch"],
            {
                "from": (lost.last if plan.how == "taken_back" else lost.shared) + 1,
                "reason": plan.how,
                "instead_of": lost.epoch,
                "replaced": None if goes_on else lost.made,
            },
        ).fetchall()
        _tell(connection, plan, epoch)
        connection.execute(SQL["forget_stop"])
        reached(Point.RESTORED_BEFORE_COMMIT)
    reached(Point.RESTORED_AFTER_COMMIT)
    return plan, epoch


def end_others(connection: Connection[TupleRow]) -> None:
    """Close all other connections: the processes may remember another history of the ledger."""
    try:
        connection.execute(SQL["end_others"])
    except psycopg.errors.InsufficientPrivilege:
        log.warning("other connections to Postgres go on: restart the services of Darkroom")


def _sorted_out(
    connection: Connection[TupleRow], lost: Lost, *, discard: bool
) -> tuple[list[RawEvent], list[RawEvent]]:
    """The events that the ledger can still take, and those that it cannot.

    A conversation is kept or left out as a whole: a job with its assets, an upload, a batch, a prompt, a user. It fits
    if none of it happened since the histories differ, and if its lost events continue its streams. Users are kept even
    if everything else is discarded.
    """
    conversations: dict[UUID | None, list[RawEvent]] = {}
    for event in lost.events:
        conversations.setdefault(_correlation_of(event), []).append(event)
    moved_on = {
        _correlation_of(RawEvent(*row)) for row in connection.execute(SQL["after"], (lost.shared,), binary=True)
    }
    streams = {event.stream_id for event in lost.events}
    ends: dict[UUID, int] = dict(connection.execute(SQL["versions"], (list(streams),)).fetchall())
    commands = {command for event in lost.events if (command := _command_of(event)) is not None}
    served = {row[0] for row in connection.execute(SQL["served"], (list(commands),))}

    def fits(conversation: UUID | None, events: Sequence[RawEvent]) -> bool:
        if conversation is None or conversation in moved_on:
            return False
        if discard and not all(event.topic.startswith("user.") for event in events):
            return False
        at: dict[UUID, int] = {}
        for event in events:
            if event.version != at.get(event.stream_id, ends.get(event.stream_id, 0)) + 1:
                return False
            at[event.stream_id] = event.version
        return not any(_command_of(event) in served for event in events)

    fitting = {one for one, events in conversations.items() if fits(one, events)}
    back = [event for event in lost.events if _correlation_of(event) in fitting]
    return back, [event for event in lost.events if _correlation_of(event) not in fitting]


def _append(connection: Connection[TupleRow], plan: RestorePlan) -> None:
    """Raises `RestoreRefused` if an event does not get the expected position."""
    expected = plan.head
    for commits in _groups(_commits(plan.back)):
        for commit, verdict in zip(commits, append_group(connection, commits), strict=True):
            first, expected = expected + 1, expected + len(commit.events)
            if verdict != Receipt(first, expected):
                event = commit.events[0]
                raise RestoreRefused(
                    f"The ledger does not take version {event.version} of stream {event.stream_id} at position "
                    f"{first}: run `darkroom verify`. Nothing was changed."
                )


def _commits(events: Sequence[RawEvent]) -> Iterator[Commit]:
    """Adjacent events of one command, under its id; further events of the same command get a derived id."""
    seen: set[UUID] = set()
    for command, run in groupby(events, key=_command_of):
        together = list(run)
        own = command
        if own is None or own in seen:
            own = uuid5(LEDGER_ITSELF, f"{together[0].stream_id}/{together[0].version}")
        seen.add(own)
        yield Commit(own, [NewEvent(*event[1:]) for event in together])


def _groups(commits: Iterator[Commit]) -> Iterator[list[Commit]]:
    group: list[Commit] = []
    events = 0
    for commit in commits:
        if group and (events + len(commit.events) > GROUP_EVENTS_MAX or len(group) == COMMITS_AT_ONCE):
            yield group
            group, events = [], 0
        group.append(commit)
        events += len(commit.events)
    if group:
        yield group


def _keep_keys(connection: Connection[TupleRow], lost: Lost) -> None:
    """Update the table of keys from the lost events. A revoked key stays revoked."""
    for recorded in _readable(lost.events):
        event, at = recorded.event, recorded.envelope.at
        if isinstance(event, UserKeyAdded):
            row = {"key_id": event.key_id, "name": event.name, "sha256": bytes.fromhex(event.sha256), "at": at}
            connection.execute(SQL["key_added"], row)
        elif isinstance(event, UserKeyRevoked):
            connection.execute(SQL["key_revoked"], {"key_id": event.key_id, "at": at})


def _keep_epochs(connection: Connection[TupleRow], plan: RestorePlan) -> None:
    """Add the epochs that the backup did not know: clients hold event ids of them."""
    if plan.how != "taken_back":
        return  # otherwise none of their events kept their positions
    for recorded in _readable(plan.back):
        if isinstance(recorded.event, LedgerRestored):
            event = recorded.event
            row = {"epoch": event.epoch, "from": event.shared_position + 1, "reason": event.how}
            connection.execute(SQL["keep_epoch"], row)


def _tell(connection: Connection[TupleRow], plan: RestorePlan, epoch: UUID) -> None:
    """Append the transaction's last event, which describes the restore."""
    shared = plan.shared + len(plan.back) if plan.how == "taken_back" else plan.shared
    restored = LedgerRestored(
        epoch=epoch,
        shared_position=shared,
        lost=plan.lost,
        taken_back=len(plan.back),
        left_out=plan.lost - len(plan.back),
        how=plan.how,
    )
    found: dict[UUID, int] = dict(connection.execute(SQL["versions"], ([LEDGER_ITSELF],)).fetchall())
    envelope = Envelope(ADMIN, ADMIN, datetime.now(UTC), uuid4(), correlation_id=LEDGER_ITSELF)
    new = MAPPER.encode(LEDGER_ITSELF, found.get(LEDGER_ITSELF, 0) + 1, restored, envelope)
    (verdict,) = append_group(connection, [Commit(envelope.command_id, [new])])
    if not isinstance(verdict, Receipt):
        raise RestoreRefused("The ledger does not take the event that says what happened. Nothing was changed.")


def _readable(events: Sequence[RawEvent]) -> Iterator[Recorded]:
    for event in events:
        recorded = MAPPER.read(*event)
        if isinstance(recorded, Recorded):
            yield recorded


def _correlation_of(event: RawEvent) -> UUID | None:
    return _of_envelope(event, "correlation_id")


def _command_of(event: RawEvent) -> UUID | None:
    return _of_envelope(event, "command_id")


def _of_envelope(event: RawEvent, name: str) -> UUID | None:
    """Returns None if the event's envelope cannot be read."""
    try:
        return UUID(orjson.loads(event.state)["meta"][name])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
