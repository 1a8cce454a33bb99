"""Durable appends: `insert_events` of Darkroom's recorder and of the library's, with the same events and threads."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.contest import Contest, Row, Target
from benchmarks.recorders import library_recorder, our_recorder, reserved_events, saved_events
from benchmarks.stage import Stage, rate

PEER = "eventsourcing recorder"


def appends(
    writers: int, events: int = 1, *, slow_disk: bool = False
) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """`writers` threads, each appending commits of `events` events one after the other."""
    made = reserved_events if events == 1 else saved_events

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        with (
            stage.database(migrated=True, slow_disk=slow_disk) as our_dsn,
            stage.database(migrated=False, slow_disk=slow_disk) as peer_dsn,
            our_recorder(our_dsn) as ours,
            library_recorder(peer_dsn, writers) as library,
        ):

            def append_ours() -> int:
                return len(ours.insert_events(made(events)) or ())

            def append_peers() -> int:
                return len(library.insert_events(made(events)) or ())

            yield Contest(
                ours=lambda: rate(writers, stage.seconds, append_ours),
                peer=lambda: rate(writers, stage.seconds, append_peers),
            )

    return prepare


@contextmanager
def huge_commits(stage: Stage) -> Iterator[Contest]:
    """10,000 events a commit; the library hangs on as many, so there is nothing to divide by."""
    with stage.database(migrated=True) as dsn, our_recorder(dsn) as ours:

        def append() -> int:
            return len(ours.insert_events(saved_events(10_000)) or ())

        yield Contest(ours=lambda: rate(1, stage.seconds, append), peer=None)


ROWS = [
    Row("append-1", "commits/s, 1 writer", PEER, Target("ratio", "≥", 1.5), appends(1)),
    Row("append-8", "commits/s, 8 writers", PEER, Target("ratio", "≥", 3), appends(8)),
    Row("append-40", "commits/s, 40 writers", PEER, Target("ratio", "≥", 10), appends(40)),
    Row(
        "append-slow-disk",
        "commits/s, 40 writers, commits 2 ms slower",
        PEER,
        Target("ratio", "≥", 10),
        appends(40, slow_disk=True),
    ),
    Row("append-1000", "events/s, 1,000 a commit", PEER, Target("ratio", "≥", 1), appends(1, 1_000)),
    Row("append-10000", "events/s, 10,000 a commit", f"{PEER} (hangs)", Target("ratio", "≥", 1), huge_commits),
]
