"""What is really written: entries for people and for programs, what they are about, and no secret."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.observability.logs import about, about_job, log_to_stderr

LOG = logging.getLogger("tests.logs")
JOB = UUID("018f0000-0000-7000-8000-000000000001")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    LOG.handlers.clear()
    LOG.propagate = True


def written(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (line,) = capsys.readouterr().err.splitlines()
    entry: dict[str, object] = json.loads(line)
    return entry


def test_a_program_gets_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("INFO", "json", LOG)
    with about_job(JOB, 2, worker="gpu-1"):
        LOG.info("started: %d images", 3)
    entry = written(capsys)
    at = datetime.fromisoformat(str(entry.pop("time")))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert entry == {
        "level": "INFO", "logger": "tests.logs", "message": "started: 3 images",
        "job_id": str(JOB), "correlation_id": str(JOB), "attempt": 2, "worker": "gpu-1",
    }  # fmt: skip


def test_a_person_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("INFO", "text", LOG)
    with about(request_id="r-1"), about(owner="ada"):
        LOG.warning("it is away")
    LOG.debug("too quiet")
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING tests\.logs: it is away \[request_id=r-1 owner=ada\]", line
    )


async def test_what_it_is_about_goes_into_threads_and_tasks_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_to_stderr("INFO", "json", LOG)

    async def work(number: int) -> None:
        with about(attempt=number):
            await asyncio.to_thread(LOG.info, "in a thread of %d", number)

    await asyncio.gather(*(work(number) for number in range(10)))
    LOG.info("afterwards")
    *inside, after = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(entry["attempt"], entry["message"]) for entry in inside} == {
        (number, f"in a thread of {number}") for number in range(10)
    }
    assert "attempt" not in after


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_written(
    log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_ADMIN_TOKEN", "a-token-of-the-administrator")
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", "postgresql://darkroom:hunter2-and-more@db/darkroom")
    log_to_stderr("INFO", log_format, LOG)  # type: ignore[arg-type]
    LOG.info("opening %s", "nats://ada:s3cret-of-nats@127.0.0.1:4222")
    LOG.info("host=db password=another-secret, Authorization: Bearer drk_0123456789")
    try:
        raise OSError("hunter2-and-more was refused, and so was a-token-of-the-administrator")  # noqa: TRY301
    except OSError:
        LOG.exception("it failed")
    text = capsys.readouterr().err
    assert "it failed" in text
    assert "OSError" in text
    for secret in ("hunter2", "s3cret", "another-secret", "drk_0123456789", "a-token-of"):
        assert secret not in text


def test_what_a_client_sent_cannot_look_like_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("INFO", "text", LOG)
    LOG.info("GET %s failed", "/x\n2031-05-04T12:00:00.000Z ERROR api: the disk is full\r")
    first, second = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert first.endswith("GET /x")
    assert second.startswith("    2031-")
    assert second.endswith("full\\r failed")


def test_an_exception_keeps_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("INFO", "json", LOG)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        LOG.exception("it failed")
    stack = str(written(capsys)["exception"])
    assert stack.startswith("Traceback")
    assert "test_logs.py" in stack
