"""Load, decide, append: what a caller of the ledger may rely on, with both recorders where it does not matter which."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier
from typing import TypeVar, cast
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.aggregates import asset as assets
from domain.aggregates import media
from domain.aggregates.asset import Completed, Reserved
from domain.aggregates.generation import Generation
from domain.aggregates.job import Finished, Running, Waiting
from domain.codec import CURRENT, UnknownEvent
from domain.commands import (
    AssetCommand,
    DeleteMedia,
    DismissAsset,
    JobCommand,
    RateAsset,
    SaveAsset,
    SubmitJob,
    UploadMedia,
)
from domain.envelope import Recorded, Unreadable
from domain.errors import AssetNotCompleted, IdempotencyKeyReused, MediaInUse, NotFound, Refused
from domain.events import AssetRated
from domain.recipes.recipe import InputFile, asset_id
from services import database as databases
from services.database import Database, Unavailable
from services.ledger import (
    ASSET,
    JOB,
    MEDIA,
    Context,
    EventMapper,
    InMemoryRecorder,
    JobExecuted,
    Ledger,
    PostgresRecorder,
)
from services.ledger import flusher as flushers
from services.ledger.commits import Commit, Conflict, NewEvent, Receipt
from services.ledger.flusher import Flusher
from tests import spec
from tests.histories import append_raw
from tests.services.commits import appends_held_up
from tests.services.lossy_proxy import LossyProxy
from tests.spec import JOB_ID, NOW, OWNER, submit

T = TypeVar("T")

ADA = Context(actor="key:ada", owner=OWNER)
BOB = Context(actor="key:bob", owner="bob")
SERVICE = Context(actor="worker:gpu-1")

UPLOAD = UploadMedia(OWNER, "image", "image/png", 9, "ab" * 32, NOW, 64, 48)
MEDIA_ID = media.media_id(OWNER, UPLOAD.sha256)

JOB_ENDINGS = {"job.succeeded", "job.partially_succeeded", "job.failed", "job.canceled", "job.aborted"}
ASSET_ENDINGS = {"asset.completed", "asset.failed", "asset.canceled"}


@pytest.fixture(params=["memory_ledger", "ledger"])
def either(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger of each kind."""
    ledger = request.getfixturevalue(request.param)
    assert isinstance(ledger, Ledger)
    return ledger


def happened(ledger: Ledger, *commands: JobCommand) -> JobExecuted:
    """What the last of these commands did to the job."""
    return [ledger.execute(JOB, JOB_ID, command, SERVICE) for command in commands][-1]


def names_of(events: Sequence[Recorded | Unreadable]) -> list[str]:
    """Their names; of what cannot be read, the topic."""
    return [one.name if isinstance(one, Recorded) else one.topic for one in events]


def history(ledger: Ledger) -> list[str]:
    """The names of all events, in order."""
    return names_of(ledger.read(0, 10_000))


def for_job(job_id: UUID, quantity: int = 3) -> SubmitJob:
    """Accept another job than the specification's."""
    return replace(submit(quantity), job_id=job_id)


# Submitting.


def test_submitting_is_one_commit_of_the_job_and_its_reserved_assets(either: Ledger) -> None:
    executed = either.execute(JOB, JOB_ID, submit(3), ADA)
    assert history(either) == ["job.queued", "asset.reserved", "asset.reserved", "asset.reserved"]
    assert executed.position == either.head() == 4
    assert executed.decision == spec.queued(3)
    assert executed.state == either.generation(JOB_ID) == spec.given(spec.queued(3))


def test_submitting_the_same_again_changes_nothing_and_says_where_it_is(either: Ledger) -> None:
    first = either.execute(JOB, JOB_ID, submit(), ADA)
    again = either.execute(JOB, JOB_ID, submit(), ADA)
    assert not again.decision
    assert (again.state, again.position) == (first.state, first.position)
    assert either.head() == first.position


def test_submitting_another_body_under_the_same_id_is_refused(either: Ledger) -> None:
    either.execute(JOB, JOB_ID, submit(), ADA)
    with pytest.raises(IdempotencyKeyReused):
        either.execute(JOB, JOB_ID, submit(request_sha256="ef" * 32), ADA)
    assert either.head() == 4


def test_another_body_is_refused_even_under_a_command_id_that_was_served(either: Ledger) -> None:
    context = replace(ADA, command_id=uuid4())
    first = either.execute(JOB, JOB_ID, submit(), context)
    assert either.execute(JOB, JOB_ID, submit(), context).state == first.state
    with pytest.raises(IdempotencyKeyReused):
        either.execute(JOB, JOB_ID, submit(1, request_sha256="ef" * 32), context)
    with pytest.raises(IdempotencyKeyReused):
        either.execute(JOB, uuid4(), for_job(uuid4()), context)
    assert either.head() == 4


def test_a_submission_that_races_itself_queues_one_job(dsn: str) -> None:
    with two_ledgers(dsn) as both:
        answers = at_once(8, lambda number: both[number % 2].execute(JOB, JOB_ID, submit(), ADA))
        assert {answer.result().position for answer in answers} == {4}
        assert history(both[0]) == ["job.queued", "asset.reserved", "asset.reserved", "asset.reserved"]


# The owner.


@pytest.mark.parametrize("command", [spec.CANCEL, spec.abort()])
def test_somebody_elses_job_is_as_unknown_as_one_that_never_was(either: Ledger, command: JobCommand) -> None:
    either.execute(JOB, JOB_ID, submit(), ADA)
    with pytest.raises(NotFound) as foreign:
        either.execute(JOB, JOB_ID, command, BOB)
    nowhere = uuid4()
    with pytest.raises(NotFound) as unknown:
        either.execute(JOB, nowhere, command, BOB)
    assert str(foreign.value).replace(str(JOB_ID), "ID") == str(unknown.value).replace(str(nowhere), "ID")
    with pytest.raises(NotFound):
        either.generation(JOB_ID, owner="bob")
    assert either.head() == 4


def test_somebody_elses_asset_is_as_unknown_as_one_that_never_was(either: Ledger) -> None:
    happened(either, submit(1), spec.start(1), spec.report_completed(0))
    asset, nowhere, head = asset_id(JOB_ID, 0), uuid4(), either.head()
    with pytest.raises(NotFound) as foreign:
        either.execute(ASSET, asset, RateAsset(5, NOW), BOB)
    with pytest.raises(NotFound) as unknown:
        either.execute(ASSET, nowhere, RateAsset(5, NOW), BOB)
    assert str(foreign.value).replace(str(asset), "ID") == str(unknown.value).replace(str(nowhere), "ID")
    assert either.head() == head


def test_an_id_of_another_kind_is_unknown(either: Ledger) -> None:
    either.execute(JOB, JOB_ID, submit(), ADA)
    with pytest.raises(NotFound):
        either.execute(JOB, asset_id(JOB_ID, 0), spec.CANCEL, ADA)
    with pytest.raises(NotFound):
        either.generation(asset_id(JOB_ID, 0))
    with pytest.raises(NotFound):
        either.execute(ASSET, JOB_ID, SaveAsset(NOW), ADA)


def test_a_service_may_act_on_everybodys_jobs(either: Ledger) -> None:
    either.execute(JOB, JOB_ID, submit(), ADA)
    assert isinstance(either.execute(JOB, JOB_ID, spec.start(1), SERVICE).state.job, Running)


def test_somebody_elses_upload_is_as_unknown_as_one_that_never_was(either: Ledger) -> None:
    either.execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
    either.execute(JOB, JOB_ID, submit(1), ADA)
    nowhere = uuid4()
    for read, mine, other in ((either.media, MEDIA_ID, JOB_ID), (either.asset, asset_id(JOB_ID, 0), MEDIA_ID)):
        assert read(mine, owner=OWNER) == read(mine)
        said = set()
        for identifier, owner in ((mine, "bob"), (nowhere, "bob"), (nowhere, None), (other, OWNER)):
            with pytest.raises(NotFound) as caught:
                read(identifier, owner=owner)
            said.add(str(caught.value).replace(str(identifier), "ID"))
        assert len(said) == 1
    with pytest.raises(NotFound):
        either.execute(MEDIA, MEDIA_ID, replace(UPLOAD, owner="bob"), BOB)
    with pytest.raises(NotFound):
        either.execute(MEDIA, JOB_ID, UPLOAD, ADA)
    assert either.head() == 3


# What is written.


def test_a_job_ends_after_its_last_asset_in_the_same_commit(ledger: Ledger, database: Database) -> None:
    happened(ledger, submit(2), spec.start(1), spec.report_completed(0), spec.report_completed(1))
    assert history(ledger)[3:] == ["job.started", "asset.completed", "asset.completed", "job.succeeded"]
    with database.connection() as connection:
        groups = connection.execute("select first_position, last_position from ledger_commits order by 1").fetchall()
    assert groups == [(1, 3), (4, 4), (5, 5), (6, 7)]


def test_every_event_says_who_did_it_for_which_owner_when_and_by_which_command(either: Ledger) -> None:
    command_id, cause = uuid4(), uuid4()
    context = Context("worker:gpu-1", command_id=command_id, causation_id=cause)
    happened(either, submit(2), spec.start(1), spec.report_completed(0))
    before = either.head()
    at = spec.after(90)
    either.execute(JOB, JOB_ID, replace(spec.report_completed(1), now=at), context)
    written = either.read(before, 10)
    assert len(written) == 2
    for one in written:
        assert isinstance(one, Recorded)
        envelope = one.envelope
        assert (envelope.actor, envelope.owner, envelope.at) == ("worker:gpu-1", OWNER, at)
        assert (envelope.command_id, envelope.correlation_id, envelope.causation_id) == (command_id, JOB_ID, cause)


def test_a_command_without_an_id_of_its_own_is_given_one(either: Ledger) -> None:
    happened(either, submit(1), spec.start(1))
    ids = [one.envelope.command_id for one in either.read(0, 10) if isinstance(one, Recorded)]
    assert ids[0] == ids[1] != ids[2]


def test_an_asset_is_rated_under_its_jobs_correlation(either: Ledger) -> None:
    happened(either, submit(1), spec.start(1), spec.report_completed(0))
    executed = either.execute(ASSET, asset_id(JOB_ID, 0), RateAsset(4, spec.after(5)), ADA)
    assert executed.decision == (AssetRated(score=4),)
    assert executed.position == either.head()
    [rated] = either.read(executed.position - 1, 1)
    assert isinstance(rated, Recorded)
    assert (rated.name, rated.version, rated.envelope.actor) == ("asset.rated", 3, "key:ada")
    assert (rated.envelope.correlation_id, rated.envelope.at) == (JOB_ID, spec.after(5))
    assert either.read_of(["asset.rated", "media"], 0, either.head()) == [rated]
    assert len(either.read_of(["asset"], 0, either.head())) == rated.version
    again = either.execute(ASSET, asset_id(JOB_ID, 0), RateAsset(4, spec.after(6)), ADA)
    assert (again.decision, again.state, again.position) == ((), executed.state, executed.position)


def test_an_upload_is_written_once_under_its_own_correlation(either: Ledger) -> None:
    executed = either.execute(MEDIA, MEDIA_ID, replace(UPLOAD, now=spec.after(5)), ADA)
    assert executed.decision == tuple(media.decide(UPLOAD, media.UnknownMedia()))
    assert executed.state == either.media(MEDIA_ID) == media.Uploaded(executed.decision[0])
    [uploaded] = either.read_of(["media"], 0, either.head())
    assert isinstance(uploaded, Recorded)
    envelope = uploaded.envelope
    assert (uploaded.name, uploaded.stream_id, uploaded.version) == ("media.uploaded", MEDIA_ID, 1)
    assert (envelope.actor, envelope.owner, envelope.at) == ("key:ada", OWNER, spec.after(5))
    assert envelope.correlation_id == MEDIA_ID
    again = either.execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
    assert (again.decision, again.state, again.position) == ((), executed.state, executed.position)
    assert either.read_of(["job", "asset"], 0, either.head()) == []


def test_an_asset_is_read_as_it_is_now(either: Ledger) -> None:
    happened(either, submit(2), spec.start(1), spec.report_completed(0))
    completed, owed = (either.asset(asset_id(JOB_ID, index), owner=OWNER) for index in range(2))
    assert isinstance(completed, Completed)
    assert completed.completed == spec.file_of(0, 1)
    assert owed == Reserved(spec.reservation(1))


def test_what_the_domain_refuses_is_not_written(either: Ledger) -> None:
    happened(either, submit(1))
    with pytest.raises(AssetNotCompleted):
        either.execute(ASSET, asset_id(JOB_ID, 0), SaveAsset(NOW), ADA)
    assert either.head() == 2


@pytest.mark.parametrize("quantity", [1, 6, 7, 40])
def test_a_job_loads_whole_whatever_its_quantity(either: Ledger, quantity: int) -> None:
    happened(either, submit(quantity), spec.start(1), spec.report_completed(quantity - 1))
    generation = either.generation(JOB_ID)
    assert len(generation.assets) == quantity
    assert assets.status_of(generation.assets[-1]) == "completed"
    assert all(isinstance(asset, Reserved) for asset in generation.assets[:-1])
    executed = happened(either, *(spec.report_completed(index) for index in range(quantity)))
    assert isinstance(executed.state.job, Finished)
    assert either.generation(JOB_ID) == executed.state


def test_a_stream_is_read_by_version(either: Ledger) -> None:
    happened(either, submit(), spec.start(1), spec.release(1))
    assert names_of(either.stream(JOB_ID)) == ["job.queued", "job.started", "job.requeued"]
    assert either.stream(uuid4()) == []


def test_events_are_passed_on_raw_as_they_are_stored(either: Ledger) -> None:
    happened(either, submit(1))
    queued, reserved = either.read_raw(0, 10)
    assert (queued.position, queued.stream_id, queued.version, queued.topic) == (1, JOB_ID, 1, "job.queued.v1")
    assert reserved.stream_id == asset_id(JOB_ID, 0)
    state = orjson.loads(queued.state)
    assert set(state) == {"meta", "data"}
    assert state["data"]["recipe"]["prompt"] == spec.recipe().prompt


# Races.


@contextmanager
def two_ledgers(dsn: str) -> Iterator[tuple[Ledger, Ledger]]:
    """Two ledgers on one database, as two processes have."""
    with Database(dsn) as a, Database(dsn) as b, Flusher(dsn) as one, Flusher(dsn) as other:
        yield Ledger(PostgresRecorder(a, one)), Ledger(PostgresRecorder(b, other))


def at_once(threads: int, call: Callable[[int], T]) -> "list[Future[T]]":
    """Call from so many threads at the same moment; their answers."""
    ready = Barrier(threads)

    def go(number: int) -> T:
        ready.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return [pool.submit(go, number) for number in range(threads)]


def test_cancel_and_completion_that_race_end_a_job_once(dsn: str) -> None:
    jobs = [uuid4() for _ in range(6)]
    with two_ledgers(dsn) as both:

        def race(number: int) -> JobExecuted:
            ledger, job_id = both[number % 2], job
            if number < 4:
                ledger.execute(JOB, job_id, spec.report_completed(0), SERVICE)
                return ledger.execute(JOB, job_id, spec.report_completed(1), SERVICE)
            ledger.execute(JOB, job_id, spec.CANCEL, ADA)
            return ledger.execute(JOB, job_id, spec.confirm(1), SERVICE)

        for job in jobs:
            both[0].execute(JOB, job, for_job(job, 2), ADA)
            both[1].execute(JOB, job, spec.start(1), SERVICE)
            errors = [answer.exception() for answer in at_once(8, race)]
            assert all(error is None or isinstance(error, Refused) for error in errors)
            assert sum(name in JOB_ENDINGS for name in names_of(both[0].stream(job))) == 1
            for index in range(2):
                names = names_of(both[0].stream(asset_id(job, index)))
                assert sum(name in ASSET_ENDINGS for name in names) == 1


def test_the_last_two_assets_reported_at_once_end_their_job(dsn: str) -> None:
    with two_ledgers(dsn) as both, ThreadPoolExecutor(max_workers=2) as pool:
        both[0].execute(JOB, JOB_ID, submit(2), ADA)
        both[0].execute(JOB, JOB_ID, spec.start(1), SERVICE)
        with appends_held_up(dsn) as until_waiting:  # so that both decide on a job that still owes the other one
            answers = [pool.submit(both[i].execute, JOB, JOB_ID, spec.report_completed(i), SERVICE) for i in range(2)]
            until_waiting(2)
        assert [answer.exception() for answer in answers] == [None, None]
        assert history(both[0])[4:] == ["asset.completed", "asset.completed", "job.succeeded"]


def test_of_several_workers_that_race_for_an_attempt_one_gets_it(dsn: str) -> None:
    with two_ledgers(dsn) as both:
        both[0].execute(JOB, JOB_ID, submit(), ADA)
        answers = at_once(8, lambda n: both[n % 2].execute(JOB, JOB_ID, spec.start(1, worker=f"gpu-{n}"), SERVICE))
        errors = [answer.exception() for answer in answers]
        assert errors.count(None) == 1
        assert all(error is None or isinstance(error, Refused) for error in errors)
        assert history(both[0]).count("job.started") == 1


def test_curating_one_asset_from_many_sides_keeps_every_fact(dsn: str) -> None:
    with two_ledgers(dsn) as both:
        for command in (submit(1), spec.start(1), spec.report_completed(0)):
            both[0].execute(JOB, JOB_ID, command, SERVICE)
        asset = asset_id(JOB_ID, 0)
        commands: list[AssetCommand] = [RateAsset(3, NOW), SaveAsset(NOW), DismissAsset(NOW)] * 2
        answers = at_once(6, lambda number: both[number % 2].execute(ASSET, asset, commands[number], ADA))
        assert [answer.exception() for answer in answers] == [None] * 6
        assert sorted(history(both[1])[5:]) == ["asset.dismissed", "asset.rated", "asset.saved"]


def test_the_same_file_from_many_sides_is_one_upload(dsn: str) -> None:
    with two_ledgers(dsn) as both:
        answers = [
            answer.result() for answer in at_once(8, lambda n: both[n % 2].execute(MEDIA, MEDIA_ID, UPLOAD, ADA))
        ]
        assert sorted(len(answer.decision) for answer in answers) == [0] * 7 + [1]
        assert {answer.position for answer in answers} == {1}
        assert history(both[0]) == ["media.uploaded"]


def starting_from(*uploads: UUID, job_id: UUID = JOB_ID) -> SubmitJob:
    """A job of one image that starts from uploads."""
    return replace(submit(1), job_id=job_id, uploads=uploads)


def test_a_job_and_the_first_use_of_its_uploads_are_one_commit(either: Ledger) -> None:
    either.execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
    either.execute(JOB, JOB_ID, starting_from(MEDIA_ID), ADA)
    other = starting_from(MEDIA_ID, job_id=uuid4())
    either.execute(JOB, other.job_id, other, ADA)
    assert history(either) == ["media.uploaded", "job.queued", "asset.reserved", "media.used", *history(either)[1:3]]
    assert either.media(MEDIA_ID).used_by == JOB_ID
    with pytest.raises(MediaInUse, match=str(JOB_ID)):
        either.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADA)


def test_a_job_whose_upload_is_gone_or_foreign_is_not_queued(either: Ledger) -> None:
    gone, foreign = UPLOAD, replace(UPLOAD, owner="bob")
    either.execute(MEDIA, MEDIA_ID, gone, ADA)
    either.execute(MEDIA, MEDIA_ID, DeleteMedia(NOW), ADA)
    either.execute(MEDIA, media.media_id("bob", UPLOAD.sha256), foreign, BOB)
    for upload in (MEDIA_ID, media.media_id("bob", UPLOAD.sha256), uuid4()):
        with pytest.raises(NotFound):
            either.execute(JOB, JOB_ID, starting_from(upload), ADA)
    assert history(either) == ["media.uploaded", "media.deleted", "media.uploaded"]


def test_a_job_that_was_accepted_with_the_file_of_before_is_not_queued(either: Ledger) -> None:
    uploaded = either.execute(MEDIA, MEDIA_ID, UPLOAD, ADA).state
    assert isinstance(uploaded, media.Uploaded)
    file = InputFile(kind="image", media_type="image/png", sha256=UPLOAD.sha256, path=uploaded.uploaded.path)
    command = starting_from(MEDIA_ID)
    command = replace(command, recipe=command.recipe.model_copy(update={"files": {f"media:{MEDIA_ID}": file}}))
    for again in (DeleteMedia(NOW), UPLOAD):
        either.execute(MEDIA, MEDIA_ID, again, ADA)
    with pytest.raises(NotFound):
        either.execute(JOB, JOB_ID, command, ADA)
    assert history(either) == ["media.uploaded", "media.deleted", "media.uploaded"]


def test_of_a_submit_and_a_delete_that_race_exactly_one_wins(dsn: str) -> None:
    with two_ledgers(dsn) as both:
        for number in range(12):
            upload = replace(UPLOAD, sha256=f"{number:064x}")
            identifier, command = media.media_id(OWNER, upload.sha256), starting_from(job_id=uuid4())
            command = replace(command, uploads=(identifier,))
            both[0].execute(MEDIA, identifier, upload, ADA)

            def race(side: int, command: SubmitJob = command, identifier: UUID = identifier) -> object:
                if side:
                    return both[1].execute(MEDIA, identifier, DeleteMedia(NOW), ADA)
                return both[0].execute(JOB, command.job_id, command, ADA)

            submitted, deleted = (answer.exception() for answer in at_once(2, race))
            assert [type(submitted), type(deleted)] in ([NotFound, type(None)], [type(None), MediaInUse])
            told = names_of(both[0].stream(identifier))
            assert told == ["media.uploaded", "media.deleted" if submitted else "media.used"]
            assert bool(both[0].stream(command.job_id)) is (submitted is None)


def test_a_submit_and_a_delete_that_decide_on_the_same_upload_conflict(dsn: str) -> None:
    with two_ledgers(dsn) as both, ThreadPoolExecutor(max_workers=2) as pool:
        both[0].execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
        with appends_held_up(dsn) as until_waiting:  # both have read an upload that nothing started from
            submitted = pool.submit(both[0].execute, JOB, JOB_ID, starting_from(MEDIA_ID), ADA)
            deleted = pool.submit(both[1].execute, MEDIA, MEDIA_ID, DeleteMedia(NOW), ADA)
            until_waiting(2)
        errors = [type(answer.exception()) for answer in (submitted, deleted)]
        assert errors in ([NotFound, type(None)], [type(None), MediaInUse])
        assert len(both[0].stream(MEDIA_ID)) == 2


def test_jobs_that_start_from_one_upload_at_once_use_it_once(dsn: str) -> None:
    jobs = [starting_from(MEDIA_ID, job_id=uuid4()) for _ in range(6)]
    with two_ledgers(dsn) as both:
        both[0].execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
        answers = at_once(6, lambda number: both[number % 2].execute(JOB, jobs[number].job_id, jobs[number], ADA))
        assert [answer.exception() for answer in answers] == [None] * 6
        assert sorted(history(both[0])) == sorted(
            ["media.uploaded", "media.used", *["job.queued"] * 6, *["asset.reserved"] * 6]
        )
        assert both[0].media(MEDIA_ID).used_by in {job.job_id for job in jobs}


def test_jobs_of_one_commit_use_an_upload_once(either: Ledger) -> None:
    either.execute(MEDIA, MEDIA_ID, UPLOAD, ADA)
    for command in (submit(1), spec.start(1), spec.report_completed(0)):
        either.execute(JOB, JOB_ID, command, SERVICE)
    head = either.head()
    jobs = [starting_from(MEDIA_ID, job_id=uuid4()) for _ in range(3)]
    either.execute(ASSET, asset_id(JOB_ID, 0), RateAsset(4, NOW), ADA, jobs)
    added = names_of(either.read(head, 100))
    assert added == ["asset.rated", *["job.queued", "asset.reserved"] * 3, "media.used"]
    assert either.media(MEDIA_ID).used_by == jobs[0].job_id


class AlwaysLate(InMemoryRecorder):
    """Somebody else is always faster."""

    def write(self, commit: Commit) -> Receipt:
        """A conflict."""
        raise Conflict(f"Another commit than {commit.command_id} was faster.")


def test_endless_conflicts_are_reported_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ledger.application.CONFLICTS_S_MAX", 0.1)
    with Ledger(AlwaysLate()) as ledger, pytest.raises(Unavailable, match="try again"):
        ledger.execute(JOB, JOB_ID, submit(), ADA)


# Postgres does not answer.


def test_a_commit_that_is_not_answered_in_time_may_land_and_is_safe_to_repeat(
    dsn: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, appends_held_up(dsn):
        patched.setattr(flushers, "ANSWER_S_MAX", 0.2)
        with pytest.raises(Unavailable):
            ledger.execute(JOB, JOB_ID, submit(), ADA)
    again = ledger.execute(JOB, JOB_ID, submit(), ADA)
    assert isinstance(again.state.job, Waiting)
    assert ledger.head() == 4


def test_a_job_whose_answer_is_lost_on_the_line_is_queued_once(dsn: str, database: Database) -> None:
    nameless = submit(request_sha256=None)  # such a job cannot be distinguished from a repeated one by its body
    with LossyProxy(dsn) as proxy, Flusher(proxy.dsn) as flusher:
        ledger = Ledger(PostgresRecorder(database, flusher))
        proxy.lose_next_answer(passed_first=2)  # which process answers, and in which epoch the ledger is
        executed = ledger.execute(JOB, JOB_ID, nameless, ADA)
        assert proxy.cuts == 1
    assert len(executed.decision.job) == 1
    assert (executed.position, ledger.head()) == (4, 4)


def test_reading_from_a_postgres_that_is_gone_says_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "CHECKOUT_S_MAX", 0.3)
    with LossyProxy(dsn) as proxy, Database(proxy.dsn) as database, Flusher(proxy.dsn) as flusher:
        ledger = Ledger(PostgresRecorder(database, flusher))
        ledger.execute(JOB, JOB_ID, submit(), ADA)
        proxy.go_away()
        for read in (ledger.head, lambda: ledger.read(0, 1), lambda: ledger.generation(JOB_ID)):
            with pytest.raises(Unavailable, match="Postgres"):
                read()


# What cannot be read.

READABLE_META = {
    "actor": "key:ada",
    "owner": OWNER,
    "at": "2031-05-04T12:00:00+00:00",
    "command_id": str(JOB_ID),
    "correlation_id": str(JOB_ID),
    "causation_id": None,
}
STARTED = {"attempt": 1, "worker": "gpu-1"}


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("job.exploded.v1", orjson.dumps({"meta": READABLE_META, "data": {}})),
        ("job.started.v9", orjson.dumps({"meta": READABLE_META, "data": STARTED})),
        ("job.started.v1", orjson.dumps({"meta": READABLE_META, "data": {"attempt": 0, "worker": "gpu-1"}})),
        ("job.started.v1", orjson.dumps({"meta": READABLE_META})),
        ("job.started.v1", orjson.dumps({"data": STARTED})),
        (
            "job.started.v1",
            orjson.dumps({"meta": READABLE_META | {"command_id": 7}, "data": STARTED}),
        ),
        ("job.started.v1", b"\x00not json"),
        ("job.started.v1", b""),
    ],
)
def test_an_event_that_cannot_be_read_is_reported_and_never_folded(either: Ledger, topic: str, state: bytes) -> None:
    either.execute(JOB, JOB_ID, submit(1), ADA)
    recorder = cast("InMemoryRecorder | PostgresRecorder", either.recorder)
    recorder.append(Commit(uuid4(), [NewEvent(JOB_ID, 2, topic, state)])).result(timeout=30)
    other = uuid4()
    either.execute(JOB, other, for_job(other, 1), ADA)

    unreadable = either.read(0, 10)[2]
    assert isinstance(unreadable, Unreadable)
    assert (unreadable.position, unreadable.stream_id, unreadable.version) == (3, JOB_ID, 2)
    assert unreadable.topic == topic
    assert history(either) == ["job.queued", "asset.reserved", topic, "job.queued", "asset.reserved"]

    with pytest.raises(UnknownEvent, match="Event 3 "):
        either.generation(JOB_ID)
    with pytest.raises(UnknownEvent, match="Event 3 "):
        either.execute(JOB, JOB_ID, spec.CANCEL, ADA)
    assert isinstance(either.generation(other), Generation)
    assert either.head() == 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
metas = st.fixed_dictionaries({key: st.just(value) | json_values for key, value in READABLE_META.items()})
states = st.binary(max_size=20) | st.builds(
    lambda meta, data: orjson.dumps({"meta": meta, "data": data}), metas | json_values, json_values
)


@for_all(topic=st.sampled_from([*CURRENT, "", "job.started", "x.v1"]), state=states)
def test_whatever_is_stored_is_read_or_reported(topic: str, state: bytes) -> None:
    decoded = EventMapper().read(1, JOB_ID, 1, topic, state)
    assert isinstance(decoded, Recorded | Unreadable)
    assert decoded.position == 1


def test_several_jobs_are_read_at_once_but_for_those_that_one_reading_cannot_tell(
    ledger: Ledger, recorder: PostgresRecorder
) -> None:
    few, many, unreadable, unknown = (uuid4() for _ in range(4))
    for job_id, quantity in ((few, 3), (many, 7), (unreadable, 1)):
        ledger.execute(JOB, job_id, submit(quantity, job_id=job_id), Context(OWNER, OWNER))
    ledger.execute(JOB, few, spec.start(1), Context("gpu-1"))
    append_raw(recorder, unreadable, 2, "job.paused.v9", b"{}")
    first_asset = asset_id(few, 0)
    found = ledger.generations_of([few, many, unreadable, unknown, first_asset])
    assert found == {few: ledger.generation(few)}
    assert ledger.generations_of([]) == {}
