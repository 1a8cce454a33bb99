"""Identity of a model: a hash of all loaded files, and a cache of the hashes of large files.

A model of 7 GB is hashed once, in parallel with loading it. Later its files are identified by their file system
metadata, so that a restarted worker reads nothing twice.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

LOG = logging.getLogger("darkroom.worker")

LOADED: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""File extensions of a model: weights, configuration, vocabularies, the template of a chat."""

VERSION: Final = b"darkroom model 2\0"
"""Prefix of all hashed content. The first version left out the middle of large files."""

KEPT_BYTES_MIN: Final = 1 << 20
"""Minimum bytes of a file in the cache; hashing a smaller one takes as long as the lookup."""

SETTLED_NS: Final = 2_000_000_000
"""Nanoseconds after a change during which a file may change again within one tick of the file system's clock."""

THREADS_MAX: Final = 4
"""Maximum number of parallel hashes; disks and memory do not support more."""

T = TypeVar("T")


class KnownHashes:
    """Hashes of files by path, size, times and inode; stored in a folder, or only in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, str | int]] = {}

    def keep_in(self, folder: Path) -> None:
        """Store the hashes in a folder from now on, beyond the life of the process."""
        self._folder = folder

    def of(self, file: Path) -> str:
        """The SHA-256 of a file's content. Raises OSError."""
        file = file.resolve()
        seen = _seen(file)
        if seen["size"] < KEPT_BYTES_MIN:
            return _sha256(file)
        known = self._known.get(str(file)) or self._read(file)
        if known is not None and {name: known.get(name) for name in seen} == seen:
            return str(known["sha256"])
        sha256 = _sha256(file)
        settled = time.time_ns() - max(seen["mtime_ns"], seen["ctime_ns"]) > SETTLED_NS
        if settled and _seen(file) == seen:
            self._keep(file, {**seen, "sha256": sha256})
        return sha256

    def _place(self, file: Path) -> Path | None:
        name = hashlib.sha256(os.fsencode(file)).hexdigest()
        return None if self._folder is None else self._folder / f"{name}.json"

    def _read(self, file: Path) -> dict[str, str | int] | None:
        place = self._place(file)
        try:
            known = None if place is None else json.loads(place.read_bytes())
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and isinstance(known.get("sha256"), str) else None

    def _keep(self, file: Path, known: dict[str, str | int]) -> None:
        self._known[str(file)] = known
        place = self._place(file)
        if place is None:
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            half = place.with_suffix(f".{os.getpid()}.part")
            half.write_text(json.dumps(known))
            half.replace(place)
        except OSError as error:
            LOG.warning("the hash of %s is not kept, and computed again next time: %s", file, error)


KNOWN: Final = KnownHashes()
"""The hashes of this process."""


def fingerprint(model: Path, known: KnownHashes = KNOWN) -> str:
    """64 hex digits for everything that is loaded from a folder or file: every name and every byte of content.

    Raises OSError for a file that cannot be read.
    """
    files = [model] if model.is_file() else sorted(file for file in model.rglob("*") if file.is_file())
    loaded = [file for file in files if file == model or file.suffix in LOADED]
    digest = hashlib.sha256(VERSION)
    for file, sha256 in zip(loaded, _each(loaded, known), strict=True):
        name = file.name if file == model else file.relative_to(model).as_posix()
        digest.update(f"{name}\0{sha256}\n".encode())
    return digest.hexdigest()


def loaded_and_identified(model: Path, load: Callable[[], T]) -> tuple[T, str]:
    """Load a model and hash it in parallel. Raises exceptions of `load`, and OSError."""
    with ThreadPoolExecutor(1, thread_name_prefix="identify") as beside:
        identity = beside.submit(fingerprint, model)
        return load(), identity.result()


def _each(files: Sequence[Path], known: KnownHashes) -> list[str]:
    with ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), thread_name_prefix="hash") as hashing:
        return list(hashing.map(known.of, files))


def _seen(file: Path) -> dict[str, int]:
    """Metadata that changes with a file, including its change time, which users cannot set."""
    stat = file.stat()
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
        "device": stat.st_dev,
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
