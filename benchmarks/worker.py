"""What a worker adds to the pipeline: pull, reports with their commits, progress, encoding, storing, the ack."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4

import torch
from psycopg import Connection
from psycopg.rows import TupleRow

from benchmarks.contest import Contest, Row, Target
from benchmarks.histories import BUCKET, OWNER, recipe
from benchmarks.recorders import NOW, our_recorder
from benchmarks.stage import Stage
from benchmarks.submit import process
from domain.commands import SubmitJob
from domain.recipes.recipe import Kind
from gpu_worker.connection import connect
from gpu_worker.demo import SDXL_DEMO
from gpu_worker.engines.diffusers.opening import open_model
from gpu_worker.engines.diffusers.pipelines import keep_quiet
from gpu_worker.engines.diffusers.sdxl_files import SDXL
from gpu_worker.loop import Worker
from gpu_worker.residency import Residency
from gpu_worker.workshop import Workshop, request_of
from services.database import Database
from services.files.blobs import Blobs
from services.ledger import JOB, Context, Ledger
from services.messaging.broker import ensure_work_stream
from services.messaging.wire import HEARTBEAT_S, WorkOrder, work_subject
from services.queue.dispatcher import order_for

MODEL: Final = "sdxl-demo"
POOL: Final = "sdxl"
JOB_S_MAX: Final = 120.0
POLL_S: Final = 0.1
"""How often the ledger is asked whether the job has ended; rarely, because the time of the end is the commit's own."""

ENDED: Final = """
select c.committed_at
from ledger l join ledger_commits c on l.notification_id between c.first_position and c.last_position
where l.originator_id = %s and l.topic = 'job.succeeded.v1'
"""


class Shop:
    """A worker of this process on an event loop of its own, with its reports going to a recorder's process."""

    def __init__(self, nats_url: str, workshop: Workshop) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._connected: Future[Any] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(nats_url, workshop),))

    def __enter__(self) -> "Shop":
        self._thread.start()
        self._connected.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def hand_out(self, order: WorkOrder) -> None:
        """As the dispatcher does."""
        subject = work_subject(POOL, order.job_id, order.attempt)
        publish = self._connected.result().jetstream().publish(subject, order.model_dump_json().encode())
        asyncio.run_coroutine_threadsafe(publish, self._loop).result()

    async def _run(self, nats_url: str, workshop: Workshop) -> None:
        connection = await connect([nats_url], workshop.worker)
        await ensure_work_stream(connection.jetstream(), [POOL])
        self._connected.set_result(connection)
        await Worker(connection, workshop, [POOL], HEARTBEAT_S).run(self._stop)
        await connection.close()


@contextmanager
def contest(stage: Stage) -> Iterator[Contest]:
    """Both sides paint the same three images with the same seeds, in the same process, one after the other."""
    folder = SDXL_DEMO
    keep_quiet()
    models = {MODEL: str(folder)}
    seeds = count(1)
    with ExitStack() as undo:
        dsn = undo.enter_context(stage.database(migrated=True))
        environment = {"DARKROOM_POSTGRES_DSN": dsn, "DARKROOM_NATS_URL": stage.servers.nats_url}
        undo.enter_context(process(["api.cli", "run", "recorder"], environment))
        ledger = undo.enter_context(Ledger(undo.enter_context(our_recorder(dsn))))
        database = undo.enter_context(Database(dsn))
        workshop = Workshop("benchmark", models, Residency(models, "cpu"), Blobs((stage.folder / "blobs").as_uri()))
        shop = undo.enter_context(Shop(stage.servers.nats_url, workshop))
        pipeline = open_model(SDXL, str(folder), torch.float32).pipeline
        pipeline.set_progress_bar_config(disable=True)
        pipeline.vae.enable_slicing()

        def ours() -> float:
            order = submitted(ledger, next(seeds))
            with database.connection() as connection:
                began = connection.execute("select clock_timestamp()").fetchone()
                shop.hand_out(order)
                ended = await_end(connection, order.job_id)
            return float((ended - began[0]).total_seconds()) if began else 0.0

        def peer() -> float:
            # In the worker's own thread: torch keeps a team of threads for each that calls it.
            return workshop.rendering.submit(painted, pipeline, workshop.blobs, submitted(ledger, next(seeds))).result()

        workshop.rendering.submit(workshop.engine, MODEL).result()
        yield Contest(ours, peer)


def submitted(ledger: Ledger, seed: int) -> WorkOrder:
    """A job of three images, 256 by 256, 15 steps, and the order for its first attempt."""
    job_id = uuid4()
    command = SubmitJob(job_id, OWNER, recipe(seed), POOL, Kind.IMAGE, BUCKET, "png", NOW)
    executed = ledger.execute(JOB, job_id, command, Context(OWNER, OWNER))
    order = order_for(job_id, executed.state, 1, datetime.now(UTC))
    if order is None:
        raise RuntimeError("A new job has no first attempt.")
    return order


def painted(pipeline: Any, blobs: Blobs, order: WorkOrder) -> float:
    """Seconds of the bare call for the images of an order."""
    request = request_of(order, blobs)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in request.seeds]
    began = time.perf_counter()
    pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        num_images_per_prompt=len(generators),
        generator=generators,
    )
    return time.perf_counter() - began


def await_end(connection: Connection[TupleRow], job_id: UUID) -> Any:
    """When the ledger got the end of the job."""
    deadline = time.monotonic() + JOB_S_MAX
    while (row := connection.execute(ENDED, (job_id,), prepare=True).fetchone()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"The job {job_id} did not succeed.")
        time.sleep(POLL_S)
    return row[0]


ROWS = [
    Row(
        "worker-overhead",
        "seconds a job of 3 images, 256 by 256, 15 steps",
        "the pipeline call alone",
        Target("ratio", "≤", 1.05),
        contest,
    )
]
