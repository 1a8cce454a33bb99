"""Deciding on what a process remembers of a job gives what deciding after a reading gives."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.commands import JobCommand, SubmitJob
from domain.errors import Refused
from services.ledger import JOB, Context, InMemoryRecorder, Ledger
from services.ledger.aggregates import Loaded
from services.ledger.recent import JOBS_REMEMBERED_MAX, RecentJobs
from tests import spec
from tests.spec import JOB_ID, OWNER, TOLD_OF_A_JOB, submit

ADA = Context(actor="key:ada", owner=OWNER)
SERVICE = Context(actor="worker:gpu-1")


def outcome(ledger: Ledger, command: JobCommand, context: Context) -> object:
    """What the command did, or why it was refused."""
    try:
        executed = ledger.execute(JOB, JOB_ID, command, context)
    except Refused as refused:
        return refused.code
    return executed.state, executed.decision


@for_all(st.lists(st.tuples(st.sampled_from(TOLD_OF_A_JOB), st.integers(0, 1)), max_size=12))
def test_two_processes_that_remember_decide_as_one_that_always_reads(told: list[tuple[JobCommand, int]]) -> None:
    shared, alone = InMemoryRecorder(), InMemoryRecorder()
    with Ledger(shared) as one, Ledger(shared) as other:
        for command, which in [(submit(2), 0), *told]:
            context = ADA if isinstance(command, SubmitJob) else SERVICE
            remembered = outcome((one, other)[which], command, context)
            with Ledger(alone) as forgetful:  # a new one has to read
                assert remembered == outcome(forgetful, command, context)
    assert shared.head() == alone.head()


def test_a_second_report_is_decided_without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = InMemoryRecorder()
    with Ledger(recorder) as ledger:
        ledger.execute(JOB, JOB_ID, submit(2), ADA)
        with monkeypatch.context() as patched:
            patched.delattr(InMemoryRecorder, "read_streams")
            ledger.execute(JOB, JOB_ID, spec.start(1), SERVICE)
            ledger.execute(JOB, JOB_ID, spec.report_completed(0), SERVICE)
        assert ledger.head() == 5


def test_so_many_jobs_are_remembered_and_the_one_written_longest_ago_goes() -> None:
    recent = RecentJobs()
    ids = [uuid4() for _ in range(JOBS_REMEMBERED_MAX + 1)]
    for number, job_id in enumerate(ids[:-1], start=1):
        recent.put(job_id, at(number))
    recent.put(ids[0], at(JOBS_REMEMBERED_MAX + 1))
    recent.put(ids[-1], at(JOBS_REMEMBERED_MAX + 2))
    assert recent.get(ids[0]) is not None
    assert recent.get(ids[1]) is None


def test_an_older_state_never_replaces_a_later_one() -> None:
    recent, job_id = RecentJobs(), UUID(int=1)
    recent.put(job_id, at(8))
    recent.put(job_id, at(5))
    assert recent.get(job_id) == at(8)
    recent.forget(job_id)
    assert recent.get(job_id) is None


def at(position: int) -> Loaded:
    """A state as of a position."""
    return Loaded(JOB.unknown.state, {}, position)
