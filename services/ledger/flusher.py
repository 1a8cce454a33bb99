"""Group commit: all waiting commits are sent in one round trip, in one transaction, with one fsync."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load
from services.crash_points import Point, reached
from services.database import GONE, STOPPED, Unavailable, WritesStopped, connect, why_unavailable
from services.ledger.commits import GROUP_COMMITS_MAX, GROUP_EVENTS_MAX, Commit, Conflict, Receipt, append_group
from services.observability import progress
from services.observability.metrics import GROUP_COMMITS, GROUP_SECONDS, LEDGER_CONFLICTS

log = logging.getLogger(__name__)

SQL = load("flusher.sql", "services.ledger")

LINGER_S_MAX: Final = 0.0005
"""Seconds that the next group waits for the writers of a group of several, who return almost immediately.

Without it the first one would be sent alone, and the others would wait for another fsync. A single writer never waits.

"""

LINGER_COMMITS_MAX: Final = 12
"""Maximum size of a group after which the next one waits for writers: after a larger group, enough new commits are
already waiting."""

RETRY_S_MAX: Final = 5.0
"""Seconds for which a group is sent again after a lost connection; then its callers get `Unavailable`."""

RETRY_PAUSE_S: Final = 0.1

WENT_BACK: Final = (
    "The ledger lacks what this Darkroom has appended to it: Postgres was restored from an older backup. Writes are "
    "stopped; run `darkroom restored`."
)

NEVER: Final = sys.maxsize
"""Number of waiting commits that would wake the thread while it is awake: never reached."""

ANSWER_S_MAX: Final = 15.0
"""Maximum seconds that a caller waits for its commit: `RETRY_S_MAX` plus a queue."""


class OutcomeUnknown(Unavailable):
    """The answer to a commit did not arrive: it may or may not be in the ledger. Repeating the command is safe."""

    code = "outcome_unknown"


def gave_up(*, taken_back: bool) -> Unavailable:
    """The error for a caller who waited `ANSWER_S_MAX` for a commit. `taken_back`: it was never sent."""
    waited = f"The ledger did not answer within {ANSWER_S_MAX:g} s"
    if taken_back:
        return Unavailable(f"{waited}; nothing was changed.")
    return OutcomeUnknown(f"{waited}, so it is not known whether the change was made.")


class NotAdmitted(psycopg.OperationalError):
    """This process has not compared the ledger with LEDGER yet. It retries shortly."""

    def reason(self) -> Unavailable:
        """The error for a caller if this continues."""
        return Unavailable(f"{self}; nothing was written.", reason="not_compared")


class _Awaited:
    """A commit with a blocked writer. A bare lock: a future costs three times as much."""

    __slots__ = ("_answered", "_verdict", "commit")

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self._verdict: Receipt | Exception | None = None
        self._answered = threading.Lock()
        self._answered.acquire()

    def taken(self) -> bool:
        """Called when it is sent; always true, because a commit that was taken back is no longer in the queue."""
        return True

    def answer(self, verdict: Receipt | Exception) -> None:
        self._verdict = verdict
        self._answered.release()

    def wait(self, timeout_s: float) -> Receipt:
        verdict = self.verdict(timeout_s)
        if isinstance(verdict, Conflict):
            raise verdict
        return verdict

    def verdict(self, timeout_s: float) -> "Receipt | Conflict":
        if not self._answered.acquire(timeout=timeout_s) or self._verdict is None:
            raise _NoAnswer
        if isinstance(self._verdict, Receipt | Conflict):
            return self._verdict
        raise self._verdict


class _NoAnswer(Exception):
    """No answer came in time."""


class _Promised:
    """A commit with a future for its receipt, for callers that cannot block.

    Canceling the future takes the commit back, unless it has been sent.
    """

    __slots__ = ("commit", "future")

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.future: Future[Receipt] = Future()

    def taken(self) -> bool:
        """Called when it is sent; false if it was taken back."""
        return self.future.set_running_or_notify_cancel()

    def answer(self, verdict: Receipt | Exception) -> None:
        if isinstance(verdict, Exception):
            self.future.set_exception(verdict)
        else:
            self.future.set_result(verdict)


class Flusher:
    """The only writer of a process: a thread that flushes its callers' commits. Start with `with`."""

    def __init__(
        self,
        dsn: str,
        on_commit: Callable[[int], None] | None = None,
        admitted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`on_commit` is called with the last position after each group that appended something.

        Nothing is sent until `admitted` returns true: this database may be written.
        """
        self._dsn = dsn
        self._on_commit = on_commit
        self._admitted = admitted
        self._epoch: UUID | None = None
        self._last_command: UUID | None = None
        self._on_new_epoch: list[Callable[[], None]] = []
        # Writers append without a lock, which forty of them would contend for: a deque is thread-safe.
        self._waiting: deque[_Awaited | _Promised] = deque()
        self._wanted = NEVER
        self._wake = threading.Lock()  # not owned by a thread: released to wake the flushing thread
        self._closing = False
        self._ended = False
        self._connection: Connection[TupleRow] | None = None
        self._said = progress.of(progress.WRITER)
        self._thread = threading.Thread(target=self._run, name="ledger-flusher", daemon=True)

    def __enter__(self) -> "Flusher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush all waiting commits, then stop."""
        self._closing = True
        self._wake_up()
        if self._thread.is_alive():
            self._thread.join()

    def when_restored(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the ledger turns out to be another incarnation: cached state is invalid then."""
        self._on_new_epoch.append(forget)

    def append(self, commit: Commit) -> Future[Receipt]:
        """Submit a commit. The future holds its receipt, `Conflict`, `Unavailable` or `OutcomeUnknown`."""
        promised = _Promised(commit)
        self._hand_in(promised)
        return promised.future

    def write(self, commit: Commit) -> Receipt:
        """Submit a commit and wait for its receipt. Raises `Conflict`, `Unavailable` or `OutcomeUnknown`."""
        awaited = _Awaited(commit)
        self._hand_in(awaited)
        try:
            return awaited.wait(ANSWER_S_MAX)
        except _NoAnswer:
            raise self._gave_up([awaited]) from None

    def write_each(self, commits: Sequence[Commit]) -> list[Receipt | Conflict]:
        """Submit several commits that are sent together, and wait for each verdict.

        Raises `Unavailable` or `OutcomeUnknown`.
        """
        awaited = [_Awaited(commit) for commit in commits]
        self._hand_in(*awaited)
        try:
            return [one.verdict(ANSWER_S_MAX) for one in awaited]
        except _NoAnswer:
            raise self._gave_up(awaited) from None

    def _gave_up(self, handed: Sequence[_Awaited]) -> Unavailable:
        """Take back the commits that were not sent yet; returns the error to raise."""
        taken_back = 0
        for one in handed:
            with suppress(ValueError):  # it was sent or answered
                self._waiting.remove(one)
                taken_back += 1
        return gave_up(taken_back=taken_back == len(handed))

    def _hand_in(self, *handed: _Awaited | _Promised) -> None:
        if self._closing:
            raise Unavailable("The ledger is closing; nothing was changed.")
        self._waiting.extend(handed)
        if len(self._waiting) >= self._wanted:
            self._wake_up()
        if self._ended:  # it ended after the first check
            self._refuse_waiting()

    def _wake_up(self) -> None:
        with suppress(RuntimeError):  # it is awake
            self._wake.release()

    def _run(self) -> None:
        group: list[_Awaited | _Promised] = []
        while group := self._next_group(len(group)):
            try:
                verdicts: Sequence[Receipt | Exception] = self._flush([waiting.commit for waiting in group])
            except Exception as error:
                verdicts = [error] * len(group)
            for waiting, verdict in zip(group, verdicts, strict=True):
                waiting.answer(verdict)
            reached(Point.COMMIT_BEFORE_WAKE)
            self._tell(max((one.last_position for one in verdicts if isinstance(one, Receipt)), default=0))
        self._disconnect()
        self._ended = True
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            with suppress(IndexError):  # another thread refused it
                refused = self._waiting.popleft()
                if refused.taken():
                    refused.answer(Unavailable("The ledger is closing; nothing was changed."))

    def _tell(self, last_position: int) -> None:
        if last_position and self._on_commit is not None:
            try:
                self._on_commit(last_position)
            except Exception:  # a failing ping must not end the writer; readers poll as well
                log.exception("The call after a commit failed")

    def _next_group(self, commits_before: int) -> "list[_Awaited | _Promised]":
        """The waiting commits, as soon as there are any; empty at the end."""
        group: list[_Awaited | _Promised] = []
        while not group:
            self._await(1)
            if commits_before <= LINGER_COMMITS_MAX:
                self._await(commits_before, LINGER_S_MAX)
            if not self._waiting and self._closing:
                break
            self._take_into(group)
        return group

    def _take_into(self, group: "list[_Awaited | _Promised]") -> None:
        events = 0
        while self._waiting and len(group) < GROUP_COMMITS_MAX:
            try:
                events += len(self._waiting[0].commit.events)
                if group and events > GROUP_EVENTS_MAX:
                    return
                handed = self._waiting.popleft()
            except IndexError:  # its caller just took it back
                return
            if handed.taken():
                group.append(handed)

    def _await(self, commits: int, seconds: float | None = None) -> None:
        """Sleep until this many commits wait, at most this long, or until closing."""
        until = None if seconds is None else time.monotonic() + seconds
        self._wanted = commits  # set before checking the queue; a writer does it in the opposite order
        while len(self._waiting) < commits and not self._closing:
            left = -1 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                break
            self._wake.acquire(timeout=left)
        self._wanted = NEVER

    def _flush(self, commits: Sequence[Commit]) -> list[Receipt | Conflict]:
        """Send the group until it is answered. Its command ids make sending it again harmless."""
        deadline = time.monotonic() + RETRY_S_MAX
        in_doubt = False
        while True:
            sending = False
            try:
                connection = self._connected()
                sending = True
                return self._send(connection, commits)
            except GONE as error:
                self._disconnect()
                in_doubt = in_doubt or (sending and not _rolled_back(error))
                reason = error.reason() if isinstance(error, NotAdmitted) else why_unavailable(error)
                self._said.waits(reason)
                if time.monotonic() > deadline or self._closing:
                    if in_doubt:
                        raise OutcomeUnknown(
                            f"{reason} It is not known whether the change was made.", reason=reason.reason
                        ) from error
                    raise reason from error
                time.sleep(RETRY_PAUSE_S)

    def _connected(self) -> Connection[TupleRow]:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _send(self, connection: Connection[TupleRow], commits: Sequence[Commit]) -> list[Receipt | Conflict]:
        reached(Point.COMMIT_BEFORE)
        began_s = time.perf_counter()
        try:
            verdicts = append_group(connection, commits)
        except psycopg.Error as error:
            if error.sqlstate != STOPPED:
                raise
            self._disconnect()  # the next connection checks the ledger's epoch again
            raise WritesStopped(error.diag.message_primary) from None
        GROUP_SECONDS.observe(time.perf_counter() - began_s)
        GROUP_COMMITS.observe(len(commits))
        LEDGER_CONFLICTS.inc(sum(isinstance(verdict, Conflict) for verdict in verdicts))
        reached(Point.COMMIT_AFTER)
        self._said.went_on()
        if isinstance(verdicts[-1], Receipt):
            self._last_command = commits[-1].command_id
        return verdicts

    def _connect(self) -> Connection[TupleRow]:
        """A connection to the ledger that this process knows.

        If commits of this process are missing, it is an older one.
        """
        if not self._admitted():
            raise NotAdmitted("The ledger has not been compared with the stream LEDGER of NATS yet")
        connection = connect(self._dsn)
        try:
            row = connection.execute(SQL["incarnation"], {"command_id": self._last_command}).fetchone()
            epoch, is_there = row or (None, True)
            if epoch != self._epoch:
                if self._epoch is not None:
                    for forget in self._on_new_epoch:
                        forget()
                self._epoch, self._last_command = epoch, None
            elif not is_there:
                connection.execute(SQL["stop"], (WENT_BACK,))
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _rolled_back(error: psycopg.Error) -> bool:
    """Whether Postgres reported that the statement failed, and not that it is shutting down."""
    return error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P", "40003"))
