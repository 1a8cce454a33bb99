"""Files in the object store: a local folder by default; S3, GCS or Azure by URL.

A file never changes once it is written: the first writer of a path wins, so a worker that wakes up late cannot replace
what the ledger already has a hash of.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

CHUNK_BYTES = 256 * 1024
"""How much of a file is read at a time."""


class BlobMissing(Exception):
    """No file under this path."""

    code = "blob_missing"


class BlobStoreUnavailable(Exception):
    """The object store did not answer, or refused."""

    code = "blob_store_unavailable"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in the store. `sha256` is of its content, `bytes` its size."""

    path: str
    sha256: str
    bytes: int


class Blobs:
    """The object store. Synchronous calls for workers, asynchronous reads for the API."""

    def __init__(self, url: str) -> None:
        """`url`: `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`, `memory:///` for tests."""
        self._folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
        self._store: ObjectStore = from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)

    def put_once(self, path: str, content: bytes) -> bool:
        """Write a new file, all or nothing, durable when this returns. False when there is one: it stays as it is."""
        try:
            obstore.put(self._store, path, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not write {path}: {error}") from error
        if self._folder is not None:
            _make_durable(self._folder / path)
        return True

    def get(self, path: str) -> bytes:
        """The whole file. Raises `BlobMissing`."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            raise BlobMissing(f"There is no file at {path} in the object store.") from None
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not read {path}: {error}") from error

    def describe(self, path: str) -> Blob:
        """The file's size and hash, computed from its content. Raises `BlobMissing`."""
        content = self.get(path)
        return Blob(path, hashlib.sha256(content).hexdigest(), len(content))

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens when there is none."""
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not delete {path}: {error}") from error

    async def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes `start` up to, not including, `end`, in chunks. Raises `BlobMissing` before the first chunk."""
        position = start
        while position < end:
            stop = min(position + CHUNK_BYTES, end)
            try:
                chunk = await obstore.get_range_async(self._store, path, start=position, end=stop)
            except FileNotFoundError:
                raise BlobMissing(f"There is no file at {path} in the object store.") from None
            except BaseError as error:
                raise BlobStoreUnavailable(f"The object store could not read {path}: {error}") from error
            yield bytes(chunk)
            position = stop

    async def exists(self, path: str) -> bool:
        """Whether there is a file."""
        try:
            await obstore.head_async(self._store, path)
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not look for {path}: {error}") from error
        return True


def _make_durable(file: Path) -> None:
    """Through to the disk, file and name: the ledger is about to say that it exists, and a crash must not deny it."""
    for target in (file, file.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise BlobStoreUnavailable(f"The object store could not write {file.name} to disk: {error}") from error
        finally:
            os.close(descriptor)
