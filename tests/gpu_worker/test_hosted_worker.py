"""A worker with a hosted model, from the order to the file: ids are in the ledger first, and no death pays twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from domain.events import ErrorClass, JobHandedOver
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
from tests.gpu_worker.hosting import TOKEN, Fault, Hosting, Plan
from tests.gpu_worker.peers import ACCEPTED, PATIENCE_S, SUPERSEDED, Broker, Peer, an_order, peer_of

ROOT = Path(__file__).parents[2]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["diffusers"] = sys.modules["transformers"] = None  # importing them fails
from gpu_worker.__main__ import main
main([])
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def peer(broker: Broker) -> AsyncIterator[Peer]:
    async with peer_of(broker) as peer:
        await peer.make_queue("hosted")
        yield peer


@pytest.fixture
def hosting() -> Iterator[Hosting]:
    with Hosting() as hosting:
        yield hosting


class Worker:
    """Starts worker processes that have Replicate's model alone, and no torch at all."""

    def __init__(self, broker: Broker, hosting: Hosting, folder: Path) -> None:
        self.files = folder / "blobs"
        self.log = folder / "worker.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")},
            "DARKROOM_NATS_URL": broker.url,
            "DARKROOM_BLOBS_URL": self.files.as_uri(),
            "DARKROOM_POOLS": "hosted",
            "DARKROOM_MODELS": "flux=replicate:black-forest-labs/flux-schnell",
            "DARKROOM_REPLICATE_URL": hosting.url,
            "REPLICATE_API_TOKEN": TOKEN,
        }

    @contextmanager
    def running(self, jobs_at_once: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
        environment = {**self._environment, "DARKROOM_JOBS_AT_ONCE": str(jobs_at_once)}
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", WITHOUT_TORCH], env=environment, cwd=ROOT, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_S)


@pytest.fixture
def worker(broker: Broker, hosting: Hosting, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(broker, hosting, tmp_path)
    yield worker
    assert TOKEN not in (worker.log.read_text() if worker.log.exists() else "")


def a_hosted_order(quantity: int, *, attempt: int = 1) -> WorkOrder:
    return an_order(quantity, model="flux", attempt=attempt).model_copy(update={"pool": "hosted"})


def next_attempt(order: WorkOrder, peer: Peer) -> WorkOrder:
    """What the dispatcher makes of the job after the notes that the ledger has."""
    ids = {note.index: note.provider_id for note in handed_over(peer)}
    outputs = tuple(one.model_copy(update={"provider_id": ids.get(one.index)}) for one in order.outputs)
    return order.model_copy(update={"attempt": order.attempt + 1, "outputs": outputs})


def handed_over(peer: Peer) -> list[JobHandedOver]:
    return [
        report.note
        for report in peer.reports
        if isinstance(report, NoteReport) and isinstance(report.note, JobHandedOver)
    ]


@asynccontextmanager
async def dying(worker: Worker, how: signal.Signals) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """A worker that learns to end, or killed, at the end of the block."""
    with worker.running() as process:
        yield process
        process.send_signal(how)
        await asyncio.to_thread(process.wait, PATIENCE_S)


async def test_three_images_of_a_provider_become_files(
    broker: Broker, peer: Peer, hosting: Hosting, worker: Worker
) -> None:
    order = a_hosted_order(3)
    with worker.running():
        await peer.dispatch(order)
        await peer.until_acked()
    assert peer.kinds() == ["started", *["note"] * 4, *["asset_completed"] * 3]  # three orders, and what is ignored
    assert [(note.index, note.provider, note.provider_id) for note in handed_over(peer)] == [
        (n, "replicate", f"p{n:03}") for n in range(3)
    ]
    reports = {report.index: report for report in peer.reports if isinstance(report, AssetCompletedReport)}
    for output in order.outputs:
        image = read_image((worker.files / output.path).read_bytes())
        assert image.getpixel((0, 0)) == (output.seed, 0, 99)
        fact = reports[output.index].completed
        assert (fact.width, fact.height, fact.media_type, fact.render_ms) == (64, 64, "image/png", 1250)
        assert fact.worker_versions["model"] == "replicate:black-forest-labs/flux-schnell"
    assert (peer.progress[-1].step, peer.progress[-1].total) == (6, 6)


async def test_no_id_is_asked_for_before_the_ledger_has_it(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    polls: list[int] = []

    def verdict(report: AnyReport) -> ReportReply:
        if isinstance(report, NoteReport) and isinstance(report.note, JobHandedOver):
            polls.append(hosting.polls(report.note.provider_id))
            if len(polls) == 1:
                return ReportReply(accepted=False, code=wire.UNAVAILABLE)  # the worker has to tell it again
        return ACCEPTED

    peer.verdict = verdict
    with worker.running():
        await peer.dispatch(a_hosted_order(1))
        await peer.until_acked()
    assert polls == [0, 0]
    assert len(hosting.orders()) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_ends_in_mid_job_pays_once(
    peer: Peer, hosting: Hosting, worker: Worker, how: signal.Signals
) -> None:
    order = a_hosted_order(2)
    hosting.plans.extend([Plan(end="never"), Plan(end="never")])
    async with dying(worker, how):
        await peer.dispatch(order)
        await asyncio.to_thread(hosting.until, lambda: hosting.polls("p001") > 0)
    assert len(handed_over(peer)) == 2
    assert hosting.cancels() == []
    for prediction in hosting.predictions.values():
        prediction.plan = Plan()
    following = next_attempt(order, peer)
    assert [output.provider_id for output in following.outputs] == ["p000", "p001"]
    with worker.running():
        await peer.dispatch(following)
        await peer.until(lambda peer: peer.kinds().count("asset_completed") == 2)
    assert len(hosting.orders()) == 2


async def test_a_canceled_job_is_canceled_at_the_provider(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    order = a_hosted_order(2)
    hosting.plans.extend([Plan(end="never"), Plan(end="never")])
    with worker.running():
        await peer.dispatch(order)
        await asyncio.to_thread(hosting.until, lambda: hosting.polls("p001") > 0)
        await peer.connection.publish(wire.cancel_subject(peer.senders[-1], order.job_id), wire.CANCEL)
        await peer.until(lambda peer: "cancel_confirmed" in peer.kinds())
    assert sorted(hosting.cancels()) == ["p000", "p001"]


async def test_several_jobs_at_once_are_each_their_own(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    orders = [a_hosted_order(1) for _ in range(3)]
    hosting.plans.extend([Plan(end="never")] * 3)
    with worker.running(jobs_at_once=3):
        for order in orders:
            await peer.dispatch(order)
        await asyncio.to_thread(hosting.until, lambda: all(hosting.polls(f"p{n:03}") > 0 for n in range(3)))
        starters = {
            report.job_id: sender
            for report, sender in zip(peer.reports, peer.senders, strict=True)
            if report.kind == "started"
        }
        assert {name.rpartition(".")[2] for name in starters.values()} == {"1", "2", "3"}
        notes = (report for report in peer.reports if isinstance(report, NoteReport))
        canceled, *others = (note for note in notes if isinstance(note.note, JobHandedOver))
        subject = wire.cancel_subject(starters[canceled.job_id], canceled.job_id)
        await peer.connection.publish(subject, wire.CANCEL)
        await peer.until(lambda peer: "cancel_confirmed" in peer.kinds())
        for prediction in hosting.predictions.values():
            prediction.plan = Plan()
        await peer.until_acked()
    assert hosting.cancels() == [canceled.note.provider_id]
    assert sorted(report.job_id for report in peer.reports if report.kind == "asset_completed") == sorted(
        note.job_id for note in others
    )


async def test_several_jobs_at_once_are_all_given_back(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    orders = [a_hosted_order(1) for _ in range(2)]
    hosting.plans.extend([Plan(end="never")] * 2)
    with worker.running(jobs_at_once=2) as process:
        for order in orders:
            await peer.dispatch(order)
        await asyncio.to_thread(hosting.until, lambda: hosting.polls("p000") > 0 and hosting.polls("p001") > 0)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        await peer.until_acked()
    released = [report.job_id for report in peer.reports if report.kind == "attempt_released"]
    assert sorted(released) == sorted(order.job_id for order in orders)
    assert hosting.cancels() == []


async def test_an_order_of_a_superseded_attempt_is_canceled(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    hosting.plans.append(Plan(end="never"))

    def verdict(report: AnyReport) -> ReportReply:
        is_order = isinstance(report, NoteReport) and isinstance(report.note, JobHandedOver)
        return SUPERSEDED if is_order else ACCEPTED

    peer.verdict = verdict
    with worker.running():
        await peer.dispatch(a_hosted_order(2))
        await peer.until_acked()
    assert hosting.cancels() == ["p000"]
    assert len(hosting.orders()) == 1


async def test_one_failed_prediction_fails_its_asset_alone(peer: Peer, hosting: Hosting, worker: Worker) -> None:
    hosting.plans.extend([Plan(), Plan(end="failed"), Plan(end="filtered")])
    with worker.running():
        await peer.dispatch(a_hosted_order(3))
        await peer.until_acked()
    failed = {report.index: report.error for report in peer.reports if isinstance(report, AssetFailedReport)}
    assert failed[1].error_class is ErrorClass.INTERNAL
    assert "CUDA went away" in failed[1].message
    assert failed[2].error_class is ErrorClass.INVALID_INPUT
    assert peer.kinds().count("asset_completed") == 1


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (500, ErrorClass.TRANSIENT),
        (401, ErrorClass.MODEL_UNAVAILABLE),
        (402, ErrorClass.MODEL_UNAVAILABLE),
        (422, ErrorClass.INVALID_INPUT),
    ],
)
async def test_what_the_provider_refuses_has_its_class_in_the_ledger(
    peer: Peer, hosting: Hosting, worker: Worker, status: int, error_class: ErrorClass
) -> None:
    hosting.faults.append(Fault("POST", "", status, {}, json.loads('{"detail": "no"}')))
    with worker.running():
        await peer.dispatch(a_hosted_order(1))
        await peer.until_acked()
    failed = [report for report in peer.reports if isinstance(report, AttemptFailedReport)]
    assert [report.error.error_class for report in failed] == [error_class]
    assert "Traceback" not in worker.log.read_text()
