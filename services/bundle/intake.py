"""Takes a bundle in: all of it or nothing, and what is here already stays as it is.

The events land in one transaction. They go through `ledger_append`, group by group, so that positions, commits and the
chain are as those of any other events; but nobody sees the first one before the last one is there. Were they to land
one group after the other, the services that run meanwhile would find a job queued whose ending is still to come, and
run it; and a crash in between would leave it to them.
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
from services.blobs import BlobMissing, Blobs
from services.bundle.census import NAMING, Census, NamedFile, Role
from services.bundle.contents import SQL, STREAMS_AT_ONCE
from services.bundle.errors import BundleConflict, BundleDamaged, FileLost
from services.bundle.export import Told
from services.bundle.layout import EMPTY, Line, Manifest, chained, checksum
from services.bundle.reading import Bundle, opened
from services.crash_points import Point, reached
from services.database import Database
from services.flusher import GROUP_COMMITS_MAX, Commit, NewEvent, Receipt, append_group

BUNDLES: Final = UUID("8c1f2f5e-6a55-4be3-9d0e-2f3f6a1f7c44")
"""Namespace of the command ids of imported commits."""

GROUP_EVENTS_MAX: Final = 5_000
GROUP_BYTES_MAX: Final = 16 * 1024**2
"""Appended or compared by one query, and in memory meanwhile; a larger commit travels alone."""

HELD_IDLE_MS_MAX: Final = 30_000
"""The ledger is held for so long, at most, while this program says nothing: it was stopped, or its line is cut."""

HELD_MS_MAX: Final = 900_000
"""And for so long in all: a million events land in a few minutes."""

Group = list[list[NewEvent]]
"""Commits, each with its events."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. Nothing appended: everything was here already. `position` is the head of the ledger then.

    `checksum` is computed from this ledger and this object store; it is that of the manifest.
    """

    manifest: Manifest
    appended: int
    files_written: int
    checksum: str
    position: int


def take_in(database: Database, blobs: Blobs, file: Path, *, told: Told) -> Imported:
    """Check the bundle, compare it with what is here, write its files, append its events, and read all of it again.

    Safe to repeat, also after a crash. While the events land, other writers wait. Raises `BundleRefused`,
    `Unavailable` and `BlobStoreUnavailable`; then the ledger is as it was.
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
        for path in sorted(census.deleted):  # all of them: an import that died before this left files of theirs
            blobs.delete(path)
        found = _checksum_here(database, blobs, census, told)
        if found != bundle.manifest.checksum:
            raise BundleDamaged(f"What is here now has the checksum {found}, not the bundle's: run `darkroom verify`.")
        with database.connection() as connection:
            row = connection.execute(SQL["head"]).fetchone()
        return Imported(bundle.manifest, appended, written, found, row[0] if row else 0)


@dataclass(slots=True)
class _Missing:
    """What of a bundle the ledger does not have: how many events, and the files that they name."""

    events: int
    naming: set[tuple[Role, UUID]]


def _compare(database: Database, bundle: Bundle) -> _Missing:
    """Raises `BundleConflict` where a stream of the ledger goes on otherwise than that of the bundle."""
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
    """Append what is missing, in one transaction; how many events."""
    appended = 0
    with database.transaction() as connection:
        hold_ledger(connection)  # from here on the ledger is what `_not_there` sees
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
    """Let nobody else write until the transaction ends, which has a bound."""
    connection.execute(SQL["lock"], {"idle_ms": str(HELD_IDLE_MS_MAX), "ms": str(HELD_MS_MAX)})


def _not_there(connection: Connection[TupleRow], group: Group) -> Group:
    """The commits without the events that the ledger has already. Raises `BundleConflict` for one that differs."""
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


def _groups(lines: Iterable[Line]) -> Iterator[Group]:
    """Whole commits, as many as go together."""
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
    """The same for the same events. Not that of their source: of one commit a second bundle may bring other events."""
    chain = EMPTY
    for event in events:
        chain = chained(chain + event.stream_id.bytes, event.version, event.topic, event.state)
    return uuid5(BUNDLES, chain.hex())


def _write_files(blobs: Blobs, bundle: Bundle, files: Sequence[NamedFile], told: Told) -> int:
    """Write those that are not there; how many. Raises `BundleConflict` before the first is written."""
    to_write = [file for file in files if not _is_there(blobs, file)]
    for number, file in enumerate(to_write, start=1):
        if not blobs.put_once(file.path, bundle.content(file.sha256)) and not _is_there(blobs, file):
            raise FileLost(f"The file of {file} could not be written.")
        told("files written", number, len(to_write))
    return len(to_write)


def _is_there(blobs: Blobs, file: NamedFile) -> bool:
    """Whether the object store has it: no event names it yet, but an import that ended early has written it."""
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
    """The bundle's checksum, from what the ledger and the object store hold now."""
    deleted_since: set[UUID] = set()
    with database.connection() as connection:
        streams = _streams_here(connection, census, deleted_since)  # read to their end before the first file
        return checksum(streams, _hashes_here(blobs, census, deleted_since, told))


def _streams_here(
    connection: Connection[TupleRow], census: Census, deleted_since: set[UUID]
) -> Iterator[tuple[UUID, int, bytes]]:
    """The bundle's streams as far as it has them; `deleted_since` gets uploads and assets that were deleted later."""
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
            yield file.sha256  # as its owner wanted here
            continue
        try:
            yield blobs.describe(file.path).sha256
        except BlobMissing:
            raise FileLost(f"The file of {file} is missing from the object store here.") from None
        told("files read again", number, len(census.files))
