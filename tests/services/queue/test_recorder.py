"""Workers' reports come into the ledger, once; the answer comes after the commit."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.events import ErrorClass, Failure
from services import database as databases
from services.database import Database
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.messaging.wire import (
    AnyReport,
    AssetCompletedReport,
    AssetFailedReport,
    AttemptFailedReport,
    AttemptReleasedReport,
    CancelConfirmedReport,
    HeartbeatReport,
    ReportReply,
    StartedReport,
    report_subject,
)
from services.queue.report_handler import ReportHandler
from tests.histories import Story, Views, append_raw
from tests.services.beside import opened, running, settled, until
from tests.services.commits import WAIT_S_MAX
from tests.spec import CANCEL, INVALID_INPUT, OUT_OF_MEMORY, WORKER, expire, file_of, start

ACCEPTED = ReportReply(accepted=True)
LEASE_S = 30.0


@pytest.fixture
def reports(database: Database, ledger: Ledger, broker: Broker) -> ReportHandler:
    """Who takes the workers' reports."""
    return ReportHandler(database, ledger, broker, LEASE_S)


def about(job_id: UUID, attempt: int = 1) -> dict[str, Any]:
    """What every report says."""
    return {"job_id": job_id, "attempt": attempt}


def completed(job_id: UUID, index: int, attempt: int = 1) -> AssetCompletedReport:
    """The file of one asset exists."""
    return AssetCompletedReport(**about(job_id, attempt), index=index, completed=file_of(index, attempt))


def happened(ledger: Ledger, after: int) -> list[str]:
    """The names of the events after a position."""
    return [event.name for event in ledger.read(after, 100) if hasattr(event, "name")]


def leases(views: Views) -> list[tuple[UUID, int, str, bool]]:
    """Job, attempt, worker, and whether it runs for about a whole lease from now."""
    fresh = "expires_at > clock_timestamp() + make_interval(secs => 25)"
    return views.ask(f"select job_id, attempt, worker, {fresh} from leases order by job_id")


# Each report.


KINDS: dict[str, tuple[Callable[[UUID], AnyReport], list[str]]] = {
    "asset completed": (lambda job_id: completed(job_id, 1), ["asset.completed"]),
    "asset failed": (
        lambda job_id: AssetFailedReport(**about(job_id), index=0, error=INVALID_INPUT),
        ["asset.failed"],
    ),
    "attempt failed": (lambda job_id: AttemptFailedReport(**about(job_id), error=OUT_OF_MEMORY), ["job.requeued"]),
    "attempt failed for good": (
        lambda job_id: AttemptFailedReport(**about(job_id), error=INVALID_INPUT),
        ["asset.failed", "asset.failed", "asset.failed", "job.failed"],
    ),
    "attempt released": (lambda job_id: AttemptReleasedReport(**about(job_id)), ["job.requeued"]),
    "cancel confirmed": (lambda job_id: CancelConfirmedReport(**about(job_id)), ["job.requeued"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_report_comes_into_the_ledger_under_its_workers_name(
    ledger: Ledger, story: Story, reports: ReportHandler, kind: str
) -> None:
    job_id = story.submit(3)
    assert reports.record(StartedReport(**about(job_id)), "gpu-7") == ACCEPTED
    head = ledger.head()
    make, events = KINDS[kind]
    assert reports.record(make(job_id), "gpu-7") == ACCEPTED
    assert happened(ledger, head) == events
    assert {event.envelope.actor for event in ledger.read(head, 100) if hasattr(event, "envelope")} == {"gpu-7"}


def test_a_job_is_reported_from_start_to_end(
    ledger: Ledger, story: Story, reports: ReportHandler, views: Views
) -> None:
    job_id = story.submit(3)
    told: list[AnyReport] = [StartedReport(**about(job_id)), *(completed(job_id, index) for index in range(3))]
    assert [reports.record(report, WORKER) for report in told] == [ACCEPTED] * 4
    assert happened(ledger, 4) == ["job.started", *["asset.completed"] * 3, "job.succeeded"]
    assert leases(views) == []


@pytest.mark.parametrize("last", [0, 2], ids=["in the middle", "at the end"])
def test_a_repeat_is_answered_like_the_first_and_changes_nothing(
    ledger: Ledger, story: Story, reports: ReportHandler, last: int
) -> None:
    job_id = story.submit(3)
    told: list[AnyReport] = [StartedReport(**about(job_id)), *(completed(job_id, index) for index in range(last + 1))]
    if last == 0:
        told.append(AssetFailedReport(**about(job_id), index=1, error=INVALID_INPUT))
    for report in told:
        assert reports.record(report, WORKER) == ACCEPTED
    head = ledger.head()
    repeats = told if last == 0 else told[1:]  # a job that ended cannot start
    assert [reports.record(report, WORKER) for report in repeats] == [ACCEPTED] * len(repeats)
    assert ledger.head() == head


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_attempt_is_refused_and_changes_nothing(
    ledger: Ledger, story: Story, reports: ReportHandler, views: Views, kind: str
) -> None:
    job_id = story.submit(3)
    reports.record(StartedReport(**about(job_id)), WORKER)
    story.tell(job_id, expire(1))
    assert reports.record(StartedReport(**about(job_id, 2)), "gpu-2") == ACCEPTED
    head = ledger.head()
    late = reports.record(KINDS[kind][0](job_id), WORKER)
    assert (late.accepted, late.code, bool(late.detail)) == (False, "attempt_superseded", True)
    assert ledger.head() == head
    assert leases(views) == [(job_id, 2, "gpu-2", True)]


def test_a_job_that_is_taken_or_gone_cannot_start(story: Story, reports: ReportHandler) -> None:
    taken, canceled = story.submit(1), story.submit(1)
    reports.record(StartedReport(**about(taken)), WORKER)
    story.tell(canceled, CANCEL)
    codes = [reports.record(StartedReport(**about(job_id)), "gpu-2").code for job_id in (taken, canceled, uuid4())]
    assert codes == ["job_not_startable", "job_not_startable", "not_found"]


# Leases.


@pytest.mark.parametrize("projected", [True, False], ids=["seen by the views", "before the views see the job"])
def test_a_heartbeat_renews_the_lease(story: Story, reports: ReportHandler, views: Views, *, projected: bool) -> None:
    job_id = story.submit(1)
    reports.record(StartedReport(**about(job_id)), WORKER)
    if projected:
        views.catch_up()
    assert leases(views) == [(job_id, 1, WORKER, True)]
    views.ask("update leases set expires_at = clock_timestamp()")
    assert reports.record(HeartbeatReport(**about(job_id)), WORKER) == ACCEPTED
    assert leases(views) == [(job_id, 1, WORKER, True)]


def test_a_heartbeat_grants_a_lease_that_was_never_written(story: Story, reports: ReportHandler, views: Views) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1))
    assert reports.record(HeartbeatReport(**about(job_id)), WORKER) == ACCEPTED
    assert leases(views) == [(job_id, 1, WORKER, True)]


def test_a_cancel_request_comes_back_with_the_next_answer(story: Story, reports: ReportHandler, views: Views) -> None:
    job_id = story.submit(3)
    reports.record(StartedReport(**about(job_id)), WORKER)
    story.tell(job_id, CANCEL)
    views.catch_up()
    asked = ReportReply(accepted=True, cancel_requested=True)
    assert reports.record(HeartbeatReport(**about(job_id)), WORKER) == asked
    assert reports.record(completed(job_id, 0), WORKER) == asked
    assert reports.record(CancelConfirmedReport(**about(job_id)), WORKER) == ACCEPTED
    assert leases(views) == []


@pytest.mark.parametrize("restarted", [True, False], ids=["with a new attempt", "while the job waits"])
def test_a_heartbeat_of_a_superseded_attempt_is_refused(
    story: Story, reports: ReportHandler, views: Views, *, restarted: bool
) -> None:
    job_id = story.submit(1)
    reports.record(StartedReport(**about(job_id)), WORKER)
    story.tell(job_id, expire(1))
    if restarted:
        reports.record(StartedReport(**about(job_id, 2)), "gpu-2")
    views.catch_up()
    reply = reports.record(HeartbeatReport(**about(job_id)), WORKER)
    assert (reply.accepted, reply.code) == (False, "attempt_superseded")


def test_a_heartbeat_of_a_job_that_ended_is_refused(story: Story, reports: ReportHandler, views: Views) -> None:
    job_id = story.finished(1)
    views.catch_up()
    assert reports.record(HeartbeatReport(**about(job_id)), WORKER).code == "attempt_superseded"
    assert reports.record(HeartbeatReport(**about(uuid4())), WORKER).code == "not_found"
    assert leases(views) == []


# Trouble.


def test_without_postgres_every_report_is_to_be_sent_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "CHECKOUT_S_MAX", 0.2)
    nowhere = "host=/nonexistent dbname=darkroom"
    with Database(nowhere) as database, Ledger(PostgresRecorder(database, Flusher(nowhere))) as ledger:
        gone = ReportHandler(database, ledger, broker, LEASE_S)
        job_id = uuid4()
        for report in (StartedReport(**about(job_id)), completed(job_id, 0), HeartbeatReport(**about(job_id))):
            reply = gone.record(report, WORKER)
            assert (reply.accepted, reply.code) == (False, "unavailable")


@pytest.mark.parametrize("kind", [*KINDS, "heartbeat"])
def test_what_another_worker_says_of_an_attempt_changes_nothing(
    ledger: Ledger, story: Story, reports: ReportHandler, views: Views, kind: str
) -> None:
    job_id = story.submit(3)
    reports.record(StartedReport(**about(job_id)), WORKER)
    views.catch_up()
    before = ledger.head(), leases(views)
    forged = HeartbeatReport(**about(job_id)) if kind == "heartbeat" else KINDS[kind][0](job_id)
    reply = reports.record(forged, "thief.gpu-1")
    assert (reply.accepted, reply.code) == (False, "attempt_of_another")
    assert (ledger.head(), leases(views)) == before


# Over NATS.


async def ask(broker: Broker, data: bytes) -> ReportReply:
    """What a worker is answered."""
    message = await broker.client.request(report_subject(WORKER), data, timeout=WAIT_S_MAX)
    return ReportReply.model_validate_json(message.data)


async def listening(broker: Broker) -> None:
    """Wait until somebody takes reports: what is asked before is answered by nobody."""
    await until(lambda: broker.client._subs)
    await settled(broker.client)


async def test_the_answer_comes_after_the_commit(
    ledger: Ledger, story: Story, reports: ReportHandler, broker: Broker, nats_url: str
) -> None:
    job_id = story.submit(3)
    async with running(reports.run), opened(nats_url, "worker") as worker:
        await listening(broker)
        for report in (StartedReport(**about(job_id)), *(completed(job_id, index) for index in range(3))):
            head = ledger.head()
            assert await ask(worker, report.model_dump_json().encode()) == ACCEPTED
            assert ledger.head() > head


async def test_of_several_recorders_one_takes_each_report(
    database: Database, ledger: Ledger, story: Story, reports: ReportHandler, broker: Broker, nats_url: str
) -> None:
    jobs = [story.submit(1) for _ in range(10)]
    async with (
        opened(nats_url, "second") as other,
        opened(nats_url, "worker") as worker,
        running(reports.run),
        running(ReportHandler(database, ledger, other, LEASE_S).run),
    ):
        await listening(broker)
        await listening(other)
        for job_id in jobs:
            for report in (StartedReport(**about(job_id)), completed(job_id, 0)):
                assert await ask(worker, report.model_dump_json().encode()) == ACCEPTED
    assert happened(ledger, 20) == ["job.started", "asset.completed", "job.succeeded"] * 10


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"kind": "exploded"}',
        b'{"kind": "heartbeat", "job_id": "7", "attempt": 1}',
        b'{"kind": "heartbeat", "job_id": "6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40", "attempt": 1, "x": 1}',
    ],
)
async def test_junk_is_refused_in_words(reports: ReportHandler, broker: Broker, ledger: Ledger, junk: bytes) -> None:
    async with running(reports.run):
        await listening(broker)
        reply = await ask(broker, junk)
        assert (reply.accepted, reply.code) == (False, "invalid_report")
        assert str(reply.detail).startswith("The report does not fit this version: ")
    assert ledger.head() == 0


async def test_a_job_that_cannot_be_read_does_not_end_the_recorder(
    story: Story, reports: ReportHandler, broker: Broker, recorder: PostgresRecorder
) -> None:
    unreadable, readable = story.submit(1), story.submit(1)
    append_raw(recorder, unreadable, 2, "job.paused.v9", b"{}")
    async with running(reports.run):
        await listening(broker)
        first = await ask(broker, StartedReport(**about(unreadable)).model_dump_json().encode())
        assert (first.accepted, first.code) == (False, "recorder_failed")
        assert await ask(broker, StartedReport(**about(readable)).model_dump_json().encode()) == ACCEPTED


def test_a_failure_is_kept_word_for_word(ledger: Ledger, story: Story, reports: ReportHandler, views: Views) -> None:
    job_id = story.submit(1)
    reports.record(StartedReport(**about(job_id)), WORKER)
    error = Failure(error_class=ErrorClass.INTERNAL, message='A "quoted" \\ line\nand a snowman ☃')
    reports.record(AssetFailedReport(**about(job_id), index=0, error=error), WORKER)
    (row,) = views.catch_up().rows("assets")
    assert row["error"] == error.model_dump(mode="json")
