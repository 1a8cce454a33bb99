"""Where everything is measured: the embedded servers on a folder of their own, and a fresh database for each side."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from services.embedded import EmbeddedServers
from services.migrate import migrate


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, and how long to measure. `quick` says that figures may be rough."""

    servers: EmbeddedServers
    folder: Path
    quick: bool

    @property
    def seconds(self) -> float:
        """How long one measurement of a rate takes."""
        return 0.4 if self.quick else 2.0

    @contextmanager
    def database(self, *, migrated: bool, slow_disk: bool = False) -> Iterator[str]:
        """The DSN of a fresh database. `slow_disk`: every commit takes 2 ms longer, whoever commits."""
        name = f"bench_{uuid4().hex}"
        with psycopg.connect(self.servers.postgres_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            if slow_disk:  # without siblings = 0 Postgres would spare a lonely writer the delay
                for setting, value in (("commit_delay", "2000"), ("commit_siblings", "0")):
                    alter = sql.SQL("alter database {} set {} = {}")
                    connection.execute(alter.format(sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)))
            dsn = make_conninfo(self.servers.postgres_dsn, dbname=name)
            if migrated:
                with psycopg.connect(dsn, autocommit=True) as fresh:
                    migrate(fresh)
            try:
                yield dsn
            finally:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def stage(*, quick: bool) -> Iterator[Stage]:
    """Start the servers on a temporary folder. It must not be in memory: the benchmarks are about fsync."""
    with ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Stage(undo.enter_context(EmbeddedServers(folder / "data")), folder, quick)


def rate(workers: int, seconds: float, once: Callable[[], int]) -> float:
    """How much `once` gets done a second when so many threads call it again and again; it returns how much it did."""
    ready = threading.Barrier(workers + 1)

    def work() -> int:
        ready.wait()
        done = 0
        while time.perf_counter() < end:
            done += once()
        return done

    end = float("inf")
    with ThreadPoolExecutor(workers) as pool:
        working = [pool.submit(work) for _ in range(workers)]
        began = time.perf_counter()
        end = began + seconds
        ready.wait()
        done = sum(future.result() for future in working)
        return done / (time.perf_counter() - began)
