"""A PgBouncer in front of the tests' Postgres, where Debian's package is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.services.commits import eventually

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: apt-get install pgbouncer")

USERS = ("postgres", "darkroom_api", "darkroom_reader", "darkroom_writer", "darkroom_projector")

CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = {ignored}
logfile = {folder}/log
"""


@contextmanager
def pooled(dsn: str, mode: str = "transaction", *, size: int = 3, ignored: str = "") -> Iterator[str]:
    """The DSN of a pooler with so few connections to Postgres that its clients share them."""
    assert PROGRAM is not None
    server = conninfo_to_dict(dsn)
    owner = Path(str(server["host"])).stat().st_uid
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = taken.getsockname()[1]
    users = folder / "users"
    users.write_text("".join(f'"{name}" ""\n' for name in USERS))
    config = folder / "pgbouncer.ini"
    config.write_text(
        CONFIG.format(
            host=server["host"],
            port=server["port"],
            listen=listen,
            users=users,
            mode=mode,
            size=size,
            ignored=ignored,
            folder=folder,
        )
    )
    for path in (folder, users, config):
        os.chown(path, owner, -1)
    parent = Path(str(server["host"])).parent
    mode_before = parent.stat().st_mode & 0o777
    command = [PROGRAM, str(config)]
    if os.geteuid() == 0:  # it refuses to run as root
        command += ["-u", pwd.getpwuid(owner).pw_name]
        if owner and parent.stat().st_uid == 0 and mode_before == 0o700:
            parent.chmod(0o711)  # on the way to the socket, which is that user's
    there = make_conninfo(dsn, host="127.0.0.1", port=listen)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            eventually(lambda: _answers(there))
            yield there
        finally:
            running.terminate()
            running.wait(20)
            if parent.stat().st_mode & 0o777 != mode_before:
                parent.chmod(mode_before)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(dsn: str) -> bool:
    try:
        with socket.create_connection((str(conninfo_to_dict(dsn)["host"]), int(str(conninfo_to_dict(dsn)["port"]))), 1):
            return True
    except OSError:
        return False
