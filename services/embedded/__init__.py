"""Postgres and NATS as supervised child processes of one program, with their data in one folder.

data_dir/lock           held by the one Darkroom that uses the folder; contains its pid
data_dir/postgres       the cluster; postgres.log is next to it
data_dir/nats           JetStream's files; nats.conf (port, passwords) and nats.log are next to it
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from services.embedded.errors import (
    DataFolderInUse,
    DataFolderUnusable,
    DiskFull,
    EmbeddedError,
    EmbeddedMissing,
    NatsFailed,
    PostgresFailed,
    disk_full,
    folder_unusable,
)
from services.embedded.nats import Nats
from services.embedded.postgres import Postgres

__all__ = [
    "DataFolderInUse",
    "DataFolderUnusable",
    "DiskFull",
    "EmbeddedError",
    "EmbeddedMissing",
    "EmbeddedServers",
    "NatsFailed",
    "PostgresFailed",
]

READY_S_MAX = 120.0  # recovery after a crash replays up to 1 GB of write-ahead log
READY_POLL_S = 0.02
CRASH_POLL_S = 0.25
ANSWER_POLL_S = 5.0
SILENT_S_MAX = 60.0  # a running server that has not answered for this long is restarted
BACKOFF_S_MAX = 30.0
SETTLED_S = 60.0  # a server that ran this long has recovered: its next crash counts as the first

log = logging.getLogger(__name__)


@dataclass
class _Supervised:
    """One server and its health. Times are of the monotonic clock, in seconds."""

    server: Postgres | Nats
    started_at: float = field(default_factory=time.monotonic)
    answered_at: float = field(default_factory=time.monotonic)
    asked_at: float = field(default_factory=time.monotonic)
    retry_at: float | None = None  # None: it is running, as far as we know
    crashes: int = 0


class EmbeddedServers:
    """Postgres and NATS as child processes, with their data in one folder. Thread-safe.

    The servers end when the object is deleted: keep a reference.
    """

    def __init__(self, data_dir: Path, *, free_bytes_min: int = 256 * 1024**2) -> None:
        self._folder = Path(data_dir).expanduser().absolute()
        self._free_bytes_min = free_bytes_min
        self._lock_fd: int | None = None
        self._supervised: list[_Supervised] = []
        self._spawner: ThreadPoolExecutor | None = None
        self._guard = threading.RLock()
        self._closing = threading.Event()
        self._postgres_dsn = self._nats_url = self._services_nats_url = self._worker_nats_url = ""

    @property
    def postgres_dsn(self) -> str:
        """A URL for libpq, on a unix socket. The same after every restart of the server. Valid after `start`."""
        return self._after_start(self._postgres_dsn)

    @property
    def nats_url(self) -> str:
        """The URL of the operator, who has all rights. It contains the password: do not log it. Valid after `start`.

        The same after every restart of the server, like the next two.
        """
        return self._after_start(self._nats_url)

    @property
    def services_nats_url(self) -> str:
        """The URL that the services connect with: see services/messaging/accounts.py."""
        return self._after_start(self._services_nats_url)

    @property
    def worker_nats_url(self) -> str:
        """The URL that a worker connects with: it may pull orders, report, and receive its own messages."""
        return self._after_start(self._worker_nats_url)

    def start(self) -> None:
        """Lock the folder, start both servers, wait until both accept clients.

        Raises an EmbeddedError; then nothing runs and the lock is released. Does nothing if the servers are already
        started.
        """
        with self._guard:
            if self._supervised:
                return
            try:
                with self._words_for_os_errors():
                    self._start()
            except BaseException:  # including Ctrl-C
                self._down()
                raise

    def watch(self, stop: threading.Event) -> None:
        """Restart a server that crashed or stopped answering, on the same address, until `stop` is set.

        Retries without end, with pauses of up to 30 s, and logs each failure.
        """
        while not stop.wait(CRASH_POLL_S):
            with self._guard:
                for supervised in self._supervised:
                    self._look_after(supervised)

    def stop(self) -> None:
        """Stop both servers in order and unlock the folder. Safe to repeat, and after a failed start."""
        self._closing.set()  # a start in another thread gives up
        with self._guard:
            try:
                self._down()
            finally:
                self._closing.clear()

    def __enter__(self) -> "EmbeddedServers":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _after_start(self, address: str) -> str:
        if not address:
            raise EmbeddedError("the embedded servers are not started.")
        return address

    def _start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = self._folder.resolve()
        self._take_lock()
        self._check_disk()
        postgres, nats = Postgres(self._folder), Nats(self._folder)
        # Linux treats the end of the thread that started a child as the death of its parent, which ends the child: this
        # one thread starts all children and lives until `stop`.
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-servers")
        for server in (postgres, nats):
            server.prepare()
            self._supervised.append(_Supervised(server))
            self._spawner.submit(server.child.spawn).result()
        for server in (postgres, nats):
            self._await_ready(server)
        self._postgres_dsn, self._nats_url = postgres.dsn, nats.url
        self._services_nats_url, self._worker_nats_url = nats.services_url, nats.worker_url

    def _await_ready(self, server: Postgres | Nats) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not server.ready():
            if not server.child.running:
                raise server.failed(f"ended (status {server.child.returncode}) when it should start")
            if time.monotonic() > deadline:
                raise server.failed(f"did not get ready within {READY_S_MAX:.0f} s")
            if self._closing.wait(READY_POLL_S):
                raise server.failed("was stopped while it was starting")

    def _look_after(self, supervised: _Supervised) -> None:
        server, now = supervised.server, time.monotonic()
        if supervised.retry_at is None:
            if server.child.running and self._answers(supervised, now):
                return
            if now - supervised.started_at > SETTLED_S:
                supervised.crashes = 0
            log.error("%s", server.failed(f"ended (status {server.child.returncode}) and will be started again"))
            pause_s = min(BACKOFF_S_MAX, 0.5 * 2**supervised.crashes) if supervised.crashes else 0.0
            supervised.crashes = min(supervised.crashes + 1, 16)
            supervised.retry_at = now + pause_s
        if now >= supervised.retry_at:
            self._start_again(supervised)

    def _answers(self, supervised: _Supervised, now: float) -> bool:
        """Whether a running server is alive. One that is not is terminated, as if it had crashed."""
        if now - supervised.asked_at < ANSWER_POLL_S:
            return True
        supervised.asked_at = now
        if supervised.server.responds():
            supervised.answered_at = now
        if now - supervised.answered_at < SILENT_S_MAX:
            return True
        log.error("%s has not answered for %.0f s and is ended", supervised.server.name, now - supervised.answered_at)
        supervised.server.child.end(supervised.server.steps)
        return False

    def _start_again(self, supervised: _Supervised) -> None:
        assert self._spawner is not None  # noqa: S101 — there from start to stop, as what is supervised
        server = supervised.server
        supervised.started_at = supervised.answered_at = supervised.asked_at = time.monotonic()
        try:
            with self._words_for_os_errors():
                self._check_disk()
                server.prepare_again()
                self._spawner.submit(server.child.spawn).result()
            supervised.retry_at = None
            log.warning("%s is started again (pid %s)", server.name, server.child.pid)
        except EmbeddedError as error:
            supervised.retry_at = time.monotonic() + BACKOFF_S_MAX
            log.error("%s is not started again yet: %s", server.name, error)  # noqa: TRY400 — the sentence says it all

    def _down(self) -> None:
        """End all our processes, no matter what was interrupted."""
        self._postgres_dsn = self._nats_url = self._services_nats_url = self._worker_nats_url = ""
        try:
            if self._spawner is not None:
                # On Linux this alone ends both servers. Afterwards it is certain whether an interrupted spawn happened.
                self._spawner.shutdown(wait=True, cancel_futures=True)
                self._spawner = None
            for supervised in reversed(self._supervised):
                server = supervised.server
                server.child.end(server.steps)
                server.end_leftovers()
                server.clean_up()
            self._supervised.clear()
        finally:
            self._free_lock()

    def _take_lock(self) -> None:
        """The kernel releases the lock when this process ends.

        The file stays: removing it would be a race with others.
        """
        path = self._folder / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise DataFolderInUse(
                f"the data folder {self._folder} is in use by another Darkroom (pid {pid}): stop that one, or choose "
                "another data folder."
            ) from None
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def _free_lock(self) -> None:
        if self._lock_fd is None:
            return
        fd, self._lock_fd = self._lock_fd, None
        try:
            os.ftruncate(fd, 0)
            fcntl.flock(fd, fcntl.LOCK_UN)  # explicitly, in case a forked process holds a copy of the descriptor
        finally:
            os.close(fd)

    def _check_disk(self) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < self._free_bytes_min:
            raise disk_full(self._folder, free_bytes, self._free_bytes_min)

    @contextmanager
    def _words_for_os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise folder_unusable(self._folder, error) from error
