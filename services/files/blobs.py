"""Files in the object store: a local folder by default; S3, GCS or Azure by URL.

A file never changes once it is written: the first writer of a path wins, so a late worker cannot replace a file with a
recorded hash. In a local folder a file is written under a temporary name and renamed once it is on disk: a process that
is killed leaves no partial file, and its temporary file is swept.
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

CHUNK_BYTES = 256 * 1024
"""Bytes of a file that are read at a time."""

UNFINISHED: Final = ".unfinished"
"""Folder for temporary files of a local store."""

PROBES: Final = ".probes"
"""Folder for test files that check whether the store accepts writes."""


class BlobMissing(Exception):
    """There is no file under this path."""

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
        """`url`: `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`, `memory:///` for tests.

        Raises `BlobStoreUnavailable` if the URL is invalid or the folder cannot be created.
        """
        self._folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
        try:
            self._store: ObjectStore = from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)
        except (BaseError, OSError, ValueError) as error:
            what, *_ = str(error).splitlines()
            raise BlobStoreUnavailable(f"The object store cannot be opened: {what}. See DARKROOM_BLOBS_URL.") from error

    def put_once(self, path: str, content: bytes) -> bool:
        """Write a new file, atomically and durably. False if the file exists; it is not changed."""
        try:
            if self._folder is not None:
                return _put_once(str(self._folder), path, content)
            obstore.put(self._store, path, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise BlobStoreUnavailable(f"The object store could not write {path}: {error}") from error
        return True

    def remove_unfinished(self, older_than_s: float) -> None:
        """Delete temporary files of dead writers in a local folder. Other stores have none."""
        if self._folder is None or not (unfinished := self._folder / UNFINISHED).is_dir():
            return
        until = time.time() - older_than_s
        for file in unfinished.iterdir():
            with suppress(FileNotFoundError):  # just finished
                if file.stat().st_mtime <= until:
                    file.unlink()

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

    def require_usable(self) -> None:
        """Raises `BlobStoreUnavailable` unless a file can be written and deleted now."""
        path = f"{PROBES}/{uuid4().hex}"
        self.put_once(path, b"")
        self.delete(path)

    def paths(self) -> Iterator[str]:
        """The paths of all files, in no order, without temporary files."""
        try:
            for found in obstore.list(self._store):
                yield from (str(one["path"]) for one in found if not str(one["path"]).startswith(f"{UNFINISHED}/"))
        except (BaseError, OSError) as error:
            raise BlobStoreUnavailable(f"The object store could not be listed: {error}") from error

    def delete(self, path: str) -> None:
        """Delete a file; does nothing if there is none."""
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not delete {path}: {error}") from error

    async def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes `start` up to, not including, `end`, in chunks; fewer if the file is shorter.

        Raises `BlobMissing` before the first chunk.
        """
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
            if len(chunk) < stop - position:  # the file was cut off
                return
            position = stop

    async def exists(self, path: str) -> bool:
        """Whether the file exists."""
        try:
            await obstore.head_async(self._store, path)
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise BlobStoreUnavailable(f"The object store could not look for {path}: {error}") from error
        return True


def _put_once(folder: str, path: str, content: bytes) -> bool:
    """Write to disk, then rename: a crash at any moment leaves the whole file or no file.

    Paths are strings here: with pathlib a small file takes twice as long on a fast disk.
    """
    if ".." in path.split("/"):
        raise ValueError(f"{path} leads out of the object store.")
    target = os.path.join(folder, path)
    if os.path.exists(target):
        return False
    unfinished = os.path.join(folder, UNFINISHED, uuid4().hex)
    for parent in (os.path.dirname(unfinished), os.path.dirname(target)):
        if not os.path.isdir(parent):  # a check is much cheaper than a failing attempt
            os.makedirs(parent, exist_ok=True)
    try:
        with open(unfinished, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, target)
    except FileExistsError:  # another writer was faster
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
    _sync_names(os.path.dirname(target))
    return True


def _sync_names(folder: str) -> None:
    """Sync the folder: the ledger is about to record the file, which must survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
