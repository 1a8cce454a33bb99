"""A worker makes a prompt richer before the first step, says so to the ledger, and answers the API between jobs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import nats.errors
import pytest
from PIL import Image

from domain.errors import PromptAlreadyEnhanced
from domain.events import JobPromptEnhanced
from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from gpu_worker.connection import connect
from gpu_worker.enhancement.enhance_service import Answering
from gpu_worker.enhancement.enhancing import Enhancing
from gpu_worker.loop import Worker
from gpu_worker.residency import Residency
from gpu_worker.workshop import Workshop
from services.files.blobs import Blobs
from services.messaging.wire import ENHANCE, AnyReport, EnhanceReply, EnhanceRequest, NoteReport, ReportReply, WorkOrder
from tests.gpu_worker import tiny_qwen
from tests.gpu_worker.peers import ACCEPTED, PATIENCE_S, SUPERSEDED, Broker, Peer, an_order, peer_of

RICHER = "a red circle above the green square, drawn with chalk on slate"


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
def workshop(tmp_path: Path, demo_folder: Path) -> Iterator[Workshop]:
    """With a language model."""
    tiny_qwen.save(tmp_path / "Tiny", RICHER)
    engines = Residency({"sdxl-demo": str(demo_folder)}, "cpu")
    enhancing = Enhancing(str(tmp_path / "Tiny"), "cpu", engines.release)
    workshop = Workshop("worker-1", {"sdxl-demo": ""}, engines, Blobs((tmp_path / "blobs").as_uri()), enhancing)
    yield workshop
    workshop.rendering.shutdown()
    workshop.storing.shutdown()


@asynccontextmanager
async def working(broker: Broker, workshop: Workshop) -> AsyncIterator[None]:
    """A worker at work; at the end it must stop by itself, and soon."""
    stop = asyncio.Event()
    connection = await connect([broker.url], "worker-1")
    await Answering(connection, workshop.enhancing, workshop.rendering).begin()
    task = asyncio.create_task(Worker(connection, workshop, ("sdxl",), 10.0).run(stop))
    try:
        yield
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)
    finally:
        task.cancel()
        await connection.close()


def to_be_enhanced(order: WorkOrder, **changes: object) -> WorkOrder:
    recipe = order.recipe.model_copy(update={"enhance": True})
    return order.model_copy(update={"recipe": recipe, **changes})


def notes(peer: Peer) -> list[JobPromptEnhanced]:
    return [r.note for r in peer.reports if isinstance(r, NoteReport) and isinstance(r.note, JobPromptEnhanced)]


def picture(folder: Path, order: WorkOrder) -> Image.Image:
    """The order's first."""
    return Image.open(BytesIO((folder / "blobs" / order.outputs[0].path).read_bytes()))


async def test_the_ledger_has_the_richer_prompt_before_the_first_step(
    broker: Broker, peer: Peer, workshop: Workshop, tmp_path: Path
) -> None:
    order = to_be_enhanced(an_order(1))
    steps_before_the_note: list[int] = []

    def verdict(report: AnyReport) -> ReportReply:
        if isinstance(report, NoteReport):
            steps_before_the_note.append(len(peer.progress))
        return ACCEPTED

    peer.verdict = verdict
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    assert peer.kinds() == ["started", "note", "asset_completed"]
    assert steps_before_the_note == [0]
    (note,) = notes(peer)
    assert (note.attempt, note.original, note.enhanced) == (1, order.recipe.prompt, RICHER)
    assert note.enhancer.startswith("Tiny ")
    origin = picture(tmp_path, order).info
    assert (origin["Prompt"], origin["Enhanced prompt"]) == (order.recipe.prompt, RICHER)


async def test_what_an_earlier_attempt_made_is_rendered_and_nothing_is_made_again(
    broker: Broker, peer: Peer, workshop: Workshop, tmp_path: Path
) -> None:
    first = to_be_enhanced(an_order(1))
    second = to_be_enhanced(an_order(1, attempt=2), enhanced_prompt="a blue star")
    plain = an_order(1)
    async with working(broker, workshop):
        for order in (first, second, plain):
            await peer.dispatch(order)
            await peer.until_acked()
    assert len(notes(peer)) == 1
    pixels = [picture(tmp_path, order).tobytes() for order in (first, second, plain)]
    assert len(set(pixels)) == 3  # each prompt was the one that was painted
    assert [report.kind for report in peer.reports if report.job_id == plain.job_id] == ["started", "asset_completed"]


async def test_a_worker_without_a_language_model_goes_by_the_rules(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    workshop.enhancing = Enhancing()
    async with working(broker, workshop):
        await peer.dispatch(to_be_enhanced(an_order(1)))
        await peer.until_acked()
        with pytest.raises(nats.errors.NoRespondersError):
            await peer.connection.request(ENHANCE, a_request(), timeout=PATIENCE_S)
    (note,) = notes(peer)
    assert (note.enhanced, note.enhancer) == (enhance(note.original, Kind.IMAGE), RULES)


async def test_nothing_is_painted_where_the_ledger_refuses_the_note(
    broker: Broker, peer: Peer, workshop: Workshop, tmp_path: Path
) -> None:
    peer.verdict = lambda report: SUPERSEDED if isinstance(report, NoteReport) else ACCEPTED
    async with working(broker, workshop):
        await peer.dispatch(to_be_enhanced(an_order(1)))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note"]
    assert peer.progress == []
    assert list((tmp_path / "blobs").rglob("*.png")) == []


async def test_a_job_whose_prompt_is_settled_is_given_back_for_an_attempt_that_knows_it(
    broker: Broker, peer: Peer, workshop: Workshop, tmp_path: Path
) -> None:
    settled = ReportReply(accepted=False, code=PromptAlreadyEnhanced.code)
    peer.verdict = lambda report: settled if isinstance(report, NoteReport) else ACCEPTED
    async with working(broker, workshop):
        await peer.dispatch(to_be_enhanced(an_order(1)))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note", "attempt_released"]
    assert list((tmp_path / "blobs").rglob("*.png")) == []


async def test_the_api_is_answered_between_jobs(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    async with working(broker, workshop):
        await peer.dispatch(an_order(1))
        answers = [peer.connection.request(ENHANCE, a_request(), timeout=PATIENCE_S) for _ in range(2)]
        replies = [EnhanceReply.model_validate_json(message.data) for message in await asyncio.gather(*answers)]
        await peer.until_acked()
    assert {reply.enhanced for reply in replies} == {RICHER}
    assert {reply.enhancer.split()[0] for reply in replies} == {"Tiny"}


async def test_a_request_that_cannot_be_read_harms_nobody(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    async with working(broker, workshop):
        with pytest.raises(nats.errors.TimeoutError):
            await peer.connection.request(ENHANCE, b"{}", timeout=0.3)
        message = await peer.connection.request(ENHANCE, a_request(), timeout=PATIENCE_S)
    assert EnhanceReply.model_validate_json(message.data).enhanced == RICHER


def a_request() -> bytes:
    asked = EnhanceRequest(prompt="a red circle above a green square", kind=Kind.IMAGE)
    return asked.model_dump_json().encode()
