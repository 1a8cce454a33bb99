"""A worker in this process, a real nats-server, the real pipeline; only the ledger behind the reports is played."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from PIL import Image

from domain.errors import AssetEnded
from domain.events import ErrorClass, JobMemoryLowered, JobWarned
from domain.recipes.recipe import InputFile, Reference, Task
from gpu_worker.attempt import Attempt
from gpu_worker.connection import connect
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.loop import Worker
from gpu_worker.reporting import FAILURES_MAX
from gpu_worker.residency import Residency
from gpu_worker.workshop import Workshop
from services.files.blobs import Blobs
from services.files.media.reading import read_image
from services.messaging import wire
from services.messaging.wire import (
    AnyReport,
    AssetCompletedReport,
    AssetFailedReport,
    AttemptFailedReport,
    NoteReport,
    ReportReply,
    WorkOrder,
)
from tests.gpu_worker.peers import ACCEPTED, PATIENCE_S, SUPERSEDED, Broker, Peer, an_order, peer_of
from tests.gpu_worker.rendering import Memory

LONG = 1000
"""Steps of a job that does not end by itself while a test watches it."""


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


@pytest.fixture(scope="module")
def engines(demo_folder: Path) -> Residency:
    return Residency({"sdxl-demo": str(demo_folder), "gone": str(demo_folder / "nowhere")}, "cpu")


@pytest.fixture
def own_engine(engines: Residency) -> Iterator[SdxlEngine]:
    """The worker's engine, for a test that spoils it: those before and after it have another one."""
    engines._loaded.clear()
    engine = engines.engine("sdxl-demo")
    assert isinstance(engine, SdxlEngine)
    yield engine
    engines._loaded.clear()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def workshop(files: Path, engines: Residency) -> Iterator[Workshop]:
    models = {"sdxl-demo": "", "gone": ""}  # their sources are the residency's
    workshop = Workshop("worker-1", models, engines, Blobs(files.as_uri()))
    yield workshop
    workshop.rendering.shutdown()
    workshop.storing.shutdown()


@asynccontextmanager
async def working(broker: Broker, workshop: Workshop, heartbeat_s: float = 10.0) -> AsyncIterator[Callable[[], None]]:
    """A worker at work. Yields how to tell it to stop; at the end it must stop by itself, and soon."""
    stop = asyncio.Event()
    connection = await connect([broker.url], "worker-1")
    task = asyncio.create_task(Worker(connection, workshop, ("sdxl",), heartbeat_s).run(stop))
    try:
        yield stop.set
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)
    finally:
        task.cancel()
        await connection.close()


def completed(peer: Peer) -> dict[int, AssetCompletedReport]:
    return {report.index: report for report in peer.reports if isinstance(report, AssetCompletedReport)}


def failures(peer: Peer) -> list[AttemptFailedReport]:
    return [report for report in peer.reports if isinstance(report, AttemptFailedReport)]


def stored(files: Path) -> list[Path]:
    return sorted(files.rglob("*.png"))


def refusing(
    kind: str, reply: ReportReply | None, index: int | None = None
) -> Callable[[AnyReport], ReportReply | None]:
    """A verdict that answers reports of one kind (of one asset) like this, and accepts all others."""

    def verdict(report: AnyReport) -> ReportReply | None:
        about = report.index if isinstance(report, AssetCompletedReport | AssetFailedReport) else None
        return reply if report.kind == kind and index in {None, about} else ACCEPTED

    return verdict


async def in_work(peer: Peer, order: WorkOrder) -> None:
    """Dispatch it and wait until its first step is done."""
    await peer.dispatch(order)
    await peer.until(lambda peer: any(progress.job_id == order.job_id for progress in peer.progress))


async def test_three_images_become_files_and_each_is_reported(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    order = an_order(3)
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    assert peer.kinds() == ["started", "asset_completed", "asset_completed", "asset_completed"]
    assert sorted(completed(peer)) == [0, 1, 2]
    for index, report in completed(peer).items():
        content = (files / order.outputs[index].path).read_bytes()
        fact = report.completed
        assert (fact.sha256, fact.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
        assert (fact.width, fact.height) == read_image(content).size == (64, 64)
        assert (fact.attempt, fact.media_type) == (1, "image/png")
        assert sorted(fact.worker_versions) == ["darkroom", "diffusers", "model", "torch"]
        assert fact.peak_memory_bytes is not None
        assert fact.peak_memory_bytes > 100 * 1024**2  # torch alone takes that
    assert len({report.completed.sha256 for report in completed(peer).values()}) == 3
    assert (peer.progress[-1].step, peer.progress[-1].total) == (2, 2)


async def test_a_part_of_a_job_gets_the_same_images_under_their_indexes(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    whole, part = an_order(3), an_order(3)
    part = part.model_copy(update={"outputs": part.outputs[1:]})
    async with working(broker, workshop):
        await peer.dispatch(whole)
        await peer.until_acked()
        await peer.dispatch(part)
        await peer.until_acked()
    indexes = [r.index for r in peer.reports if isinstance(r, AssetCompletedReport) and r.job_id == part.job_id]
    assert indexes == [1, 2]


async def test_a_refused_start_drops_the_order(broker: Broker, peer: Peer, workshop: Workshop, files: Path) -> None:
    peer.verdict = refusing("started", ReportReply(accepted=False, code="job_not_startable", detail="It is canceled."))
    async with working(broker, workshop):
        await peer.dispatch(an_order())
        await peer.until_acked()
    assert peer.kinds() == ["started"]
    assert stored(files) == []


async def test_an_attempt_superseded_by_heartbeat_stops_and_discards(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    peer.verdict = refusing("heartbeat", SUPERSEDED)
    async with working(broker, workshop, heartbeat_s=0.1):
        await peer.dispatch(an_order(steps=LONG))
        await peer.until_acked()
    assert peer.kinds() == ["started"]
    assert stored(files) == []


async def test_a_refused_asset_ends_the_attempt(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    peer.verdict = refusing("asset_completed", SUPERSEDED, index=1)
    async with working(broker, workshop):
        await peer.dispatch(an_order(3))
        await peer.until_acked()
    assert sorted(completed(peer)) == [0, 1, 2]  # of the third the ledger says whether anybody wants its file
    assert peer.kinds()[-1] == "asset_completed"


async def test_a_cancel_stops_between_steps_and_is_confirmed(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    order = an_order(steps=LONG)
    async with working(broker, workshop):
        await in_work(peer, order)
        began_s = time.monotonic()
        await peer.connection.publish(wire.cancel_subject("worker-1", order.job_id), wire.CANCEL)
        await peer.until(lambda peer: "cancel_confirmed" in peer.kinds())
        assert time.monotonic() - began_s < 2.0
        await peer.until_acked()
    assert peer.progress[-1].step < LONG / 4
    assert stored(files) == []


async def test_a_cancel_of_another_order_stops_nothing(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    order = an_order(2)
    async with working(broker, workshop):
        await in_work(peer, order)
        await peer.connection.publish(wire.cancel_subject("worker-1", uuid4()), wire.CANCEL)
        await peer.connection.publish(wire.cancel_subject("worker-2", order.job_id), wire.CANCEL)
        await peer.connection.publish(wire.cancel_subject("worker-1", order.job_id), b"an answer that was led here")
        await peer.until_acked()
    assert sorted(completed(peer)) == [0, 1]
    assert peer.kinds()[-1] == "asset_completed"


ENDED = ReportReply(accepted=False, code=AssetEnded.code, detail="The asset is canceled.")


async def test_a_file_that_nobody_wants_any_more_is_deleted(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    peer.verdict = refusing("asset_completed", ENDED, index=1)
    order = an_order(3)
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    assert (files / order.outputs[0].path) in stored(files)
    assert (files / order.outputs[1].path) not in stored(files)


async def test_a_file_of_a_superseded_attempt_stays_for_the_one_that_goes_on(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    peer.verdict = refusing("asset_completed", SUPERSEDED, index=1)
    order = an_order(2)
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    assert stored(files) == sorted(files / output.path for output in order.outputs)


@pytest.mark.parametrize(("reply", "left"), [(ENDED, 0), (SUPERSEDED, 1)])
async def test_what_was_finished_while_a_cancel_came_is_deleted_when_the_ledger_says_so(
    broker: Broker,
    peer: Peer,
    workshop: Workshop,
    files: Path,
    reply: ReportReply,
    left: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canceled = False

    def verdict(report: AnyReport) -> ReportReply:
        """The start is answered when the cancel is there: every image comes after it."""
        nonlocal canceled
        canceled = canceled or report.kind == "cancel_confirmed"
        if report.kind == "asset_completed":
            return reply if canceled else ACCEPTED
        return ReportReply(accepted=True, cancel_requested=report.kind == "started")

    peer.verdict = verdict
    monkeypatch.setattr(Attempt, "_canceled", lambda _self: False)  # as after the last step: too late to stop
    async with working(broker, workshop):
        await peer.dispatch(an_order(1))
        await peer.until_acked()
    assert peer.kinds() == ["started", "cancel_confirmed", "asset_completed"]
    assert len(stored(files)) == left


async def test_a_heartbeat_brings_a_cancel_whose_message_was_lost(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    peer.verdict = refusing("heartbeat", ReportReply(accepted=True, cancel_requested=True))
    async with working(broker, workshop, heartbeat_s=0.1):
        await peer.dispatch(an_order(steps=LONG))
        await peer.until_acked()
    assert peer.kinds() == ["started", "cancel_confirmed"]


async def test_the_order_is_kept_until_an_unavailable_ledger_is_back(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    away = ReportReply(accepted=False, code=wire.UNAVAILABLE)
    peer.verdict = refusing("asset_completed", away, index=2)
    async with working(broker, workshop):
        await peer.dispatch(an_order(3))
        await peer.until(
            lambda peer: [r.index for r in peer.reports if isinstance(r, AssetCompletedReport)].count(2) > 2
        )
        assert await peer.orders_left() == 1
        peer.verdict = lambda _report: ACCEPTED
        await peer.until_acked()
    sent = [report for report in peer.reports if isinstance(report, AssetCompletedReport) and report.index == 2]
    assert all(report == sent[0] for report in sent)


async def test_an_image_of_an_earlier_attempt_stays_as_it_is(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    earlier, order = an_order(1), an_order(3, attempt=2)
    async with working(broker, workshop):
        await peer.dispatch(earlier)
        await peer.until_acked()
        content = (files / earlier.outputs[0].path).read_bytes()
        there = files / order.outputs[1].path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)
        await peer.dispatch(order)
        await peer.until_acked()
    report = next(
        r for r in peer.reports if isinstance(r, AssetCompletedReport) and r.job_id == order.job_id and r.index == 1
    )
    assert report.completed.sha256 == hashlib.sha256(content).hexdigest()
    assert there.read_bytes() == content


async def test_one_broken_file_does_not_fail_its_siblings(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    order = an_order(3)
    there = files / order.outputs[1].path
    there.parent.mkdir(parents=True)
    there.write_bytes(b"\x89PNG cut off")
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    failed = [report for report in peer.reports if isinstance(report, AssetFailedReport)]
    assert [(report.index, report.error.error_class) for report in failed] == [(1, ErrorClass.INTERNAL)]
    assert order.outputs[1].path in failed[0].error.message
    assert sorted(completed(peer)) == [0, 2]


@pytest.mark.parametrize(
    ("order", "error_class", "words"),
    [
        (an_order(model="gone"), ErrorClass.MODEL_UNAVAILABLE, "nowhere"),
        (an_order(model="flux"), ErrorClass.MODEL_UNAVAILABLE, "DARKROOM_MODELS"),
        (an_order(steps=0), ErrorClass.INVALID_INPUT, "steps"),
    ],
)
async def test_a_render_that_cannot_be_fails_the_attempt_and_the_worker_goes_on(
    broker: Broker, peer: Peer, workshop: Workshop, order: WorkOrder, error_class: ErrorClass, words: str
) -> None:
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
        assert [report.error.error_class for report in failures(peer)] == [error_class]
        assert words in failures(peer)[0].error.message
        await peer.dispatch(an_order(1))
        await peer.until(lambda peer: 0 in completed(peer))


async def test_an_object_store_that_is_away_fails_the_attempt_for_now(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    (files / "images").write_bytes(b"where the bucket's folder should be")
    async with working(broker, workshop):
        await peer.dispatch(an_order())
        await peer.until_acked()
    assert [report.error.error_class for report in failures(peer)] == [ErrorClass.TRANSIENT]


async def test_an_order_that_cannot_be_read_does_not_stop_the_queue(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    async with working(broker, workshop):
        await peer.connection.jetstream().publish("work.sdxl.what.1", b'{"job_id": "no"}')
        await peer.dispatch(an_order(1))
        await peer.until_acked()
    assert sorted(completed(peer)) == [0]


async def test_a_worker_asked_to_stop_gives_its_job_back(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    async with working(broker, workshop) as stop:
        await in_work(peer, an_order(steps=LONG))
        stop()
        await peer.until(lambda peer: "attempt_released" in peer.kinds())
        await peer.until_acked()


async def test_a_worker_waits_for_a_queue_that_is_not_there_yet(broker: Broker, workshop: Workshop) -> None:
    async with peer_of(broker) as peer, working(broker, workshop):
        await peer.make_queue()
        await peer.dispatch(an_order(1))
        await peer.until(lambda peer: 0 in completed(peer))


Crash = Callable[[Broker, Peer], Awaitable[None]]


async def crash(broker: Broker, _peer: Peer) -> None:
    broker.kill()
    broker.start()


async def crash_and_forget(broker: Broker, peer: Peer) -> None:
    """Everything in NATS is lost; the dispatcher makes its queue again, as it does from the ledger."""
    broker.kill(forget=True)
    broker.start()
    await peer.until_reconnected()
    await peer.make_queue()


@pytest.mark.parametrize("crash", [crash, crash_and_forget])
async def test_a_job_outlives_a_crash_of_nats(broker: Broker, peer: Peer, workshop: Workshop, crash: Crash) -> None:
    async with working(broker, workshop):
        await in_work(peer, an_order(2, steps=100))
        assert peer.kinds() == ["started"]
        await crash(broker, peer)
        await peer.until(lambda peer: sorted(completed(peer)) == [0, 1])
        following = an_order(1)
        await peer.dispatch(following)
        await peer.until(lambda peer: any(report.job_id == following.job_id for report in peer.reports))
        await peer.until_acked()


def guided(files: Path, *references: Reference, quantity: int = 1, **saved: Any) -> WorkOrder:
    """An order whose references are one picture that lies in the object store; `saved` goes into its file."""
    picture = files / "uploads" / "ada" / "red.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (90, 60), (200, 30, 30)).save(picture, **saved)
    file = InputFile(
        kind="image",
        media_type="image/png",
        sha256=hashlib.sha256(picture.read_bytes()).hexdigest(),
        path=picture.relative_to(files).as_posix(),
    )
    order = an_order(quantity)
    task = Task.IMAGE_TO_IMAGE if len(references) == 1 else Task.MULTI
    changes = {"task": task, "references": references, "files": {each.source: file for each in references}}
    return order.model_copy(update={"recipe": order.recipe.model_copy(update=changes)})


async def test_a_composition_from_the_object_store_decides_the_picture(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    composition = Reference(type="composition", source="media:1", strength=0.8)
    order, plain = guided(files, composition), an_order(1)
    async with working(broker, workshop):
        for each in (order, plain):
            await peer.dispatch(each)
            await peer.until_acked()
    image, other = (read_image((files / each.outputs[0].path).read_bytes()) for each in (order, plain))
    assert image.size == (64, 64)
    assert image.tobytes() != other.tobytes()


async def test_what_a_picture_says_and_is_not_read_so_is_in_the_ledger_before_it_is_rendered(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    composition = Reference(type="composition", source="media:1", strength=0.8)
    async with working(broker, workshop):
        await peer.dispatch(guided(files, composition, icc_profile=b"no profile at all"))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note", "asset_completed"]
    [note] = [report.note for report in peer.reports if isinstance(report, NoteReport)]
    assert isinstance(note, JobWarned)
    assert (note.code, note.detail.startswith("media:1 has a colour profile that is broken")) == (
        "colour_profile_ignored",
        True,
    )


async def test_a_reference_that_changed_since_fails_the_job_for_good(
    broker: Broker, peer: Peer, workshop: Workshop, files: Path
) -> None:
    order = guided(files, Reference(type="composition", source="media:1", strength=0.8))
    (files / "uploads" / "ada" / "red.png").write_bytes(b"another picture")
    async with working(broker, workshop):
        await peer.dispatch(order)
        await peer.until_acked()
    assert [report.error.error_class for report in failures(peer)] == [ErrorClass.INVALID_INPUT]
    context = failures(peer)[0].error.context
    assert context is not None
    assert (context.exception, context.worker) == ("gpu_worker.engines.InvalidRequest", "worker-1")
    assert "gpu_worker/workshop.py:" in context.stack
    assert sorted(context.versions) == ["darkroom", "diffusers", "torch"]


async def test_a_smaller_memory_profile_is_in_the_ledger_before_rendering_goes_on(
    broker: Broker, peer: Peer, workshop: Workshop, own_engine: SdxlEngine
) -> None:
    memory, passes_when_told = Memory(own_engine, images_max=1), []

    def verdict(report: AnyReport) -> ReportReply:
        if isinstance(report, NoteReport):
            passes_when_told.append(len(memory.fitted))
        return ACCEPTED

    peer.verdict = verdict
    async with working(broker, workshop):
        await peer.dispatch(an_order(2))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note", "asset_completed", "asset_completed"]
    note = next(report.note for report in peer.reports if isinstance(report, NoteReport))
    assert isinstance(note, JobMemoryLowered)
    assert (note.attempt, note.profile) == (1, "1 image a call")
    assert note.error.startswith("CUDA out of memory")
    assert passes_when_told == [0]
    assert len(memory.fitted) == 4


async def test_a_refused_note_ends_the_attempt(
    broker: Broker, peer: Peer, workshop: Workshop, own_engine: SdxlEngine
) -> None:
    memory = Memory(own_engine, images_max=1)
    peer.verdict = refusing("note", SUPERSEDED)
    async with working(broker, workshop):
        await peer.dispatch(an_order(2))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note"]
    assert memory.fitted == []


async def test_an_image_that_overflows_is_reported_and_its_siblings_are_completed(
    broker: Broker, peer: Peer, workshop: Workshop, own_engine: SdxlEngine
) -> None:
    decoded: list[object] = []

    def decode(_decoder: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        decoded.append(inputs)
        return (inputs[0] * float("nan"),) if len(decoded) == 2 else inputs

    own_engine._pipeline.vae.decoder.register_forward_pre_hook(decode)
    async with working(broker, workshop):
        await peer.dispatch(an_order(3))
        await peer.until_acked()
    assert sorted(completed(peer)) == [0, 2]
    failed = [report for report in peer.reports if isinstance(report, AssetFailedReport)]
    assert [report.index for report in failed] == [1]
    assert failed[0].error.error_class is ErrorClass.INTERNAL
    assert failed[0].error.message.startswith("The model's arithmetic overflowed")
    context = failed[0].error.context
    assert context is not None
    assert sorted(context.versions) == ["darkroom", "diffusers", "model", "torch"]


UNACCEPTABLE = [
    ReportReply(accepted=False, code="event_too_large", detail="This would be recorded as 1 MB."),
    ReportReply(accepted=False, code="invalid_input", detail="media_type: must be one of image/png."),
    ReportReply(accepted=False, code="invalid_report", detail="The report does not fit this version."),
]


@pytest.mark.parametrize("reply", UNACCEPTABLE, ids=lambda reply: str(reply.code))
async def test_an_image_whose_report_is_not_taken_fails_and_its_siblings_are_completed(
    broker: Broker, peer: Peer, workshop: Workshop, reply: ReportReply
) -> None:
    peer.verdict = refusing("asset_completed", reply, index=1)
    async with working(broker, workshop):
        await peer.dispatch(an_order(3))
        await peer.until_acked()
    assert sorted(completed(peer)) == [0, 1, 2]
    (failed,) = [report for report in peer.reports if isinstance(report, AssetFailedReport)]
    assert failed.index == 1
    assert str(reply.detail) in failed.error.message


async def test_a_note_that_is_not_taken_fails_the_attempt_and_says_why(
    broker: Broker, peer: Peer, workshop: Workshop, own_engine: SdxlEngine
) -> None:
    Memory(own_engine, images_max=1)
    peer.verdict = refusing("note", UNACCEPTABLE[0])
    async with working(broker, workshop):
        await peer.dispatch(an_order(2))
        await peer.until_acked()
    assert peer.kinds() == ["started", "note", "attempt_failed"]
    assert "This would be recorded as 1 MB." in failures(peer)[0].error.message


async def test_an_error_that_is_not_taken_is_reported_again_without_its_context(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    def verdict(report: AnyReport) -> ReportReply:
        is_long = isinstance(report, AttemptFailedReport) and report.error.context is not None
        return UNACCEPTABLE[0] if is_long else ACCEPTED

    peer.verdict = verdict
    async with working(broker, workshop):
        await peer.dispatch(an_order(1, model="gone"))
        await peer.until_acked()
    first, second = failures(peer)
    assert second.error.error_class is first.error.error_class is ErrorClass.MODEL_UNAVAILABLE
    assert "This would be recorded as 1 MB." in second.error.message


async def test_a_report_that_makes_the_recorder_fail_is_given_up_after_some_tries(
    broker: Broker, peer: Peer, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_worker.backoff.WAIT_MAX_S", 0.02)
    peer.verdict = refusing("asset_completed", ReportReply(accepted=False, code="recorder_failed"), index=0)
    async with working(broker, workshop):
        await peer.dispatch(an_order(2))
        await peer.until_acked()
    tries = [report for report in peer.reports if isinstance(report, AssetCompletedReport) and report.index == 0]
    assert len(tries) == FAILURES_MAX
    assert [report.index for report in peer.reports if isinstance(report, AssetFailedReport)] == [0]
    assert 1 in completed(peer)


async def test_a_heartbeat_that_is_not_taken_stops_nothing(broker: Broker, peer: Peer, workshop: Workshop) -> None:
    peer.verdict = refusing("heartbeat", ReportReply(accepted=False, code="recorder_failed"))
    async with working(broker, workshop, heartbeat_s=0.05):
        await peer.dispatch(an_order(2, steps=8))
        await peer.until_acked()
    assert sorted(completed(peer)) == [0, 1]


async def test_an_order_of_another_version_fails_its_attempt_instead_of_coming_again_for_ever(
    broker: Broker, peer: Peer, workshop: Workshop
) -> None:
    order = an_order(1)
    async with working(broker, workshop):
        subject = wire.work_subject(order.pool, order.job_id, order.attempt)
        content = order.model_dump_json()[:-1] + ', "colour": "red"}'
        await peer.connection.jetstream().publish(subject, content.encode())
        await peer.until_acked()
    assert peer.kinds() == ["started", "attempt_failed"]
    (failed,) = failures(peer)
    assert (failed.job_id, failed.error.error_class) == (order.job_id, ErrorClass.TRANSIENT)
    assert "another version" in failed.error.message
