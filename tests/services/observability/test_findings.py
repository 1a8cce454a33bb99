"""What is stuck, missing or full is found, with its remedy: each test brings one of these about, and then ends it."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from projections import ALL
from services.database import Database, Unavailable
from services.ledger import Ledger
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.messaging.relay import Relay
from services.messaging.wire import LEDGER_STREAM, AnnouncedModel, Announcement
from services.observability import checks, progress
from services.observability.findings import Facts, Finding, examine
from services.observability.parking import park, unpark
from services.observability.progress import Telling
from services.observability.watch import Watch, say_findings
from services.queue.dispatcher import Dispatcher
from services.queue.fleet import RollCall
from tests.histories import Story, Views
from tests.services.beside import OwnNats, opened, running, until
from tests.services.commits import eventually, opening
from tests.spec import MODEL_UNAVAILABLE, fail, recipe, start

SAID = Announcement(
    pools=("sdxl",), models=(AnnouncedModel(name="another", loaded=True),), device="cpu", version="1", up_s=1.0
)
VERSIONS = {view.name: view.version for view in ALL}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found after many seconds is found after a moment here."""
    for name in ("WAIT_S_MAX", "LOCK_S_MAX"):
        monkeypatch.setattr(checks, name, 0.05)
    monkeypatch.setattr(progress, "TELL_S", 0.05)


@pytest.fixture
def facts(dsn: str) -> Iterator[Facts]:
    """Of the fresh database, over a connection of their own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield Facts(connection)


def codes(facts: Facts, check: Callable[[Facts], Iterator[Finding]]) -> list[str]:
    """What the check finds, each with a sentence and a remedy."""
    found = examine(facts, [check])
    assert all(one.sentence.endswith(".") and one.remedy for one in found)
    return [one.code for one in found]


def reported_long_ago(facts: Facts, seconds: float) -> None:
    """As if every service had reported so long ago; negative for a clock that was set back since."""
    facts.connection.execute(
        "insert into service_progress (service, process, started_at, said_at, last_progress_at) "
        "select service, 'gone', at, at, at from unnest(%s::text[]) as service, "
        "(select clock_timestamp() - make_interval(secs => %s::float) as at) present "
        "on conflict (service, process) do update set said_at = excluded.said_at, last_progress_at = excluded.said_at",
        (list(checks.PROGRAMS), seconds),
    )


# Services.


def test_a_service_that_never_ran_is_missed_with_the_command_that_starts_it(facts: Facts) -> None:
    found = examine(facts, [checks.services_silent])
    assert [one.code for one in found] == ["service_missing"] * len(checks.PROGRAMS)
    assert "darkroom run thumbnails" in str(found[-1])


@pytest.mark.parametrize("seconds", [60, 3_000, 86_400, -60, -3_000])
def test_a_service_that_went_silent_is_found_whatever_the_clock_did(facts: Facts, seconds: float) -> None:
    reported_long_ago(facts, 1)
    assert codes(facts, checks.services_silent) == []
    reported_long_ago(facts, seconds)
    assert codes(facts, checks.services_silent) == ["service_silent"] * len(checks.PROGRAMS)


async def test_services_report_while_they_run_and_leave_when_they_end(database: Database, facts: Facts) -> None:
    names = list(checks.PROGRAMS)
    async with Telling(database, names):
        await until(lambda: codes(facts, checks.services_silent) == [])
        assert [service for service in checks.reported(facts) if service in checks.PROGRAMS] == sorted(names)
    assert checks.reported(facts) == {}


async def test_of_several_processes_one_that_reports_is_enough(database: Database, facts: Facts) -> None:
    reported_long_ago(facts, 600)
    async with Telling(database, checks.PROGRAMS):
        await until(lambda: codes(facts, checks.services_silent) == [])


async def test_a_relay_that_cannot_go_on_says_what_it_waits_for(
    database: Database, ledger: Ledger, broker: Broker, story: Story, facts: Facts
) -> None:
    relay = Relay(ledger, broker)
    story.submit(1)
    async with Telling(database, ["relay"]):
        async with running(relay.run):
            await until(lambda: progress.of("relay").moved_s is not None)
        assert codes(facts, checks.services_waiting) == []
        await broker.jetstream.publish("ledger.ada.job.queued", b"{}")  # as an older backup of Postgres would have it
        async with running(relay.run):
            await until(lambda: codes(facts, checks.services_waiting) == ["out_of_step"])


async def test_a_follower_says_that_nats_is_away_and_that_it_is_back(
    database: Database, ledger: Ledger, own_nats: OwnNats, facts: Facts
) -> None:
    own_nats.start()
    async with (
        opened(own_nats.url) as broker,
        Telling(database, ["relay"]),
        running(Relay(ledger, broker).run),
    ):
        await until(lambda: progress.of("relay").moved_s is not None)
        own_nats.kill()
        await until(lambda: codes(facts, checks.services_waiting) == ["nats_unavailable"])
        own_nats.start()
        await until(lambda: codes(facts, checks.services_waiting) == [])


def test_a_step_that_never_ends_is_found(facts: Facts, database: Database) -> None:
    reported_long_ago(facts, 0)
    assert codes(facts, checks.services_waiting) == []
    facts.connection.execute(
        "update service_progress set last_progress_at = said_at - interval '40 s' where service = 'dispatcher'"
    )
    (found,) = examine(facts, [checks.services_waiting])
    assert (found.code, found.sentence.partition(" for ")[0]) == (
        "service_stuck",
        "The dispatcher has not finished a step",
    )


def test_a_wait_that_is_not_repeated_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    service = progress.ServiceProgress("relay")
    service.waits("NATS is away", "nats_unavailable", "Start it.")
    assert service.waiting is not None
    monkeypatch.setattr(progress, "WAIT_S_MAX", 0.0)
    assert service.waiting is None


def test_what_a_service_says_of_its_wait_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_TOKEN", "hunter2-hunter2")
    service = progress.ServiceProgress("relay")
    service.waits(OSError("nats://ada:s3cret-word@host refused hunter2-hunter2" + "x" * 5_000))
    row = str(service.row(0.0))
    assert "hunter2" not in row
    assert "s3cret" not in row
    assert len(row) < 2_000


# Locks and the disk.


def test_a_held_ledger_is_an_error_that_names_the_holder(dsn: str, flusher: Flusher, facts: Facts) -> None:
    assert codes(facts, checks.ledger_locked) == []
    with psycopg.connect(dsn) as holding, suppress(psycopg.errors.AdminShutdown):
        holding.execute("select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0))")
        appended = flusher.append(opening())
        eventually(lambda: codes(facts, checks.ledger_locked))
        (found,) = examine(facts, [checks.ledger_locked])
        (holder,) = found.remedy.partition("pg_terminate_backend(")[2].split(")")[:1]
        assert found.severity == "error"
        assert f"process {holder} of Postgres" in found.sentence
        facts.connection.execute("select pg_terminate_backend(%s)", (int(holder),))  # the remedy, as it is printed
        assert appended.result(timeout=20)
        holding.rollback()
    assert codes(facts, checks.ledger_locked) == []


def test_a_queue_for_a_table_is_found(dsn: str, facts: Facts) -> None:
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as thread:
        reader.execute("select from views.jobs")
        locking = thread.submit(other.execute, "lock table views.jobs in access exclusive mode")
        eventually(lambda: codes(facts, checks.tables_locked) == ["table_locked"])
        (found,) = examine(facts, [checks.tables_locked])
        assert f"pg_terminate_backend({reader.info.backend_pid})" in found.remedy
        reader.rollback()
        locking.result(timeout=20)
        other.rollback()
    assert codes(facts, checks.tables_locked) == []


class Usage(NamedTuple):
    """As `shutil.disk_usage` has it."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("free_mb", "code", "severity"), [(0, "disk_full", "error"), (100, "disk_low", "warning"), (300, None, None)]
)
def test_a_disk_without_room_is_found_before_the_next_write_fails(
    facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: int, code: str | None, severity: str | None
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free_mb * 1024**2))
    own = Facts(facts.connection, data_dir=tmp_path, disk_free_min_bytes=256 * 1024**2)
    found = [(one.code, one.severity) for one in examine(own, [checks.disk_free])]
    assert found == ([] if code is None else [(code, severity)])


FULL = """
create function full_disk() returns trigger language plpgsql as $$
begin
  raise disk_full using message = 'could not extend file: No space left on device';
end $$;
create trigger full_disk before insert on ledger_commits for each statement execute function full_disk()
"""


async def test_a_server_without_disk_space_is_reported_by_the_process_that_cannot_write(
    database: Database, flusher: Flusher, broker: Broker, facts: Facts
) -> None:
    watch = Watch(database, broker, {}, checks=())
    assert await watch.findings() == []
    facts.connection.execute(FULL.encode())
    with pytest.raises(Unavailable, match="no disk space left") as refused:
        await asyncio.to_thread(flusher.write, opening())
    assert refused.value.reason == "disk_full"
    (found,) = await Watch(database, broker, {}, checks=()).findings()
    assert (found.code, found.severity) == ("disk_full", "error")
    facts.connection.execute("drop trigger full_disk on ledger_commits; drop function full_disk")
    await asyncio.to_thread(flusher.write, opening())
    assert await Watch(database, broker, {}, checks=()).findings() == []


# Workers and models.


async def test_no_worker_is_found_though_nothing_waits(
    database: Database, ledger: Ledger, broker: Broker, facts: Facts
) -> None:
    dispatcher = Dispatcher(database, ledger, broker, ["sdxl", "wan"])
    async with Telling(database, ["dispatcher"]), running(dispatcher.run):
        await until(lambda: codes(facts, checks.workers_missing) == ["no_worker"])


async def test_a_pool_without_a_worker_is_found_when_jobs_wait_for_it(
    database: Database, facts: Facts, story: Story, views: Views
) -> None:
    async with Telling(database, ["dispatcher"]):
        progress.of("dispatcher").facts["workers"] = {"sdxl": 0, "wan": 1}
        await until(lambda: "dispatcher" in checks.reported(facts))
        story.submit(1, pool="sdxl")
        views.catch_up()
        assert codes(facts, checks.workers_missing) == []  # it has only just come
        facts.connection.execute("update views.queue set queued_at = queued_at - interval '90 s'")
        assert codes(facts, checks.workers_missing) == ["no_worker"]
        progress.of("dispatcher").facts["workers"] = {"sdxl": 1, "wan": 0}
        await until(lambda: codes(facts, checks.workers_missing) == [])


def test_a_model_that_no_worker_can_load_is_found_until_a_job_of_it_succeeds(
    facts: Facts, story: Story, views: Views
) -> None:
    job_id = story.submit(1)
    story.tell(job_id, start(1), fail(1, MODEL_UNAVAILABLE))
    views.catch_up()
    assert codes(facts, checks.models_missing) == ["model_missing"]
    story.finished(1)
    views.catch_up()
    assert codes(facts, checks.models_missing) == []


def test_a_pool_that_is_held_back_is_found_with_who_did_it(facts: Facts, story: Story, views: Views) -> None:
    story.hold(0, 0, "a new rack")
    story.hold(1, 0)
    views.catch_up()
    (found,) = examine(facts, [checks.pools_held])
    assert (found.code, found.remedy) == ("pool_held", "Let it go on: darkroom resume gpu-0.")
    assert "is paused by admin since" in found.sentence
    assert "(a new rack)" in found.sentence
    story.hold(0, 2)
    views.catch_up()
    assert codes(facts, checks.pools_held) == []


def test_a_worker_that_went_without_a_word_is_found_and_one_that_left_is_not(
    database: Database, broker: Broker, facts: Facts
) -> None:
    calling = RollCall(database, broker, ["sdxl"])
    calling.hear("gpu-1", SAID)
    calling.hear("gpu-2", SAID)
    assert codes(facts, checks.workers_away) == []
    facts.connection.execute("update workers set heard_at = heard_at - interval '90 s'")
    calling.hear("gpu-2", SAID.model_copy(update={"leaving": True}))
    (found,) = examine(facts, [checks.workers_away])
    assert found.code == "worker_away"
    assert found.sentence.startswith("The worker gpu-1 has not been heard of for 9")


def test_a_model_that_no_worker_of_its_pool_has_is_found(
    database: Database, broker: Broker, facts: Facts, story: Story, views: Views
) -> None:
    calling = RollCall(database, broker, ["sdxl"])
    story.submit(1)
    views.catch_up()
    assert codes(facts, checks.models_without_worker) == []  # without any worker, that is what is said
    calling.hear("gpu-1", SAID)
    assert codes(facts, checks.models_without_worker) == ["model_without_worker"]
    models = (AnnouncedModel(name=recipe(1).model, loaded=False),)
    calling.hear("gpu-2", SAID.model_copy(update={"models": models}))
    assert codes(facts, checks.models_without_worker) == []


# The list itself.


def test_a_check_that_breaks_or_hangs_holds_up_no_other(facts: Facts) -> None:
    def breaks(_: Facts) -> Iterator[Finding]:
        raise ValueError("as nobody foresaw")

    def may_not(facts: Facts) -> Iterator[Finding]:
        facts.rows("select from pg_no_such_table")
        yield Finding("never", "", "")

    def hangs(facts: Facts) -> Iterator[Finding]:
        facts.rows("select pg_sleep(60)")
        yield Finding("never", "", "")

    def fine(_: Facts) -> Iterator[Finding]:
        yield Finding("fine", "It is found.", "Do this.", "error")

    found = examine(facts, [breaks, may_not, hangs, fine])
    assert [one.code for one in found] == ["fine", "check_too_slow"]  # errors first


async def test_what_is_found_is_said_once_and_said_again_when_it_is_over(
    database: Database, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("SAY_S", 0.01), ("LASTS_S_MIN", 0.05), ("KEPT_S", 0.0)):
        monkeypatch.setattr(f"services.observability.watch.{name}", seconds)
    looks = 0
    is_there = True

    def stuck(_: Facts) -> Iterator[Finding]:
        nonlocal looks
        looks += 1
        if is_there:
            yield Finding("stuck", f"It waits for {looks} s.", "Push it.")

    caplog.set_level("INFO", "services.observability.watch")
    watch = Watch(database, broker, {}, checks=[stuck])
    async with running(lambda stop: say_findings(watch, stop)):
        await until(lambda: caplog.messages)
        seen = looks
        await until(lambda: looks > seen + 5)
        is_there = False
        await until(lambda: len(caplog.messages) > 1)
    assert [caplog.messages[0].endswith("s. Push it."), caplog.messages[1].startswith("over: It waits")] == [True, True]
    assert len(caplog.messages) == 2


async def test_what_a_service_passes_over_is_found_until_it_could_be_done(database: Database, facts: Facts) -> None:
    async with Telling(database, ["dispatcher"]):
        park("dispatcher", 7, "job 7 is not handed out: its order has 2000000 bytes")
        await until(lambda: codes(facts, checks.items_parked) == ["items_parked"])
        (found,) = examine(facts, [checks.items_parked])
        assert "job 7 is not handed out" in found.sentence
        unpark("dispatcher", 7)
        await until(lambda: codes(facts, checks.items_parked) == [])


async def test_a_stream_that_nats_damaged_is_found(
    database: Database, ledger: Ledger, story: Story, own_nats: OwnNats, facts: Facts
) -> None:
    own_nats.start()
    story.submit(3)
    async with Telling(database, ["relay"]), opened(own_nats.url) as broker, running(Relay(ledger, broker).run):
        await until(lambda: progress.of("relay").moved_s is not None)
        assert codes(facts, checks.broadcast_damaged) == []
        await broker.jetstream.delete_msg(LEDGER_STREAM, 2)
        await until(lambda: codes(facts, checks.broadcast_damaged) == ["ledger_stream_damaged"])
        assert "3 of 4 messages" in examine(facts, [checks.broadcast_damaged])[0].sentence
