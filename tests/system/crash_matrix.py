"""What is killed where, and while what goes on: the rows of the table in docs/reliability.md."""

from dataclasses import dataclass
from typing import Final

from services.crash_points import Point
from tests.system.crash_acts import (
    BATCH,
    CANCEL,
    DEADLINE,
    DELETION,
    HOSTED,
    IMPORT,
    LATE_CANCEL,
    LEFT_FILE,
    LOST_MESSAGE,
    LOST_WORK,
    LOST_WORKERS,
    MIGRATION,
    OLDER_BACKUP,
    OUTDATED,
    PURGE,
    REBUILD,
    SUBMIT,
    THREE,
    THUMBNAIL,
    TWO_JOBS,
    UPLOAD,
    WORK,
    Act,
    each_is_asked_for,
    one_is_paid_twice,
    order,
)


@dataclass(frozen=True)
class Cell:
    """A service, a point of it, and what goes on when it dies there."""

    service: str
    at: Point
    act: Act

    def __str__(self) -> str:
        return f"{self.service}-{self.at}-{self.act.words.replace(' ', '_')}"


COMMITS: Final = (Point.COMMIT_BEFORE, Point.COMMIT_AFTER, Point.COMMIT_BEFORE_WAKE)

SERVICE_CELLS: Final = (
    *(Cell("api", point, SUBMIT) for point in COMMITS),
    Cell("api", Point.COMMIT_BEFORE, BATCH),
    Cell("api", Point.COMMIT_AFTER, BATCH),
    Cell("api", Point.COMMIT_AFTER, CANCEL),
    Cell("api", Point.UPLOAD_AFTER_FILE, UPLOAD),
    Cell("api", Point.UPLOAD_AFTER_DELETION, DELETION),
    Cell("api", Point.PURGE_AFTER_EVENT, PURGE),
    Cell("relay", Point.RELAY_BETWEEN_EVENTS, THREE),
    Cell("relay", Point.RELAY_AFTER_PUBLISH, THREE),
    Cell("relay", Point.RELAY_AFTER_DELETE, LOST_MESSAGE),
    Cell("dispatcher", Point.DISPATCHER_BEFORE_HAND_OUT, TWO_JOBS),
    Cell("dispatcher", Point.DISPATCHER_AFTER_HAND_OUT, TWO_JOBS),
    Cell("dispatcher", Point.DISPATCHER_AFTER_STREAM, LOST_WORK),
    *(Cell("recorder", point, WORK) for point in (*COMMITS, Point.RECORDER_BEFORE_LEASE, Point.RECORDER_BEFORE_ANSWER)),
    Cell("projector", Point.PROJECTOR_BEFORE_CHECKPOINT, SUBMIT),
    Cell("projector", Point.PROJECTOR_BEFORE_COMMIT, SUBMIT),
    Cell("projector", Point.PROJECTOR_AFTER_COMMIT, SUBMIT),
    Cell("projector", Point.REBUILD_IN_SWAP, OUTDATED),
    *(Cell("reaper", point, DEADLINE) for point in COMMITS),
    Cell("reaper", Point.REAPER_AFTER_REQUEUE, LOST_WORKERS),
    Cell("reaper", Point.SWEEPER_BEFORE_DELETE, LEFT_FILE),
    Cell("reaper", Point.SWEEPER_BEFORE_CHECKPOINT, LEFT_FILE),
    *(
        Cell("thumbnails", point, THUMBNAIL)
        for point in (Point.THUMBNAILS_AFTER_CLAIM, Point.THUMBNAILS_AFTER_FILE, *COMMITS)
    ),
    *(
        Cell("worker", point, WORK)
        for point in (
            Point.WORKER_BEFORE_START,
            Point.WORKER_AFTER_START,
            Point.WORKER_AFTER_STEP,
            Point.WORKER_AFTER_FILE,
            Point.WORKER_AFTER_REPORT,
            Point.WORKER_BEFORE_ACK,
            Point.WORKER_AFTER_ACK,
        )
    ),
    *(Cell("worker", Point.WORKER_BEFORE_HAND_OVER, order(provider, one_is_paid_twice)) for provider in HOSTED),
    *(Cell("worker", Point.WORKER_AFTER_HAND_OVER, order(provider, each_is_asked_for)) for provider in HOSTED),
    Cell("worker", Point.WORKER_BEFORE_DELETE, LATE_CANCEL),
)
"""Services that are killed, started again, and left alone until all is at rest."""

REBUILD_POINTS: Final = (
    Point.REBUILD_AFTER_TABLES,
    Point.REBUILD_AFTER_BATCH,
    Point.REBUILD_IN_SWAP,
    Point.REBUILD_AFTER_SWAP,
)
MIGRATION_POINTS: Final = (Point.MIGRATE_BETWEEN_FILES, Point.MIGRATE_BEFORE_COMMIT)
RESTORED_POINTS: Final = (Point.RESTORED_AFTER_FILE, Point.RESTORED_BEFORE_COMMIT, Point.RESTORED_AFTER_COMMIT)
IMPORT_POINTS: Final = (Point.IMPORT_AFTER_FILES, Point.IMPORT_BEFORE_COMMIT, Point.IMPORT_AFTER_COMMIT)

COMMAND_CELLS: Final = (
    *(Cell("darkroom rebuild", point, REBUILD) for point in REBUILD_POINTS),
    *(Cell("darkroom migrate", point, MIGRATION) for point in MIGRATION_POINTS),
    *(Cell("darkroom import", point, IMPORT) for point in IMPORT_POINTS),
    *(Cell("darkroom restored", point, OLDER_BACKUP) for point in RESTORED_POINTS),
)
"""Commands that are killed, and given once more."""

CELLS: Final = (*SERVICE_CELLS, *COMMAND_CELLS)


def table() -> list[str]:
    """The rows of docs/reliability.md."""
    head = ["| killed | at | which is when | while |", "|---|---|---|---|"]
    return head + [
        f"| `{cell.service}` | `{cell.at}` | {cell.at.meaning.rstrip('.')} | {cell.act.words} |" for cell in CELLS
    ]
