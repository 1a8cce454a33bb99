"""Several commands at once do what they would one after the other, by one reading and one group commit."""

from collections.abc import Iterator, Sequence
from uuid import UUID

import orjson
import psycopg
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.aggregates.job import Finished, Running
from domain.commands import JobCommand, RateAsset, ThumbnailAsset
from domain.errors import NotFound, Refused
from domain.events import AssetRated, AssetThumbnailed
from domain.recipes.recipe import asset_id
from services.database import Database, Unavailable
from services.ledger import (
    ASSET,
    JOB,
    AssetExecuted,
    Context,
    Executed,
    InMemoryRecorder,
    Instruction,
    JobExecuted,
    Ledger,
    PostgresRecorder,
)
from services.ledger.commits import Commit, Conflict, Receipt
from services.ledger.flusher import Flusher
from tests import spec
from tests.histories import append_raw
from tests.spec import NOW, OWNER, TOLD_OF_A_JOB, submit, thumbnail_of

ADA = Context(actor="key:ada", owner=OWNER)
SERVICE = Context(actor="gpu-1")
JOBS = [UUID(int=number) for number in range(1, 4)]


def submit_all(ledger: Ledger, jobs: list[UUID], quantity: int = 2) -> None:
    for job_id in jobs:
        ledger.execute(JOB, job_id, submit(quantity, job_id=job_id), ADA)


def told(outcome: JobExecuted | Exception) -> object:
    """What became of a command, in the words of one who asked for it."""
    return (outcome.state, outcome.decision) if isinstance(outcome, Executed) else str(outcome)


def one_by_one(ledger: Ledger, asked: list[Instruction]) -> list[object]:
    outcomes: list[JobExecuted | Exception] = []
    for one in asked:
        try:
            outcomes.append(ledger.execute(JOB, one.stream, one.command, one.context))
        except Refused as refused:
            outcomes.append(refused)
    return [told(outcome) for outcome in outcomes]


@settings(deadline=None)
@for_all(
    st.lists(st.lists(st.tuples(st.sampled_from(JOBS), st.sampled_from(TOLD_OF_A_JOB)), max_size=8), max_size=4),
    st.booleans(),
)
def test_what_is_asked_at_once_becomes_what_it_would_one_by_one(
    rounds: list[list[tuple[UUID, JobCommand]]],
    forgets: bool,
) -> None:
    together, apart = InMemoryRecorder(), InMemoryRecorder()
    with Ledger(together) as at_once, Ledger(apart) as each:
        submit_all(at_once, JOBS[:2])  # the third is never submitted
        submit_all(each, JOBS[:2])
        for commands in rounds:
            asked = [Instruction(JOB, job_id, command, SERVICE) for job_id, command in commands]
            with Ledger(together) as forgetful:
                outcomes = (forgetful if forgets else at_once).execute_each(asked)
            assert [told(outcome) for outcome in outcomes] == one_by_one(each, asked)
    assert streams(together) == streams(apart)


def streams(recorder: InMemoryRecorder) -> list[tuple[object, int, str]]:
    """What happened to each; jobs of one group may stand in the ledger in another order."""
    return sorted(
        (one.originator_id, one.originator_version, one.topic) for one in recorder.select_notifications(1, 10_000)
    )


@pytest.fixture
def two(dsn: str, database: Database) -> Iterator[tuple[Ledger, Ledger]]:
    """Two processes on one ledger."""
    with Flusher(dsn) as one, Flusher(dsn) as other:
        yield Ledger(PostgresRecorder(database, one)), Ledger(PostgresRecorder(database, other))


def test_it_is_one_group_commit(ledger: Ledger, dsn: str) -> None:
    submit_all(ledger, JOBS)
    before = groups(dsn)
    outcomes = ledger.execute_each([Instruction(JOB, job_id, spec.start(1), SERVICE) for job_id in JOBS])
    assert [isinstance(one, Executed) and isinstance(one.state.job, Running) for one in outcomes] == [True] * 3
    assert groups(dsn) == before + 1


def groups(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select count(*) from ledger_commits").fetchone()
    return row[0] if row else 0


def test_what_another_process_did_meanwhile_is_read_and_costs_the_others_nothing(two: tuple[Ledger, Ledger]) -> None:
    ours, theirs = two
    submit_all(ours, JOBS, quantity=1)
    ours.execute_each([Instruction(JOB, job_id, spec.start(1), SERVICE) for job_id in JOBS])
    theirs.execute(JOB, JOBS[0], spec.report_completed(0), SERVICE)
    theirs.execute(JOB, JOBS[1], spec.expire(1), Context("reaper"))
    ended, lost, done = ours.execute_each(
        [Instruction(JOB, job_id, spec.report_completed(0), SERVICE) for job_id in JOBS]
    )
    assert isinstance(ended, Executed)
    assert not ended.decision  # a repeat
    assert isinstance(lost, Refused)
    assert lost.code == "attempt_superseded"
    assert isinstance(done, Executed)
    assert isinstance(done.state.job, Finished)


def test_a_job_that_cannot_be_read_costs_the_others_nothing(
    ledger: Ledger, flusher: Flusher, database: Database
) -> None:
    submit_all(ledger, JOBS[:2])
    recorder = PostgresRecorder(database, flusher)
    append_raw(recorder, JOBS[0], 2, "job.exploded.v1", orjson.dumps({}))
    forgetful = Ledger(recorder)
    broken, fine = forgetful.execute_each([Instruction(JOB, job_id, spec.start(1), SERVICE) for job_id in JOBS[:2]])
    assert isinstance(broken, Exception)
    assert "cannot be read" in str(broken)
    assert isinstance(fine, Executed)


def test_a_commit_that_is_not_answered_is_unavailable_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = InMemoryRecorder()

    def away(_: InMemoryRecorder, __: list[Commit]) -> None:
        raise Unavailable("Postgres cannot be reached.")

    with Ledger(recorder) as ledger:
        submit_all(ledger, JOBS)
        monkeypatch.setattr(InMemoryRecorder, "write_each", away)
        with pytest.raises(Unavailable):
            ledger.execute_each([Instruction(JOB, job_id, spec.start(1), SERVICE) for job_id in JOBS])


def test_a_command_behind_one_in_doubt_does_not_wait_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[UUID] = []

    def away(_: Ledger, __: object, job_id: UUID, *___: object) -> JobExecuted:
        tried.append(job_id)
        raise Unavailable("Postgres cannot be reached.")

    with Ledger(InMemoryRecorder()) as ledger:  # knows none of them: each has to be tried alone
        monkeypatch.setattr(Ledger, "execute", away)
        outcomes = ledger.execute_each([Instruction(JOB, job_id, spec.start(1), SERVICE) for job_id in JOBS])
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert tried == JOBS[:1]


def test_nothing_asked_is_nothing_done(ledger: Ledger) -> None:
    assert ledger.execute_each([]) == []
    assert ledger.head() == 0


# The same for assets.

MADE = ThumbnailAsset(thumbnail_of(0), NOW)


def thumbnailed(ledger: Ledger, *assets: UUID) -> dict[UUID, AssetExecuted | Exception]:
    """What came of a thumbnail of each."""
    return dict(
        zip(assets, ledger.execute_each([Instruction(ASSET, one, MADE, SERVICE) for one in assets]), strict=True)
    )


def test_assets_are_decided_on_by_one_reading_and_one_group_commit(ledger: Ledger, dsn: str) -> None:
    submit_all(ledger, JOBS[:1])
    ledger.execute_each(
        [Instruction(JOB, JOBS[0], command, SERVICE) for command in (spec.start(1), spec.report_completed(0))]
    )
    ledger.execute(JOB, JOBS[0], spec.report_completed(1), SERVICE)
    first, second, nowhere = (asset_id(JOBS[0], 0), asset_id(JOBS[0], 1), UUID(int=9))
    before = groups(dsn)
    outcomes = thumbnailed(ledger, first, nowhere, second)
    assert groups(dsn) == before + 1
    assert isinstance(outcomes[nowhere], NotFound)
    for asset in (first, second):
        outcome = outcomes[asset]
        assert not isinstance(outcome, Exception)
        assert [type(event) for event in outcome.decision] == [AssetThumbnailed]
        assert ledger.stream(asset)[-1].position == outcome.position
        assert outcome.state == ledger.asset(asset)
    again = thumbnailed(ledger, first, second)
    assert [one.decision for one in again.values() if not isinstance(one, Exception)] == [(), ()]


def test_an_asset_that_another_process_changed_meanwhile_is_decided_on_again(
    two: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = two
    submit_all(ours, JOBS[:1], quantity=1)
    ours.execute(JOB, JOBS[0], spec.start(1), SERVICE)
    ours.execute(JOB, JOBS[0], spec.report_completed(0), SERVICE)
    asset = asset_id(JOBS[0], 0)
    write_each = PostgresRecorder.write_each

    def late(recorder: PostgresRecorder, commits: Sequence[Commit]) -> Sequence[Receipt | Conflict]:
        theirs.execute(ASSET, asset, RateAsset(5, NOW), ADA)
        return write_each(recorder, commits)

    monkeypatch.setattr(PostgresRecorder, "write_each", late)
    outcome = thumbnailed(ours, asset)[asset]
    assert not isinstance(outcome, Exception)
    assert [one.event for one in ours.stream(asset)[-2:]] == [AssetRated(score=5), MADE.thumbnailed]
