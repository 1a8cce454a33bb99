"""What a worker talks to: a real nats-server, and somebody who plays dispatcher and recorder over it."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from domain.recipes.recipe import Kind, Recipe, Task, asset_path, seeds_from
from services.messaging import wire
from services.messaging.wire import ANY_REPORT, AnyReport, Output, Progress, ReportReply, WorkOrder

PATIENCE_S = 180.0
"""For what must happen, on a machine that does other things as well."""

ACCEPTED = ReportReply(accepted=True)
SUPERSEDED = ReportReply(accepted=False, code="attempt_superseded", detail="Attempt 1 was superseded.")


class Broker:
    """A nats-server of our own that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._store = folder / "jetstream"
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\nlog_file: "{folder}/nats.log"\n'
            f'jetstream {{ store_dir: "{self._store}" }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("nats-server")), "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, *, forget: bool = False) -> None:
        """As a crash does; `forget` loses its disk as well."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None
        if forget:
            shutil.rmtree(self._store)


class Peer:
    """Dispatcher and recorder in one: it makes the queue, hands out orders and keeps every report it answers."""

    def __init__(self) -> None:
        self.connection = Client()
        self.reports: list[AnyReport] = []
        self.senders: list[str] = []
        self.progress: list[Progress] = []
        self.verdict: Callable[[AnyReport], ReportReply | None] = lambda _report: ACCEPTED
        self._news = asyncio.Condition()
        self.reconnected = asyncio.Event()

    async def make_queue(self, pool: str = "sdxl") -> None:
        jetstream = self.connection.jetstream()
        work = StreamConfig(name=wire.WORK_STREAM, subjects=["work.>"], retention=RetentionPolicy.WORK_QUEUE)
        await jetstream.add_stream(work)
        await self.make_queue_of(pool)

    async def make_queue_of(self, pool: str) -> None:
        """The consumer of a pool, the stream being there."""
        consumer = ConsumerConfig(
            durable_name=wire.work_consumer(pool),
            filter_subject=wire.work_filter(pool),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=30.0,
        )
        await self.connection.jetstream().add_consumer(wire.WORK_STREAM, consumer)

    async def listen(self) -> None:
        await self.connection.subscribe(wire.REPORTS, wire.RECORDERS, self._report)
        await self.connection.subscribe(wire.PROGRESS, cb=self._progress)
        await self.connection.flush()

    async def dispatch(self, order: WorkOrder) -> None:
        subject = wire.work_subject(order.pool, order.job_id, order.attempt)
        await self.connection.jetstream().publish(subject, order.model_dump_json().encode())

    async def until(self, holds: Callable[["Peer"], bool]) -> None:
        """Wait for it, as reports and progress come in."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: holds(self))

    async def until_acked(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.orders_left():  # noqa: ASYNC110 - JetStream tells nobody of an ack
                await asyncio.sleep(0.02)

    async def orders_left(self) -> int:
        info = await self.connection.jetstream().stream_info(wire.WORK_STREAM)
        return int(info.state.messages)

    async def until_reconnected(self) -> None:
        await asyncio.wait_for(self.reconnected.wait(), PATIENCE_S)

    def kinds(self) -> list[str]:
        """What was reported, heartbeats aside."""
        return [report.kind for report in self.reports if report.kind != "heartbeat"]

    async def _report(self, message: Msg) -> None:
        report = ANY_REPORT.validate_json(message.data)
        verdict = self.verdict(report)
        if verdict is not None:
            await message.respond(verdict.model_dump_json().encode())
        async with self._news:
            self.reports.append(report)
            self.senders.append(wire.sender_of(message.subject))
            self._news.notify_all()

    async def _progress(self, message: Msg) -> None:
        async with self._news:
            self.progress.append(Progress.model_validate_json(message.data))
            self._news.notify_all()


@asynccontextmanager
async def peer_of(broker: Broker) -> AsyncIterator[Peer]:
    """Connected, with the queue made, recording."""

    peer = Peer()

    async def quiet(_error: Exception) -> None:
        """A server that is killed is what these tests are about."""

    async def reconnected() -> None:
        peer.reconnected.set()

    await peer.connection.connect(
        broker.url,
        error_cb=quiet,
        reconnected_cb=reconnected,
        reconnect_time_wait=0.1,  # type: ignore[arg-type]
        max_reconnect_attempts=-1,
        connect_timeout=2,
    )
    try:
        await peer.listen()
        yield peer
    finally:
        await peer.connection.close()


def an_order(
    quantity: int = 3, *, steps: int = 2, model: str = "sdxl-demo", job_id: UUID | None = None, attempt: int = 1
) -> WorkOrder:
    """Small images of the demo model."""
    job_id = job_id or uuid4()
    seeds = seeds_from(7, quantity)
    return WorkOrder(
        job_id=job_id,
        owner="ada",
        attempt=attempt,
        pool="sdxl",
        recipe=Recipe(
            job_type="sdxl_image_fast",
            model=model,
            task=Task.TEXT_TO_IMAGE,
            prompt="a red circle above a green square",
            params={"width": 64, "height": 64, "steps": steps, "guidance": 6.0},
            seeds=seeds,
        ),
        outputs=tuple(
            Output(index=index, seed=seed, kind=Kind.IMAGE, path=asset_path("images", "ada", job_id, index, "png"))
            for index, seed in enumerate(seeds)
        ),
    )
