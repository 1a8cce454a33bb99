"""Named points in the code at which a test kills the process; nothing else does.

The tested code must be the code that runs: a test cannot stop a process between two lines from outside, and a modified
copy of a service would prove nothing about the original. So the points are in the services themselves. They do nothing,
at the cost of one comparison, unless the environment variable DARKROOM_CRASH_AT names one when the program starts; no
client or worker can set it. It is not a setting: a user who can set it can kill the process anyway.

docs/reliability.md lists the points at which each service was killed, and what was checked afterwards.
"""

import os
import signal
from enum import StrEnum, unique
from typing import Final, Self

VARIABLE: Final = "DARKROOM_CRASH_AT"
"""Environment variable: `recorder.before_answer`, or with `:3` the third time that the process reaches it."""


@unique
class Point(StrEnum):
    """Every crash point. Each occurs in the code once; `meaning` describes the state when a process dies there."""

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        """Allows a lookup by name alone: `Point("relay.after_publish")`."""
        point = str.__new__(cls, name)
        point._value_ = name
        point.meaning = meaning
        return point

    COMMIT_BEFORE = ("commit.before", "A group commit is decided but not sent.")
    COMMIT_AFTER = ("commit.after", "The commit is in the ledger; no writer has an answer.")
    COMMIT_BEFORE_WAKE = (
        "commit.before_wake",
        "The writers have their answers; the followers of the ledger are not woken.",
    )

    UPLOAD_AFTER_FILE = ("upload.after_file", "The file is in the object store; no event names it.")
    UPLOAD_AFTER_DELETION = (
        "upload.after_deletion",
        "The ledger says that the upload is deleted; its file is still there.",
    )

    PURGE_AFTER_EVENT = ("purge.after_event", "The ledger says that an asset is purged; its file is still there.")

    RELAY_BETWEEN_EVENTS = ("relay.between_events", "Some events of a batch are sent.")
    RELAY_AFTER_PUBLISH = ("relay.after_publish", "The stream has the batch; the relay has not read its new end.")
    RELAY_AFTER_DELETE = ("relay.after_delete", "The damaged stream is deleted but not filled again.")

    DISPATCHER_AFTER_STREAM = ("dispatcher.after_stream", "WORK is created; its consumers are not.")
    DISPATCHER_BEFORE_HAND_OUT = ("dispatcher.before_hand_out", "An order is made but not published.")
    DISPATCHER_AFTER_HAND_OUT = (
        "dispatcher.after_hand_out",
        "Orders are published; the dispatcher has not noted them.",
    )

    RECORDER_BEFORE_LEASE = ("recorder.before_lease", "The ledger has the report; the lease is unchanged.")
    RECORDER_BEFORE_ANSWER = ("recorder.before_answer", "Ledger and lease are written; the worker has no answer.")

    PROJECTOR_BEFORE_CHECKPOINT = (
        "projector.before_checkpoint",
        "The rows of a batch are written to every view; the checkpoint is not.",
    )
    PROJECTOR_BEFORE_COMMIT = ("projector.before_commit", "The checkpoint is written too; the transaction is open.")
    PROJECTOR_AFTER_COMMIT = ("projector.after_commit", "The views are updated; their readers are not notified.")

    REBUILD_AFTER_TABLES = ("rebuild.after_tables", "The new tables exist and are empty.")
    REBUILD_AFTER_BATCH = ("rebuild.after_batch", "A batch is folded into the new tables.")
    REBUILD_IN_SWAP = ("rebuild.in_swap", "The old table has left the live schema; the new one is not in it yet.")
    REBUILD_AFTER_SWAP = ("rebuild.after_swap", "The new tables are live; the lock of the rebuild is held.")

    REAPER_AFTER_REQUEUE = ("reaper.after_requeue", "One job that lost its worker is requeued; the next one is not.")

    SWEEPER_BEFORE_DELETE = ("sweeper.before_delete", "A file that is no longer needed is found.")
    SWEEPER_BEFORE_CHECKPOINT = (
        "sweeper.before_checkpoint",
        "The files of a range of the ledger are deleted; the checkpoint is not advanced.",
    )

    THUMBNAILS_AFTER_CLAIM = ("thumbnails.after_claim", "A try is counted; nothing is made.")
    THUMBNAILS_AFTER_FILE = ("thumbnails.after_file", "The thumbnail is in the object store; no event names it.")

    WORKER_BEFORE_START = ("worker.before_start", "An order is pulled; the ledger does not have the start.")
    WORKER_AFTER_START = ("worker.after_start", "The ledger has the start; no step is done.")
    WORKER_AFTER_STEP = ("worker.after_step", "In the middle of the steps.")
    WORKER_BEFORE_HAND_OVER = (
        "worker.before_hand_over",
        "A provider has accepted the order of an output; the ledger does not have its id.",
    )
    WORKER_AFTER_HAND_OVER = (
        "worker.after_hand_over",
        "A provider works on an output and the ledger has its id; the worker has not polled it yet.",
    )
    WORKER_AFTER_FILE = ("worker.after_file", "A file is in the object store; it is not reported.")
    WORKER_AFTER_REPORT = (
        "worker.after_report",
        "The ledger has an asset; the next one is not reported, the order is not acked.",
    )
    WORKER_BEFORE_DELETE = ("worker.before_delete", "The ledger said that a file is not needed; it is still there.")
    WORKER_BEFORE_ACK = ("worker.before_ack", "The ledger has the end of the attempt; the order is not acked.")
    WORKER_AFTER_ACK = ("worker.after_ack", "The order is acked; the next one is not pulled.")

    MIGRATE_BETWEEN_FILES = ("migrate.between_files", "One file is applied; the next one is not.")
    MIGRATE_BEFORE_COMMIT = ("migrate.before_commit", "All files are applied; the transaction is open.")

    RESTORED_AFTER_FILE = ("restored.after_file", "The lost events are in a file; the ledger is unchanged.")
    RESTORED_BEFORE_COMMIT = ("restored.before_commit", "The lost events are appended again; the transaction is open.")
    RESTORED_AFTER_COMMIT = (
        "restored.after_commit",
        "The ledger is in a new epoch; LEDGER holds the events of the previous one.",
    )

    IMPORT_AFTER_FILES = ("import.after_files", "The files of a bundle are in the object store; no event is appended.")
    IMPORT_BEFORE_COMMIT = ("import.before_commit", "All events of the bundle are appended; the transaction is open.")
    IMPORT_AFTER_COMMIT = (
        "import.after_commit",
        "The events are in the ledger; files of uploads that the bundle deletes are still there.",
    )


class _Armed:
    """The crash point from the environment."""

    def __init__(self, text: str) -> None:
        name, _, times = text.partition(":")
        # An unknown name ends the program: a test that kills nothing would prove nothing.
        self.point = Point(name) if name else None
        self.times_left = int(times or "1")


_armed: Final = _Armed(os.environ.get(VARIABLE, ""))


def reached(point: Point) -> None:
    """Die here by SIGKILL if armed: no handler runs, no buffer is flushed, nothing is closed."""
    if point is _armed.point:
        _armed.times_left -= 1
        if _armed.times_left == 0:
            os.write(2, f"killed at {point}\n".encode())  # so that the log shows the cause
            os.kill(os.getpid(), signal.SIGKILL)
