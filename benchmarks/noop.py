"""Jobs that cost nothing to render, from the first submission over HTTP to the last end in the ledger, all on."""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Final

import psycopg

from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage
from benchmarks.system import WORKERS, System, running

JOBS: Final = 600
QUICK_JOBS: Final = 60
SUBMITTERS: Final = 8
ENDS_S_MAX: Final = 300.0

TABLE: Final = """
create table jobs (
  id bigint generated always as identity primary key,
  status text not null default 'todo',
  body jsonb not null,
  attempts int not null default 0
);
create index on jobs (id) where status = 'todo';
"""
PUT: Final = "insert into jobs (body) values (%s::jsonb)"
TAKE: Final = """
update jobs set status = 'doing', attempts = attempts + 1
where id = (select id from jobs where status = 'todo' order by id limit 1 for update skip locked)
returning id, body
"""
END: Final = "update jobs set status = 'done' where id = %s"
BODY: Final = '{"prompt": "a lighthouse on a cliff at dusk, warm light, detailed", "quantity": 1}'


@contextmanager
def contest(stage: Stage) -> Iterator[Contest]:
    """All services run all the while; they are idle when it is the peer's turn."""
    jobs = QUICK_JOBS if stage.quick else JOBS
    with ExitStack() as undo:
        system = undo.enter_context(running(stage))
        dsn = undo.enter_context(stage.database(migrated=False))
        with psycopg.connect(dsn) as connection:
            connection.execute(TABLE)
        yield Contest(ours=lambda: through(system, jobs), peer=lambda: through_a_table(dsn, jobs))


def through(system: System, jobs: int) -> float:
    """Jobs a second."""
    after = system.head()
    began = time.perf_counter()
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        for share in [pool.submit(_submit, system, jobs // SUBMITTERS) for _ in range(SUBMITTERS)]:
            share.result()
    jobs = jobs // SUBMITTERS * SUBMITTERS
    system.await_ends(after, jobs, ENDS_S_MAX)
    return jobs / (time.perf_counter() - began)


def _submit(system: System, jobs: int) -> None:
    client = HTTPConnection("127.0.0.1", system.port, timeout=60)
    for _ in range(jobs):
        system.submit(client, 1)
    client.close()


def through_a_table(dsn: str, jobs: int) -> float:
    """Jobs a second of the simplest durable queue: a row, taken with `skip locked`, a commit for each step."""
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    over = threading.Event()

    def put() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for _ in range(jobs // SUBMITTERS):
                connection.execute(PUT, (BODY,), prepare=True)

    def work() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not over.is_set():
                row = connection.execute(TAKE, prepare=True).fetchone()
                if row is None:
                    over.wait(0.005)
                else:
                    connection.execute(END, (row[0],), prepare=True)
                    ended.put(row[0])

    with ThreadPoolExecutor(SUBMITTERS + WORKERS) as pool:
        began = time.perf_counter()
        for _ in range(SUBMITTERS):
            pool.submit(put)
        for _ in range(WORKERS):
            pool.submit(work)
        count = jobs // SUBMITTERS * SUBMITTERS
        for _ in range(count):
            ended.get(timeout=ENDS_S_MAX)
        taken_s = time.perf_counter() - began
        over.set()
    return count / taken_s


ROWS = [
    Row(
        "no-op-jobs",
        f"jobs/s of 1 image, {WORKERS} workers, all services on",
        "a table as a queue (skip locked), no history",
        Target("ours", "≥", 497),
        contest,
    )
]
