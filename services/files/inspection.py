"""Compares the files of the object store with the ledger: each is read, and must have the hash that its event has."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.database import Database
from services.files.blobs import BlobMissing, Blobs
from services.files.named import named_files


@dataclass(frozen=True, slots=True)
class InspectedFiles:
    """Number and size of the files that the ledger names and that are intact, and the paths of the others."""

    intact: int
    bytes: int
    missing: Sequence[str]
    damaged: Sequence[str]


def inspect_files(database: Database, blobs: Blobs) -> InspectedFiles:
    """Read every file that the ledger names. Raises `Unavailable` and `BlobStoreUnavailable`."""
    with database.connection() as connection:
        named = named_files(connection).there
    intact, size = 0, 0
    missing, damaged = [], []
    for path, sha256 in sorted(named.items()):
        try:
            blob = blobs.describe(path)
        except BlobMissing:
            missing.append(path)
            continue
        if blob.sha256 == sha256:
            intact, size = intact + 1, size + blob.bytes
        else:
            damaged.append(path)
    if missing or damaged:  # unless its owner deleted it meanwhile
        with database.connection() as connection:
            still = named_files(connection).there
        missing, damaged = ([path for path in some if path in still] for some in (missing, damaged))
    return InspectedFiles(intact, size, missing, damaged)
