"""What is too large, too long or damaged is refused at each door, or cut; and no follower is stopped by one item."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from domain.bounds import EVENT_BYTES_MAX, MESSAGE_CHARACTERS_MAX, STACK_CHARACTERS_MAX, shortened
from domain.codec import Codec
from domain.commands import CancelJob
from domain.errors import EventTooLarge, InvalidInput
from domain.events import (
    ErrorClass,
    ErrorContext,
    Failure,
    JobHandedOver,
    JobMemoryLowered,
    JobPromptEnhanced,
)
from domain.recipes.recipe import PROMPT_CHARACTERS_MAX, asset_id
from services.database import Database
from services.ledger import JOB, Context, EventMapper, Ledger, PostgresRecorder
from services.messaging.broker import Broker
from services.messaging.relay import Relay
from services.messaging.wire import (
    ANY_REPORT,
    AssetCompletedReport,
    AssetFailedReport,
    AttemptFailedReport,
    NoteReport,
    ReportReply,
    StartedReport,
    report_subject,
)
from services.observability import parking
from services.queue import dispatcher as dispatchers
from services.queue.dispatcher import Dispatcher
from services.queue.report_handler import ReportHandler, Said
from tests.histories import Story, Views, append_raw
from tests.services.beside import OwnNats, opened, running, settled
from tests.services.commits import WAIT_S_MAX
from tests.services.messaging.test_relay import reached
from tests.services.queue.test_dispatcher import POOL, order_in, workers
from tests.spec import NOW, WORKER, file_of

LEASE_S = 30.0
MEGABYTE = "x" * 1_000_000


@pytest.fixture
def reports(database: Database, ledger: Ledger, broker: Broker) -> ReportHandler:
    """Who takes the workers' reports."""
    return ReportHandler(database, ledger, broker, LEASE_S)


def error_of(message: str = "It broke.", stack: str = "", **versions: str) -> Failure:
    """As a worker reports it."""
    context = ErrorContext(exception="E", stack=stack, worker=WORKER, versions=versions, at=NOW)
    return Failure(error_class=ErrorClass.INTERNAL, message=message, context=context)


def started(story: Story, reports: ReportHandler, quantity: int = 1) -> dict[str, Any]:
    """A job that runs, as every report names it."""
    about = {"job_id": story.submit(quantity), "attempt": 1}
    assert reports.record(StartedReport.model_validate(about), WORKER).accepted
    return about


# An error is cut, never lost.


@given(some.text(max_size=5_000), some.text(max_size=30_000), some.dictionaries(some.text(), some.text(max_size=500)))
def test_a_cut_error_fits_and_keeps_what_says_most(message: str, stack: str, versions: dict[str, str]) -> None:
    context = ErrorContext(exception="E", stack=stack, worker=WORKER, versions=versions, at=NOW)
    error = Failure(error_class=ErrorClass.INTERNAL, message=message, context=context)
    cut = shortened(error)
    assert cut.context is not None
    assert len(cut.message) <= MESSAGE_CHARACTERS_MAX
    assert len(cut.context.stack) <= STACK_CHARACTERS_MAX
    assert cut.context.stack[-100:] == stack.replace("\0", "")[-100:]
    assert shortened(cut) == cut
    assert (cut is error) == (cut == error)


@pytest.mark.parametrize("report", [AssetFailedReport, AttemptFailedReport])
def test_an_error_of_a_megabyte_is_cut_and_ends_the_attempt(
    ledger: Ledger, story: Story, reports: ReportHandler, report: Callable[..., Any]
) -> None:
    about = started(story, reports)
    asset = {"index": 0} if report is AssetFailedReport else {}
    sent = {**about, **asset, "error": error_of(MEGABYTE, MEGABYTE).model_dump(mode="json")}
    kind = "asset_failed" if asset else "attempt_failed"
    read = ANY_REPORT.validate_json(orjson.dumps(sent | {"kind": kind}))  # as another program would send it
    assert reports.record(read, WORKER) == ReportReply(accepted=True)
    assert max(len(event.state) for event in ledger.read_raw(0, 100)) < EVENT_BYTES_MAX


def test_what_a_worker_sends_is_cut_before_it_leaves() -> None:
    report = AttemptFailedReport(job_id=uuid4(), attempt=1, error=error_of(MEGABYTE, MEGABYTE, **{MEGABYTE: MEGABYTE}))
    assert len(report.model_dump_json()) < EVENT_BYTES_MAX
    lowered = JobMemoryLowered(attempt=1, profile="offload", error=MEGABYTE)
    assert len(NoteReport(job_id=uuid4(), attempt=1, note=lowered).model_dump_json()) < EVENT_BYTES_MAX


# Everything else that passes a bound is refused, for good.


NOTES = (
    JobPromptEnhanced(attempt=1, original="fog", enhanced=MEGABYTE, enhancer="rules 1"),
    JobPromptEnhanced(attempt=1, original=MEGABYTE, enhanced="fog", enhancer="rules 1"),
    JobPromptEnhanced(attempt=1, original="fog", enhanced="fog", enhancer=MEGABYTE),
    JobPromptEnhanced(attempt=1, original="fog", enhanced="f\0g", enhancer="rules 1"),
    JobMemoryLowered(attempt=1, profile=MEGABYTE, error=""),
    JobHandedOver(attempt=1, index=0, provider="fal", provider_id=MEGABYTE),
    JobHandedOver(attempt=1, index=0, provider=MEGABYTE, provider_id="7"),
    JobHandedOver(attempt=1, index=2**60, provider="fal", provider_id="7"),
)


@pytest.mark.parametrize("note", NOTES, ids=range(len(NOTES)))
def test_a_note_that_passes_a_bound_is_refused_and_nothing_is_kept_of_it(
    ledger: Ledger, story: Story, reports: ReportHandler, note: Any
) -> None:
    about = started(story, reports)
    before = ledger.head()
    reply = reports.record(NoteReport(**about, note=note), WORKER)
    assert (reply.accepted, reply.code) == (False, "invalid_input")
    assert len(reply.detail or "") < 1_000
    assert ledger.head() == before


WRONG_FILES: tuple[dict[str, Any], ...] = (
    {"media_type": "text/html"},
    {"media_type": "image/svg+xml"},
    {"media_type": "image/png\r\nX-Evil: 1"},
    {"media_type": "IMAGE/PNG"},
    {"media_type": "application/octet-stream"},
    {"media_type": ""},
    {"media_type": "video/mp4"},
    {"media_type": "audio/mpeg"},
    {"media_type": MEGABYTE},
    {"worker_versions": {"torch": MEGABYTE}},
    {"worker_versions": {str(number): "1" for number in range(10_000)}},
    {"bytes": 2**70},
    {"width": 2**40},
    {"fps": float("inf")},
    {"render_ms": 2**64},
)


@pytest.mark.parametrize("wrong", WRONG_FILES, ids=range(len(WRONG_FILES)))
def test_a_file_that_no_event_may_describe_so_is_refused(
    ledger: Ledger, story: Story, reports: ReportHandler, wrong: dict[str, Any]
) -> None:
    about = started(story, reports)
    before = ledger.head()
    completed = file_of(0, 1).model_copy(update=wrong)
    reply = reports.record(AssetCompletedReport(**about, index=0, completed=completed), WORKER)
    assert (reply.accepted, reply.code) == (False, "invalid_input")
    assert ledger.head() == before
    assert reports.record(AssetCompletedReport(**about, index=0, completed=file_of(0, 1)), WORKER).accepted


def test_one_refused_report_of_a_group_leaves_the_others(ledger: Ledger, story: Story, reports: ReportHandler) -> None:

    first, second = started(story, reports), started(story, reports)
    wrong = file_of(0, 1).model_copy(update={"media_type": "text/html"})
    replies = reports.record_each(
        [
            Said(AssetCompletedReport(**first, index=0, completed=wrong), WORKER),
            Said(AssetCompletedReport(**second, index=0, completed=file_of(0, 1)), WORKER),
        ]
    )
    assert [reply.accepted for reply in replies] == [False, True]


def test_an_event_that_is_too_large_as_a_whole_is_refused_before_the_commit(ledger: Ledger, story: Story) -> None:
    params = {f"p{number}": "x" * 9_000 for number in range(40)}  # each within its bound
    with pytest.raises(EventTooLarge) as caught:
        story.submit(params=params)
    assert caught.value.bytes > EVENT_BYTES_MAX
    assert "job.queued" in str(caught.value)
    assert ledger.head() == 0


def test_the_longest_prompts_that_may_be_submitted_fit(ledger: Ledger, story: Story) -> None:
    story.submit(prompt="𓀀" * PROMPT_CHARACTERS_MAX, negative_prompt="𓀀" * PROMPT_CHARACTERS_MAX)
    assert max(len(event.state) for event in ledger.read_raw(0, 100)) < EVENT_BYTES_MAX


def test_what_older_versions_took_is_read_for_ever(recorder: PostgresRecorder, ledger: Ledger) -> None:
    old = file_of(0, 1).model_copy(update={"media_type": "text/html", "worker_versions": {"torch": MEGABYTE}})
    _, data = Codec().encode(old)
    meta = {
        "actor": "w",
        "owner": "ada",
        "at": NOW.isoformat(),
        "command_id": str(uuid4()),
        "correlation_id": str(uuid4()),
        "causation_id": None,
    }
    append_raw(recorder, uuid4(), 1, "asset.completed.v1", orjson.dumps({"meta": meta, "data": orjson.Fragment(data)}))
    (read,) = ledger.read(0, 10)
    assert getattr(read, "event", None) == old
    with pytest.raises(InvalidInput):
        EventMapper().encode(uuid4(), 1, old, read.envelope)  # type: ignore[union-attr]


# No follower is stopped by one item.


async def test_one_message_that_cannot_be_taken_apart_leaves_the_recorder_listening(
    story: Story, database: Database, ledger: Ledger, own_nats: OwnNats
) -> None:
    own_nats.start()
    about = {"job_id": story.submit(1), "attempt": 1}
    async with opened(own_nats.url) as broker, running(ReportHandler(database, ledger, broker, LEASE_S).run):
        await settled(broker.client)
        for junk in (
            b"PUB reports.gpu-1.\xff\xfe 2\r\nhi\r\n",
            b"PUB reports.gpu-1 \xff\xfe 2\r\nhi\r\n",
            b"PUB reports.gpu-1.a\x00b 2\r\nhi\r\n",
            b"HPUB reports.gpu-1 20 22\r\nNATS/1.0\r\n\xff\xfe: \xff\xff\r\n\r\nhi\r\n",
        ):
            await asyncio.to_thread(say, own_nats.url, junk)
        content = StartedReport.model_validate(about).model_dump_json().encode()
        answer = await broker.client.request(report_subject(WORKER), content, timeout=WAIT_S_MAX)
    assert ReportReply.model_validate_json(answer.data).accepted


def say(url: str, line: bytes) -> None:
    """As somebody does who speaks the protocol of NATS by hand."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        raw.recv(4096)
        user = orjson.dumps({"user": parts.username, "pass": parts.password, "verbose": False, "headers": True})
        raw.sendall(b"CONNECT " + user + b"\r\n" + line + b"PING\r\n")
        while b"PONG" not in (told := raw.recv(4096)):
            assert told, "It was cut off."


async def test_a_job_whose_order_is_too_large_holds_up_no_other(
    recorder: PostgresRecorder, database: Database, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    large = stored_before_there_were_bounds(recorder, ledger, story, {"prompt": "x" * 1_200_000})
    after = story.submit(1)
    views.catch_up()
    dispatcher = Dispatcher(database, ledger, broker, [POOL])
    async with workers(broker, 1) as (pulling,):
        while not pulling.done():
            await dispatcher.step()
        assert order_in(pulling.result()).job_id == after
    assert any(one.item == large and "max_payload" in one.sentence for one in parking.parked("dispatcher"))


async def test_jobs_of_which_no_order_can_be_made_hold_up_no_other(
    recorder: PostgresRecorder,
    database: Database,
    ledger: Ledger,
    story: Story,
    views: Views,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = {story.submit(1) for _ in range(40)}
    after = story.submit(1)
    views.catch_up()
    build = dispatchers.order_for

    def failing(job_id: UUID, *rest: Any) -> Any:
        if job_id in broken:
            raise ZeroDivisionError("whatever it is")
        return build(job_id, *rest)

    monkeypatch.setattr(dispatchers, "order_for", failing)
    dispatcher = Dispatcher(database, ledger, broker, [POOL], running_per_owner_max=1)
    async with workers(broker, 1) as (pulling,):
        while not pulling.done():
            await dispatcher.step()
        assert order_in(pulling.result()).job_id == after


async def test_a_ledger_of_before_there_were_bounds_is_broadcast_and_projected(
    recorder: PostgresRecorder, ledger: Ledger, story: Story, views: Views, broker: Broker
) -> None:
    large = stored_before_there_were_bounds(recorder, ledger, story, {"prompt": "x" * 1_200_000})
    story.submit(1)
    async with running(Relay(ledger, broker).run):
        await reached(broker, ledger)
    assert large in {row["job_id"] for row in views.catch_up().rows("queue")}


def stored_before_there_were_bounds(
    recorder: PostgresRecorder, ledger: Ledger, story: Story, of_recipe: dict[str, Any]
) -> UUID:
    """A job as an earlier version accepted it; its id. It is a copy of one that is canceled."""
    model = story.submit(1)
    job_id = uuid4()
    for raw in ledger.read_raw(0, 1_000):
        if raw.stream_id == model and raw.topic == "job.queued.v1":
            state = orjson.loads(raw.state)
            state["data"]["recipe"] |= of_recipe
            state["meta"]["correlation_id"] = str(job_id)
            append_raw(recorder, job_id, 1, raw.topic, orjson.dumps(state))

            reserved = next(
                orjson.loads(each.state) for each in ledger.read_raw(0, 1_000) if each.topic == "asset.reserved.v1"
            )
            reserved["data"] |= {"job_id": str(job_id)}
            append_raw(recorder, asset_id(job_id, 0), 1, "asset.reserved.v1", orjson.dumps(reserved))

    ledger.execute(JOB, model, CancelJob(NOW), Context("ada", "ada"))
    return job_id
