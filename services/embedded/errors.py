"""The errors of the embedded servers, and their messages."""

import errno
import os
from pathlib import Path

LINES_SHOWN = 8


class EmbeddedError(Exception):
    """The embedded servers cannot do what was requested. The message is for the user.

    EmbeddedError
    ├── DataFolderInUse     another Darkroom uses the data folder
    ├── DataFolderUnusable  it cannot be created, written or entered
    ├── DiskFull            the disk has too little free space
    ├── EmbeddedMissing     the extra `embedded` is not installed
    ├── PostgresFailed      Postgres did not start; the message has its last lines
    └── NatsFailed          nats-server did not start; the message has its last lines
    """

    code = "embedded_failed"


class DataFolderInUse(EmbeddedError):
    """Another Darkroom uses the data folder. Stop it, or choose another folder."""

    code = "data_folder_in_use"


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be created, written or entered."""

    code = "data_folder_unusable"


class DiskFull(EmbeddedError):
    """The disk of the data folder has too little free space. Free some; no data is lost."""

    code = "disk_full"


class EmbeddedMissing(EmbeddedError):
    """The wheels of the extra `embedded` are not installed."""

    code = "embedded_missing"


class PostgresFailed(EmbeddedError):
    """Postgres did not start."""

    code = "postgres_failed"


class NatsFailed(EmbeddedError):
    """nats-server did not start."""

    code = "nats_failed"


def disk_full(folder: Path, free_bytes: int, needed_bytes: int) -> DiskFull:
    free_mb, needed_mb = free_bytes // 1024**2, -(-needed_bytes // 1024**2)
    return DiskFull(
        f"the disk is full: {free_mb} MB are free under {folder}, {needed_mb} MB are needed. Free some space and "
        "start again; nothing that was accepted is lost."
    )


def folder_unusable(folder: Path, error: OSError) -> EmbeddedError:
    """The error for what the operating system reported about the data folder."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return disk_full(folder, 0, 1)
    where = "" if error.filename is None else f" ({error.filename})"
    return DataFolderUnusable(f"cannot use the data folder {folder}: {error.strerror}{where}. {_remedy(error)}")


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EROFS:
            return "Its file system is mounted read-only: mount it for writing, or choose another folder."
        case errno.EEXIST | errno.ENOTDIR:
            return "There is a file where a folder is needed: choose another folder."
        case errno.EACCES | errno.EPERM:
            return f"Give it to the user who runs Darkroom (uid {os.geteuid()}), or choose another."
        case _:
            return "Choose another folder if this one cannot be repaired."


def failure(kind: type[EmbeddedError], what: str, log: Path, tail: str) -> EmbeddedError:
    """The error with the server's last lines; `DiskFull` instead of `kind` if its log reports a full disk."""
    if "no space left on device" in tail.lower():
        return DiskFull(f"the disk is full: {what}, for want of space under {log.parent}. Free some and start again.")
    if not tail:
        return kind(f"{what}, and logged nothing in {log}.")
    last = "\n".join(tail.splitlines()[-LINES_SHOWN:])
    return kind(f"{what}. The last lines of {log}:\n{last}")


def missing(package: str) -> EmbeddedMissing:
    return EmbeddedMissing(
        f"the package {package} is not installed: pip install 'darkroom[embedded]', or give DARKROOM_POSTGRES_DSN "
        "and DARKROOM_NATS_URL of servers that run elsewhere."
    )
