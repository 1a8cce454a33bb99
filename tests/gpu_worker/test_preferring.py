"""A worker with room for one model and orders of two: a real nats-server, the real pipelines, the ledger played."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.js.client import JetStreamContext

from gpu_worker import loop
from gpu_worker.connection import connect
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.loop import Worker
from gpu_worker.model_affinity import LOOKED_AT_MAX, PASSED_OVER_MAX
from gpu_worker.residency import Residency
from gpu_worker.workshop import Workshop
from services.files.blobs import Blobs
from services.messaging import wire
from services.messaging.wire import WorkOrder
from tests.gpu_worker.peers import PATIENCE_S, Broker, Peer, an_order, peer_of


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
        await peer.make_queue_of("wan")
        yield peer


@pytest.fixture
def workshop(tmp_path: Path, demo_folder: Path) -> Iterator[Workshop]:
    """With room for one of its two models; `a` is loaded."""
    models = {name: str(demo_folder) for name in "ab"}
    one_bytes = SdxlEngine.load(str(demo_folder), device="cpu").weights_bytes
    workshop = Workshop(
        "worker-1", models, Residency(models, "cpu", budget_bytes=one_bytes), Blobs((tmp_path / "blobs").as_uri())
    )
    workshop.rendering.submit(workshop.engine, "a").result()
    yield workshop
    workshop.rendering.shutdown()
    workshop.storing.shutdown()


@asynccontextmanager
async def working(broker: Broker, workshop: Workshop, *pools: str) -> AsyncIterator[Callable[[], None]]:
    """A worker at work. Yields how to tell it to stop; at the end it must stop by itself, and soon."""
    stop = asyncio.Event()
    connection = await connect([broker.url], "worker-1")
    task = asyncio.create_task(Worker(connection, workshop, pools, 10.0).run(stop))
    try:
        yield stop.set
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)
    finally:
        task.cancel()
        await connection.close()


def started(peer: Peer, orders: list[WorkOrder]) -> list[int]:
    """Which of the orders were started, by their places, in the order in which they were."""
    places = {order.job_id: place for place, order in enumerate(orders)}
    return [places[report.job_id] for report in peer.reports if report.kind == "started"]


def loads(models: str) -> int:
    """How often a worker with room for one model, `a` at first, loads one to work in this order."""
    return sum(one != other for one, other in zip("a" + models, models, strict=False))


async def in_order(broker: Broker, peer: Peer, workshop: Workshop, orders: list[WorkOrder], *pools: str) -> list[int]:
    for order in orders:
        await peer.dispatch(order)
    async with working(broker, workshop, *pools):
        await peer.until(lambda peer: len(started(peer, orders)) == len(orders))
        await peer.until_acked()
    return started(peer, orders)


async def test_two_models_that_take_turns_in_the_queue_are_loaded_far_less_often(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    models = "ab" * 8
    taken = await in_order(broker, peer, workshop, [an_order(1, steps=1, model=model) for model in models], "sdxl")
    assert sorted(taken) == list(range(len(models)))
    assert loads("".join(models[place] for place in taken)) <= loads(models) // 2
    for model in "ab":
        of_model = [place for place in taken if models[place] == model]
        assert of_model == sorted(of_model)
    assert all(abs(now - place) <= PASSED_OVER_MAX * LOOKED_AT_MAX for now, place in enumerate(taken))


async def test_a_queue_of_one_model_moves_through_without_loading(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    loaded = workshop.engine("a")
    taken = await in_order(broker, peer, workshop, [an_order(1, steps=1, model="a") for _ in range(6)], "sdxl")
    assert taken == list(range(6))
    assert workshop.engine("a") is loaded


async def test_pools_that_take_turns_are_preferred_by_model_as_well(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    models = "ab" * 4
    orders = [
        an_order(1, steps=1, model=model).model_copy(update={"pool": {"a": "sdxl", "b": "wan"}[model]})
        for model in models
    ]
    taken = await in_order(broker, peer, workshop, orders, "sdxl", "wan")
    assert sorted(taken) == list(range(len(models)))
    assert loads("".join(models[place] for place in taken)) <= loads(models) // 2


async def test_an_order_that_a_stopping_worker_looks_at_goes_to_another_at_once(
    broker: Broker, peer: Peer, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOOK_S", 3.0)
    orders = [an_order(1, model="b") for _ in range(2)]
    for order in orders:
        await peer.dispatch(order)
    jetstream = peer.connection.jetstream()
    async with working(broker, workshop, "sdxl") as stop:
        await until_in_hand(jetstream, 2)
        stop()
    pulling = await jetstream.pull_subscribe_bind(wire.work_consumer("sdxl"), wire.WORK_STREAM)
    given_back = await pulling.fetch(2, timeout=5)
    if len(given_back) == 1:
        given_back += await pulling.fetch(1, timeout=5)
    ids = [WorkOrder.model_validate_json(message.data).job_id for message in given_back]
    assert sorted(ids) == sorted(order.job_id for order in orders)
    assert peer.kinds() == []


async def until_in_hand(jetstream: JetStreamContext, orders: int) -> None:
    async def in_hand() -> int | None:
        return (await jetstream.consumer_info(wire.WORK_STREAM, wire.work_consumer("sdxl"))).num_ack_pending

    async with asyncio.timeout(PATIENCE_S):
        while await in_hand() != orders:  # noqa: ASYNC110 - JetStream tells nobody
            await asyncio.sleep(0.02)
