"""Every command in every state of a job: one table, so that no pair is left to chance. The sentences are next door."""

from typing import get_args

import pytest

from domain.aggregates.generation import Generation
from domain.commands import Held, JobCommand, Reported, ReprioritizeJob
from domain.errors import Refused
from tests.spec import (
    ABORTED,
    CANCEL,
    CANCELED,
    DEADLINE,
    ENHANCED,
    INVALID_INPUT,
    MODEL_UNAVAILABLE,
    NOW,
    SUCCEEDED,
    WORKER,
    abort,
    cancel_requested,
    canceled,
    completed,
    confirm,
    expire,
    fail,
    failed,
    given,
    job_failed,
    note,
    partially_succeeded,
    queued,
    release,
    released,
    report_completed,
    report_failed,
    start,
    started,
    submit,
    when,
)

QUEUED = queued(2, deadline=DEADLINE)
STATES: dict[str, Generation] = {
    "unknown": given(),
    "waiting": given(QUEUED),
    "running": given(QUEUED, started(1)),
    "stopping": given(QUEUED, started(1), cancel_requested()),
    "waiting again": given(QUEUED, started(1), released(1)),
    "running again": given(QUEUED, started(1), released(1), started(2)),
    "succeeded": given(QUEUED, started(1), completed(0), completed(1), SUCCEEDED),
    "partially": given(QUEUED, started(1), failed(0), completed(1), partially_succeeded(completed=1, failed=1)),
    "failed": given(QUEUED, started(1), failed(0, 1), job_failed(INVALID_INPUT)),
    "canceled": given(QUEUED, started(1), cancel_requested(), canceled(0, 1), CANCELED),
    "aborted": given(QUEUED, canceled(0, 1), ABORTED),
}
COMMANDS: dict[str, JobCommand] = {
    "submit": submit(2),
    "start 1": start(1),
    "start 2": start(2),
    "start in a paused pool": start(1, held=Held(pools=frozenset({"sdxl"}))),
    "start on a drained worker": start(1, held=Held(workers=frozenset({WORKER}))),
    "note": note(ENHANCED),
    "reported": Reported(WORKER, report_completed(0)),
    "reported by another": Reported("gpu-99", report_completed(0)),
    "asset completed": report_completed(0),
    "asset failed": report_failed(0),
    "fail": fail(1),
    "fail for good": fail(1, MODEL_UNAVAILABLE),
    "release": release(1),
    "expire lease": expire(1),
    "confirm cancel": confirm(1),
    "cancel": CANCEL,
    "reprioritize": ReprioritizeJob(5, NOW),
    "abort": abort(),
}

NONE = "not_found"
LATE = "attempt_superseded"
ANOTHER = "attempt_of_another"
OVER = "asset_ended"
BUSY = "job_not_startable"
STOP = "JobCanceled AssetCanceled"
BACK = "JobRequeued"
POOL, HELD, FIRST = "pool_held", "worker_held", "JobReprioritized"
ENDED = "job_ended"

TABLE: dict[str, list[str]] = {
    # One column a state, in the order of STATES: unknown, waiting, running, stopping, waiting again, running again,
    # then the ended: succeeded, partially, failed, canceled, aborted.
    "submit":          ["JobQueued AssetReserved", "", "", "", "", "", "", "", "", "", ""],
    "start 1":         [NONE, "JobStarted", "", "", BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, BUSY],
    "start 2":         [NONE, BUSY, BUSY, BUSY, "JobStarted", "", BUSY, BUSY, BUSY, BUSY, BUSY],
    "start in a paused pool":    [NONE, POOL, "", "", BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, BUSY],
    "start on a drained worker": [NONE, HELD, "", "", BUSY, BUSY, BUSY, BUSY, BUSY, BUSY, BUSY],
    "note":            [NONE, LATE, "JobPromptEnhanced", "JobPromptEnhanced", LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "reported":        [NONE, LATE, "AssetCompleted", "AssetCompleted", LATE, LATE, "", OVER, OVER, OVER, OVER],
    "reported by another": [NONE, LATE, ANOTHER, ANOTHER, LATE, LATE, "", OVER, OVER, OVER, OVER],
    "asset completed": [NONE, LATE, "AssetCompleted", "AssetCompleted", LATE, LATE, "", OVER, OVER, OVER, OVER],
    "asset failed":    [NONE, LATE, "AssetFailed", "AssetFailed", LATE, LATE, LATE, "", "", LATE, LATE],
    "fail":            [NONE, LATE, BACK, STOP, LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "fail for good":   [NONE, LATE, "JobFailed AssetFailed", STOP, LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "release":         [NONE, LATE, BACK, STOP, LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "expire lease":    [NONE, LATE, BACK, STOP, LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "confirm cancel":  [NONE, LATE, BACK, STOP, LATE, LATE, LATE, LATE, LATE, LATE, LATE],
    "cancel":          [NONE, STOP, "JobCancelRequested", "", STOP, "JobCancelRequested", "", "", "", "", ""],
    "reprioritize":    [NONE, FIRST, FIRST, FIRST, FIRST, FIRST, ENDED, ENDED, ENDED, ENDED, ENDED],
    "abort":           [NONE, "JobAborted AssetCanceled", "", "", "", "", "", "", "", "", ""],
}  # fmt: skip
"""What follows: the facts, the code of the refusal, or nothing."""

PAIRS = [
    pytest.param(command, state, expected, id=f"{command} when {state}")
    for command, row in TABLE.items()
    for state, expected in zip(STATES, row, strict=True)
]


@pytest.mark.parametrize(("command", "state", "expected"), PAIRS)
def test_every_command_in_every_state(command: str, state: str, expected: str) -> None:
    assert _outcome(STATES[state], COMMANDS[command]) == expected


def test_the_table_is_whole() -> None:
    assert list(TABLE) == list(COMMANDS)
    assert {type(command) for command in COMMANDS.values()} == set(get_args(JobCommand))


def _outcome(generation: Generation, command: JobCommand) -> str:
    try:
        decision = when(generation, command)
    except Refused as refusal:
        return refusal.code
    facts = [*decision.job, *(event for events in decision.assets.values() for event in events)]
    return " ".join(dict.fromkeys(type(fact).__name__ for fact in facts))
