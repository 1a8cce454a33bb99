"""Every service in a process of its own, with a worker process whose engine paints nothing, on a fresh ledger."""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import nats
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from benchmarks.stage import Stage
from benchmarks.submit import TOKEN, await_port, free_port, process

SERVICES: Final = ("api", "projector", "relay", "dispatcher", "recorder", "reaper", "thumbnails")
JOBS_AT_ONCE: Final = 128
READY_S_MAX: Final = 60.0
POLL_S: Final = 0.05

ENDS: Final = """
select count(*) filter (where topic = 'job.succeeded.v1'), coalesce(max(notification_id), %(after)s)
from ledger where notification_id > %(after)s"""


@dataclass(frozen=True, slots=True)
class System:
    """What runs. `port` is the API's."""

    port: int
    connection: Connection[TupleRow]

    def submit(self, client: HTTPConnection, quantity: int) -> str:
        """A job, accepted; its id."""
        body = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse on a cliff at dusk", "quantity": quantity}
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        client.request("POST", "/v1/jobs", json.dumps(body), head)
        answer = client.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
        if answer.status != 202:
            raise RuntimeError(f"A job was not accepted: {content}")
        return str(content["id"])

    def head(self) -> int:
        """The last position."""
        row = self.connection.execute("select coalesce(max(notification_id), 0) from ledger").fetchone()
        return row[0] if row else 0

    def await_ends(self, after: int, jobs: int, seconds_max: float) -> None:
        """Return when so many jobs have ended after the position. Each look reads what is new alone."""
        deadline = time.monotonic() + seconds_max
        ended = 0
        while True:
            now, after = self.connection.execute(ENDS, {"after": after}).fetchone() or (0, after)
            ended += now
            if ended >= jobs:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{ended} of {jobs} jobs ended within {seconds_max:g} s.")
            time.sleep(POLL_S)


@contextmanager
def running(stage: Stage, jobs_at_once: int = JOBS_AT_ONCE) -> Iterator[System]:
    """All services; ready when a first job has gone through."""
    port = free_port()
    forget_streams(stage.servers.nats_url)
    with ExitStack() as undo:
        # In memory where that can be: a file that is made durable holds up every commit on the same disk.
        memory = Path("/dev/shm")
        folder = tempfile.mkdtemp(prefix="darkroom-bench-", dir=memory if memory.is_dir() else stage.folder)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        blobs = Path(folder).as_uri()
        dsn = undo.enter_context(stage.database(migrated=True))
        environment = {
            "DARKROOM_POSTGRES_DSN": dsn,
            "DARKROOM_NATS_URL": stage.servers.services_nats_url,
            "DARKROOM_DATA_DIR": str(stage.folder / "system"),
            "DARKROOM_BLOBS_URL": blobs,
            "DARKROOM_ADMIN_TOKEN": TOKEN,
            "DARKROOM_PORT": str(port),
        }
        for service in SERVICES:
            undo.enter_context(process(["api.cli", "run", service], environment))
        worker = ["benchmarks.noop_worker", stage.servers.worker_nats_url, blobs, str(jobs_at_once)]
        undo.enter_context(process(worker, {}))
        await_port(port)
        connection = undo.enter_context(psycopg.connect(dsn, autocommit=True))
        system = System(port, connection)
        client = HTTPConnection("127.0.0.1", port, timeout=READY_S_MAX)
        undo.callback(client.close)
        await_ready(client)
        system.submit(client, 1)
        system.await_ends(0, 1, READY_S_MAX)
        yield system


def await_ready(client: HTTPConnection) -> None:
    """Return when the API has Postgres, NATS and the views."""
    deadline = time.monotonic() + READY_S_MAX
    while True:
        client.request("GET", "/readyz")
        answer = client.getresponse()
        said = answer.read()
        if answer.status == 200:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"The API is not ready: {said.decode()}")
        time.sleep(POLL_S)


def forget_streams(nats_url: str) -> None:
    """What an earlier row left in JetStream belongs to another ledger."""

    async def forget() -> None:
        client = await nats.connect(nats_url)
        jetstream = client.jetstream()
        for stream in await jetstream.streams_info():
            await jetstream.delete_stream(stream.config.name or "")
        await client.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, forget()).result()
