"""What `darkroom workers` prints, and what the other commands of operators say."""

from typing import Any

import pytest

from api.cli.commands.fleet import pool_lines, worker_lines

HELD = {"hold": "drained", "reason": "a new card", "by": "admin", "since": "2031-05-04T12:00:00Z"}
JOB = {
    "id": "6f0d4e0a-2b1c-4d3e-8f5a-9b7c1d2e3f40",
    "owner": "ada",
    "job_type": "sdxl_image_fast",
    "pool": "sdxl",
    "attempt": 1,
    "progress": {"step": 7, "total": 15},
    "started_at": "2031-05-04T12:00:00Z",
}


def a_worker(**changes: Any) -> dict[str, Any]:
    """As the API says it."""
    said = {
        "name": "worker.a-rather-long-host-1",
        "state": "busy",
        "since": "2031-05-04T12:00:00Z",
        "device": "cuda NVIDIA H200",
        "version": "1",
        "pools": ["sdxl", "wan"],
        "models": [{"name": "sdxl-demo", "loaded": True}, {"name": "wan-demo", "loaded": False}],
        "job": JOB,
        "held": None,
        "started_at": "2031-05-04T11:00:00Z",
        "heard_at": "2031-05-04T12:00:05Z",
    }
    return said | changes


@pytest.mark.parametrize("width", [80, 120, None])
def test_names_states_and_jobs_are_whole_at_any_width(width: int | None) -> None:
    heading, busy, away = worker_lines([a_worker(), a_worker(name="gpu-2", state="away", job=None)], width)
    assert heading.startswith("WORKER")
    assert "worker.a-rather-long-host-1" in busy
    assert "busy" in busy
    assert away.split()[:2] == ["gpu-2", "away"]
    assert str(JOB["id"]) in busy
    if width is None:
        assert all(text in busy for text in ("7/15", "cuda NVIDIA H200", "sdxl,wan", "sdxl-demo (loaded)"))
    else:
        assert all(len(line) <= width for line in (heading, busy, away))


def test_a_worker_that_was_never_heard_of_is_shown_too() -> None:
    never = a_worker(state="away", since=None, device=None, pools=[], models=[], job=None, held=HELD, heard_at=None)
    _, line = worker_lines([never], None)
    assert line.split() == ["worker.a-rather-long-host-1", "away"]


def test_a_pool_says_why_nothing_is_handed_out() -> None:
    pool = {"pool": "sdxl", "state": "open", "workers": 2, "waiting": 3, "running": 1}
    pool |= {"last_seen_at": None, "held": None}
    none = pool | {"pool": "wan", "state": "no_worker", "workers": 0, "last_seen_at": "2031-05-04T12:00:00Z"}
    held = pool | {"pool": "x", "state": "drained", "held": HELD}
    _, first, second, third = pool_lines([pool, none, held], None)
    assert first.split() == ["sdxl", "open", "2", "3", "1"]
    assert "no worker" in second
    assert "the last worker was heard of" in second
    assert third.endswith(": a new card")
