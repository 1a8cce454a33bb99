"""Jobs that cost nothing to render, from the first submission over HTTP to the last end in the ledger, all on."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

import psycopg
import uvloop
from procrastinate import App, SyncPsycopgConnector
from psycopg import Connection
from psycopg.rows import TupleRow

from benchmarks.contest import Contest, Row, Target
from benchmarks.load import post
from benchmarks.procrastinate_worker import app_of
from benchmarks.stage import Stage
from benchmarks.submit import TOKEN, process
from benchmarks.system import JOBS_AT_ONCE, POLL_S, System, running

JOBS: Final = 2_000
QUICK_JOBS: Final = 80
WARMING_JOBS: Final = 160
SUBMITTERS: Final = 40
ENDS_S_MAX: Final = 300.0

ARGUMENTS: Final = {"prompt": "a lighthouse on a cliff at dusk", "quantity": 1}
JOB: Final = {"job_type": "sdxl_image_fast", **ARGUMENTS}
DONE: Final = "select count(*) from procrastinate_jobs where status = 'succeeded'"


@contextmanager
def contest(stage: Stage) -> Iterator[Contest]:
    """Each side starts its processes for its turn and ends them: the other one has the machine to itself."""
    jobs = QUICK_JOBS if stage.quick else JOBS
    with ExitStack() as undo:
        dsn = undo.enter_context(stage.database(migrated=False))
        peer = undo.enter_context(app_of(dsn).replace_connector(SyncPsycopgConnector(conninfo=dsn)))
        undo.enter_context(peer.open())
        peer.schema_manager.apply_schema()
        yield Contest(ours=lambda: ours(stage, jobs), peer=lambda: procrastinate(peer, dsn, jobs))


def ours(stage: Stage, jobs: int) -> float:
    """Jobs a second, after some that warm all up."""
    with running(stage) as system:
        through(system, WARMING_JOBS)
        return through(system, jobs)


def procrastinate(peer: App, dsn: str, jobs: int) -> float:
    """The same of the peer."""
    with process(["benchmarks.procrastinate_worker", dsn, str(JOBS_AT_ONCE)], {}):
        through_procrastinate(peer, dsn, WARMING_JOBS)
        return through_procrastinate(peer, dsn, jobs)


def through(system: System, jobs: int) -> float:
    """Jobs a second."""
    after = system.head()
    began = time.perf_counter()
    uvloop.run(_submit(system, jobs))
    system.await_ends(after, jobs, ENDS_S_MAX)
    return jobs / (time.perf_counter() - began)


async def _submit(system: System, jobs: int) -> None:
    unsent, refused = jobs - SUBMITTERS, 0  # each begins with one

    def answered(_: float, accepted: bool) -> bool:
        nonlocal unsent, refused
        unsent -= 1
        refused += not accepted
        return unsent >= 0

    async with asyncio.timeout(ENDS_S_MAX):
        await post(("127.0.0.1", system.port), "/v1/jobs", TOKEN, json.dumps(JOB).encode(), SUBMITTERS, answered)
    if refused:
        raise RuntimeError(f"{refused} of {jobs} jobs were not accepted.")


def through_procrastinate(peer: App, dsn: str, jobs: int) -> float:
    """Jobs a second from the first call of `defer` to the last job's end."""
    task = peer.tasks["render"]

    def submit() -> None:
        for _ in range(jobs // SUBMITTERS):
            task.defer(**ARGUMENTS)

    with psycopg.connect(dsn, autocommit=True) as connection, ThreadPoolExecutor(SUBMITTERS) as pool:
        before = _done(connection)
        began = time.perf_counter()
        for share in [pool.submit(submit) for _ in range(SUBMITTERS)]:
            share.result()
        wanted = jobs // SUBMITTERS * SUBMITTERS
        while _done(connection) - before < wanted:
            if time.perf_counter() - began > ENDS_S_MAX:
                raise TimeoutError(f"procrastinate did not end {wanted} jobs within {ENDS_S_MAX:g} s.")
            time.sleep(POLL_S)
        return wanted / (time.perf_counter() - began)


def _done(connection: Connection[TupleRow]) -> int:
    row = connection.execute(DONE).fetchone()
    return row[0] if row else 0


ROWS = [
    Row(
        "no-op-jobs",
        f"jobs/s of 1 image, {JOBS_AT_ONCE} at a time, all services on",
        "procrastinate, no history",
        Target("ratio", "≥", 1),
        contest,
    )
]
