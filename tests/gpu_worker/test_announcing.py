"""A worker says that it is there, and heeds what it hears: held back it takes nothing, released it goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from benchmarks.noop_worker import NoOp
from domain.errors import WorkerHeld
from gpu_worker.connection import connect
from gpu_worker.loop import Worker
from gpu_worker.workshop import Workshop
from services.files.blobs import Blobs
from services.messaging.wire import (
    ANNOUNCEMENTS,
    HAIL,
    Announcement,
    AnnouncementReply,
    AnyReport,
    ReportReply,
    hail_subject,
)
from tests.gpu_worker.peers import ACCEPTED, PATIENCE_S, Broker, Peer, an_order, peer_of

NAME = "worker.one"
HELD = AnnouncementReply(hold="drained", reason="a new card")


class Roll:
    """Answers announcements, and keeps them."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.answer = AnnouncementReply()
        self.heard: list[Announcement] = []

    async def begin(self) -> None:
        await self._peer.connection.subscribe(ANNOUNCEMENTS, cb=self._hear)
        await self._peer.connection.flush()

    async def _hear(self, message: Msg) -> None:
        self.heard.append(Announcement.model_validate_json(message.data))
        await message.respond(self.answer.model_dump_json().encode())

    async def hail(self) -> None:
        """The operator changed something."""
        await self._peer.connection.publish(hail_subject(NAME), HAIL)

    async def until_heard(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < count:  # noqa: ASYNC110 - a message of another connection
                await asyncio.sleep(0.01)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def peer(broker: Broker) -> AsyncIterator[Peer]:
    async with peer_of(broker) as peer:
        await peer.make_queue()
        yield peer


@pytest.fixture
async def roll(peer: Peer) -> Roll:
    roll = Roll(peer)
    await roll.begin()
    return roll


@asynccontextmanager
async def working(broker: Broker, folder: Path) -> AsyncIterator[None]:
    """A worker whose images cost nothing."""
    stop = asyncio.Event()
    connection = await connect([broker.url], NAME)
    workshop = Workshop(NAME, {"sdxl-demo": ""}, NoOp(), Blobs((folder / "blobs").as_uri()), device="cuda NVIDIA H200")
    task = asyncio.create_task(Worker(connection, workshop, ("sdxl",), 10.0).run(stop))
    try:
        yield
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)
    finally:
        task.cancel()
        await connection.close()
        workshop.rendering.shutdown()
        workshop.storing.shutdown()


async def test_a_worker_says_what_it_has_before_its_first_job_and_that_it_leaves(
    broker: Broker, peer: Peer, roll: Roll, tmp_path: Path
) -> None:
    async with working(broker, tmp_path):
        await peer.dispatch(an_order())
        await peer.until_acked()
        assert not roll.heard[0].leaving
    first, *_, last = roll.heard
    assert (first.pools, first.device) == (("sdxl",), "cuda NVIDIA H200")
    assert [(model.name, model.loaded) for model in first.models] == [("sdxl-demo", True)]
    assert first.idle_s is not None
    assert last.leaving


async def test_a_worker_that_is_held_back_takes_nothing_until_it_is_hailed(
    broker: Broker, peer: Peer, roll: Roll, tmp_path: Path
) -> None:
    roll.answer = HELD
    async with working(broker, tmp_path):
        await roll.until_heard(1)
        await peer.dispatch(an_order())
        heard = len(roll.heard)
        await roll.hail()
        await roll.until_heard(heard + 1)
        assert peer.kinds() == []
        roll.answer = AnnouncementReply()
        await roll.hail()
        await peer.until_acked()
    assert peer.kinds()[0] == "started"


async def test_an_order_that_a_held_worker_may_not_start_is_left_to_others(
    broker: Broker, peer: Peer, roll: Roll, tmp_path: Path
) -> None:
    """It did not know yet: the recorder tells it first."""

    def verdict(report: AnyReport) -> ReportReply:
        roll.answer = HELD
        return ReportReply(accepted=False, code=WorkerHeld.code, detail="The worker takes no jobs.")

    peer.verdict = verdict
    async with working(broker, tmp_path):
        await peer.dispatch(an_order())
        await peer.until(lambda peer: peer.kinds() == ["started"])
        await roll.until_heard(2)
        assert await peer.orders_left() == 1
    assert peer.kinds() == ["started"]  # once: it did not take it again
    peer.verdict = lambda _: ACCEPTED
    roll.answer = AnnouncementReply()
    async with working(broker, tmp_path):  # another worker gets it
        await peer.until_acked()


async def test_a_worker_works_where_nobody_hears_announcements(broker: Broker, peer: Peer, tmp_path: Path) -> None:
    async with working(broker, tmp_path):
        await peer.dispatch(an_order())
        await peer.until_acked()
