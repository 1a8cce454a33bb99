"""The files that the ledger names, with their hashes."""

from uuid import UUID

import orjson
from psycopg import Connection
from psycopg.rows import TupleRow

from domain.codec import name_of
from projections.sql import load

SQL = load("named.sql", "services.files")


class NamedFiles:
    """Files according to events.

    `reserved`: the expected path of each asset. `there`: paths of files that must exist, with their SHA-256.
    """

    def __init__(self) -> None:
        self.reserved: dict[UUID, str] = {}
        self.there: dict[str, str] = {}
        self._of: dict[UUID, set[str]] = {}

    def take(self, stream_id: UUID, topic: str, state: bytes) -> None:
        """Add the next event, in order."""
        try:
            data = orjson.loads(state)["data"]
            match name_of(topic):
                case "asset.reserved":
                    self.reserved[stream_id] = str(data["path"])
                case "asset.completed":
                    self._add(stream_id, self.reserved[stream_id], str(data["sha256"]))
                case "asset.thumbnailed" | "media.uploaded":
                    self._add(stream_id, str(data["path"]), str(data["sha256"]))
                case "media.deleted" | "asset.purged":
                    for path in self._of.pop(stream_id, set()):
                        self.there.pop(path, None)
        except (KeyError, TypeError, ValueError):
            return  # an unreadable event names no files

    def _add(self, stream_id: UUID, path: str, sha256: str) -> None:
        self.there[path] = sha256
        self._of.setdefault(stream_id, set()).add(path)


def named_files(connection: Connection[TupleRow]) -> NamedFiles:
    """The files that the ledger names now."""
    named = NamedFiles()
    for stream_id, topic, state in connection.execute(SQL["files"], binary=True):
        named.take(stream_id, topic, bytes(state))
    return named
