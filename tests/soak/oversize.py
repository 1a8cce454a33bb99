"""A worker that runs a job says too much of it, in each way that there is; each has to be refused, and said so."""

import asyncio
import time
from contextlib import suppress
from typing import Final

import nats
import nats.errors
import psycopg
from nats.aio.client import Client

from domain.events import AssetCompleted, JobPromptEnhanced
from services.messaging.wire import AssetCompletedReport, NoteReport, ReportReply, report_subject
from tests.system.invariants import Place

MUCH: Final = "x" * 900_000
"""NATS takes it, and the ledger does not."""

RUNNING_S_MAX: Final = 150.0
"""Until a job runs and a recorder answers, whatever else happens meanwhile."""

LOOK_S: Final = 0.1
ANSWER_S_MAX: Final = 2.0

REFUSED: Final = "invalid_input"
KINDS: Final = ("note", "asset_completed")

RUNNING: Final = (
    "select job_id, attempt, worker from views.queue where status = 'running' order by started_at desc limit 1"
)


async def report_too_much(place: Place) -> None:
    """Until each report was refused for its size. Raises `ProcessLookupError` when no job ran, or none was answered."""
    until = time.monotonic() + RUNNING_S_MAX
    refused: set[str] = set()
    while time.monotonic() < until:
        with suppress(psycopg.Error, nats.errors.Error, OSError):  # what it needs may be away
            refused |= await _report_once(place)
        if len(refused) == len(KINDS):
            return
        await asyncio.sleep(LOOK_S)
    raise ProcessLookupError(f"only {refused} were refused")


async def _report_once(place: Place) -> set[str]:
    """Which reports on a job that runs now were refused for their size; the others met a job that had ended."""
    async with await psycopg.AsyncConnection.connect(place.dsn, connect_timeout=3) as connection:
        row = await (await connection.execute(RUNNING)).fetchone()
    if row is None:
        return set()
    job_id, attempt, worker = row
    note = JobPromptEnhanced(attempt=attempt, original="fog", enhanced=MUCH, enhancer="rules 1")
    file = AssetCompleted(
        attempt=attempt,
        sha256="0" * 64,
        pixels_sha256="0" * 64,
        media_type="image/png",
        bytes=1,
        width=1,
        height=1,
        render_ms=1,
        store_ms=1,
        worker_versions={"torch": MUCH},
    )
    reports = (
        NoteReport(job_id=job_id, attempt=attempt, note=note),
        AssetCompletedReport(job_id=job_id, attempt=attempt, index=0, completed=file),
    )
    client = await nats.connect(place.nats_url, connect_timeout=3, max_reconnect_attempts=0)
    try:
        return {report.kind for report in reports if await _is_refused(client, worker, report.model_dump_json())}
    finally:
        await client.close()


async def _is_refused(client: Client, worker: str, report: str) -> bool:
    reply = ReportReply.model_validate_json(
        (await client.request(report_subject(worker), report.encode(), timeout=ANSWER_S_MAX)).data
    )
    if reply.accepted:
        raise AssertionError(f"a report of {len(report)} bytes was accepted: {report[:200]}")
    return reply.code == REFUSED
