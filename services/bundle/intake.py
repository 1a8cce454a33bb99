"""Imports a bundle completely or not at all; existing streams and files stay unchanged.

The events are appended in one transaction. They go through `ledger_append`, group by group, so positions, commits and
the chain are like those of any other events; but the first event becomes visible only together with the last. If groups
were committed one by one, the running services would find a queued job whose end is still to come, and run it; a crash
in between would leave it to them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from psycopg import Connection
from psycopg.rows import TupleRow

from domain.codec import name_of
from projections.arrays import int8s, uuids
from services.bundle.census import NAMING, Census, NamedFile, Role
from services.bundle.contents import SQL, STREAMS_AT_ONCE
from services.bundle.errors import BundleConflict, BundleDamaged, FileLost
from services.bundle.export import Told
from services.bundle.layout import EMPTY, EventLine, Manifest, chained, checksum
from services.bundle.reading import Bundle, opened
from services.crash_points import Point, reached
from services.database import Database
from services.files.blobs import BlobMissing, Blobs
from services.ledger.commits import GROUP_COMMITS_MAX, Commit, NewEvent, Receipt, append_group

BUNDLES: Final = UUID("8c1f2f5e-6a55-4be3-9d0e-2f3f6a1f7c44")
"""Namespace of the command ids of imported commits."""

GROUP_EVENTS_MAX: Final = 5_000
GROUP_BYTES_MAX: Final = 16 * 1024**2
"""Maximum bytes of events that one query appends or compares, held in memory; a larger commit is a group of its own."""

HELD_IDLE_MS_MAX: Final = 30_000
"""Maximum milliseconds for which an idle transaction holds the ledger's lock: the program hangs, or its connection is
cut."""

HELD_MS_MAX: Final = 900_000
"""Maximum milliseconds for which the ledger's lock is held: appending a million events takes a few minutes."""

Group = list[list[NewEvent]]
"""Commits, each a list of events."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    `appended` is 0 if everything existed already. `position` is the ledger's head afterwards.

    `checksum` is computed from this ledger and this object store; it equals that of the manifest.
    """

    manifest: Manifest
    appended: int
    files_written: int
    checksum: str
    position: int


def take_in(database: Database, blobs: Blobs, file: Path, *, told: Told) -> Imported:
    """Check the bundle, compare it with the ledger, write its files, append its events, and read everything again.

    Safe to repeat, also after a crash. Other writers wait while events are appended. Raises `BundleRefused`,
    `Unavailable` and `BlobStoreUnavailable`; then the ledger is unchanged.
    """
    with opened(file) as bundle:
        census = bundle.examine(told)
        missing = _compare(database, bundle)
        written = _write_files(
            blobs, bundle, [census.files[key] for key in census.files if key in missing.naming], told
        )
        reached(Point.IMPORT_AFTER_FILES)
        appended = _append(database, bundle, missing.events, told) if missing.events else 0
        reached(Point.IMPORT_AFTER_COMMIT)
        for path in sorted(census.deleted):  # all of them: an earlier import that crashed may have left their files
            blobs.delete(path)
        found = _checksum_here(database, blobs, census, told)
        if found != bundle.manifest.checksum:
            raise BundleDamaged(f"What is here now has the checksum {found}, not the bundle's: run `darkroom verify`.")
        with database.connection() as connection:
            row = connection.execute(SQL["head"]).fetchone()
        return Imported(bundle.manifest, appended, written, found, row[0] if row else 0)


@dataclass(slots=True)
class _Missing:
    """What the ledger lacks of a bundle: the number of events, and the files that they name."""

    events: int
    naming: set[tuple[Role, UUID]]


def _compare(database: Database, bundle: Bundle) -> _Missing:
    """Raises `BundleConflict` if a stream of the ledger differs from that of the bundle."""
    missing = _Missing(0, set())
    with database.connection() as connection:
        for group in _groups(bundle.lines()):
            for event in (one for commit in _not_there(connection, group) for one in commit):
                missing.events += 1
                name = name_of(event.topic)
                if name in NAMING:
                    missing.naming.add((NAMING[name], event.stream_id))
    return missing


def _append(database: Database, bundle: Bundle, count: int, told: Told) -> int:
    """Append the missing events in one transaction; returns their number."""
    appended = 0
    with database.transaction() as connection:
        hold_ledger(connection)  # from here on `_not_there` sees the final state of the ledger
        for group in _groups(bundle.lines()):
            lacking = [commit for commit in _not_there(connection, group) if commit]
            if not lacking:
                continue
            commits = [Commit(_command_id(events), events) for events in lacking]
            for commit, verdict in zip(commits, append_group(connection, commits), strict=True):
                if not isinstance(verdict, Receipt) or verdict.repeated:
                    first = commit.events[0]
                    raise BundleConflict(
                        f"Stream {first.stream_id} ends here before version {first.version}: run `darkroom verify`.",
                        stream_id=first.stream_id,
                        version=first.version,
                    )
            appended += sum(map(len, lacking))
            told("events appended", appended, count)
        reached(Point.IMPORT_BEFORE_COMMIT)
    return appended


def hold_ledger(connection: Connection[TupleRow]) -> None:
    """Block all other writers until the transaction ends; its duration is bounded."""
    connection.execute(SQL["lock"], {"idle_ms": str(HELD_IDLE_MS_MAX), "ms": str(HELD_MS_MAX)})


def _not_there(connection: Connection[TupleRow], group: Group) -> Group:
    """The commits without events that the ledger already has. Raises `BundleConflict` if one differs."""
    events = [event for commit in group for event in commit]
    arguments = (uuids([event.stream_id for event in events]), int8s([event.version for event in events]))
    rows = connection.execute(SQL["there"], arguments, prepare=True, binary=True)
    there = {(stream_id, version): (topic, bytes(sha256)) for stream_id, version, topic, sha256 in rows}
    for event in events if there else ():
        found = there.get((event.stream_id, event.version))
        if found is not None and found != (event.topic, hashlib.sha256(event.state).digest()):
            raise BundleConflict(
                f"Version {event.version} of stream {event.stream_id} is {name_of(found[0])} here and another "
                f"{name_of(event.topic)} in the bundle: the two installations went on with it apart. "
                "Nothing was imported.",
                stream_id=event.stream_id,
                version=event.version,
            )
    return [[event for event in commit if (event.stream_id, event.version) not in there] for commit in group]


def _groups(lines: Iterable[EventLine]) -> Iterator[Group]:
    """Whole commits, as many as fit in one group."""
    group: Group = []
    events, size = 0, 0
    for _, commit in groupby(lines, key=lambda line: line.commit):
        together = [line.event for line in commit]
        bytes_together = sum(len(event.state) for event in together)
        is_full = events + len(together) > GROUP_EVENTS_MAX or size + bytes_together > GROUP_BYTES_MAX
        if group and (is_full or len(group) == GROUP_COMMITS_MAX):
            yield group
            group, events, size = [], 0, 0
        group.append(together)
        events += len(together)
        size += bytes_together
    if group:
        yield group


def _command_id(events: Sequence[NewEvent]) -> UUID:
    """The same id for the same events.

    Not the source's id: a second bundle may bring other events of the same commit.
    """
    chain = EMPTY
    for event in events:
        chain = chained(chain + event.stream_id.bytes, event.version, event.topic, event.state)
    return uuid5(BUNDLES, chain.hex())


def _write_files(blobs: Blobs, bundle: Bundle, files: Sequence[NamedFile], told: Told) -> int:
    """Write the missing files; returns their number. Raises `BundleConflict` before it writes the first."""
    to_write = [file for file in files if not _is_there(blobs, file)]
    for number, file in enumerate(to_write, start=1):
        if not blobs.put_once(file.path, bundle.content(file.sha256)) and not _is_there(blobs, file):
            raise FileLost(f"The file of {file} could not be written.")
        told("files written", number, len(to_write))
    return len(to_write)


def _is_there(blobs: Blobs, file: NamedFile) -> bool:
    """Whether the object store has it. No event names it yet, but an interrupted import may have written it."""
    try:
        found = blobs.describe(file.path).sha256
    except BlobMissing:
        return False
    if found != file.sha256:
        raise BundleConflict(
            f"The object store has another file where {file} belongs. No event of this ledger names it: if it is of no "
            "use, move it away. Nothing was imported.",
            path=file.path,
        )
    return True


def _checksum_here(database: Database, blobs: Blobs, census: Census, told: Told) -> str:
    """The bundle's checksum, computed from the ledger and the object store."""
    deleted_since: set[UUID] = set()
    with database.connection() as connection:
        streams = _streams_here(connection, census, deleted_since)  # read completely before the first file
        return checksum(streams, _hashes_here(blobs, census, deleted_since, told))


def _streams_here(
    connection: Connection[TupleRow], census: Census, deleted_since: set[UUID]
) -> Iterator[tuple[UUID, int, bytes]]:
    """The bundle's streams, up to its versions; adds uploads and assets that were deleted later to `deleted_since`."""
    wanted = census.streams()
    for start in range(0, len(wanted), STREAMS_AT_ONCE):
        together = wanted[start : start + STREAMS_AT_ONCE]
        ends: dict[UUID, tuple[int, bytes]] = dict.fromkeys(together, (0, EMPTY))
        for stream_id, version, topic, state in connection.execute(SQL["by_stream"], (together,), binary=True):
            if version <= census.version_of(stream_id):
                ends[stream_id] = (version, chained(ends[stream_id][1], version, topic, bytes(state)))
            elif name_of(topic) in {"media.deleted", "asset.purged"}:
                deleted_since.add(stream_id)
        yield from ((stream_id, *ends[stream_id]) for stream_id in together)


def _hashes_here(blobs: Blobs, census: Census, deleted_since: set[UUID], told: Told) -> Iterator[str]:
    for number, file in enumerate(census.files.values(), start=1):
        if file.stream_id in deleted_since:
            yield file.sha256  # deleted here by its owner
            continue
        try:
            yield blobs.describe(file.path).sha256
        except BlobMissing:
            raise FileLost(f"The file of {file} is missing from the object store here.") from None
        told("files read again", number, len(census.files))
