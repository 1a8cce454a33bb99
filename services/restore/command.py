"""Runs `darkroom restored`: compare, save, restore, and report what happened to files and orders."""

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import nats.errors
import psycopg
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError
from psycopg import Connection
from psycopg.rows import TupleRow

from services.crash_points import Point, reached
from services.database import CONNECTING, Unavailable, translated
from services.files.blobs import BlobMissing, Blobs, BlobStoreUnavailable
from services.files.named import NamedFiles, named_files
from services.ledger import RawEvent
from services.messaging.broker import CONNECT_S_MAX
from services.messaging.wire import LEDGER_STREAM, WORK_STREAM, nats_servers
from services.restore.epochs import stop_writes, stopped_reason
from services.restore.lost import Lost, find_lost, save
from services.restore.restoring import (
    RestorePlan,
    RestoreRefused,
    end_others,
    head_of,
    is_replaced,
    plan_of,
    read_at,
    restore,
)

log = logging.getLogger(__name__)

FOLDER: Final = "restored"
"""Subfolder of the data folder with the lost events and the report."""

WORKING: Final = "darkroom restored is at work. Writes are stopped; run `darkroom restored` again if it was cut off."


@dataclass(frozen=True, slots=True)
class FilesReport:
    """Files of the object store, by path.

    `adopted`: named by lost events, with the hash from these, and now expected by the ledger. `unnamed`: present, but
    named by nothing. `missing`: named by the ledger, but absent.
    """

    adopted: int
    unnamed: list[str]
    missing: list[str]


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was done, or would be done. `epoch` None: nothing was changed. `saved` is the file with the lost events."""

    plan: RestorePlan | None
    epoch: UUID | None
    saved: Path | None
    files: FilesReport | None

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        plan, files = self.plan, self.files
        return {
            "epoch": None if self.epoch is None else str(self.epoch),
            "how": None if plan is None else plan.how,
            "shared_position": None if plan is None else plan.shared,
            "lost": 0 if plan is None else plan.lost,
            "taken_back": 0 if plan is None else len(plan.back),
            "left_out": [] if plan is None else [_named(event) for event in plan.left_out],
            "orders_that_may_be_paid_twice": [
                {"job": str(o.job_id), "index": o.index, "provider": o.provider, "id": o.provider_id}
                for o in (plan.orders if plan else ())
            ],
            "keys_added": [] if plan is None else plan.keys_added,
            "keys_revoked": [] if plan is None else plan.keys_revoked,
            "lost_events": None if self.saved is None else str(self.saved),
            "files_adopted": 0 if files is None else files.adopted,
            "files_nobody_names": [] if files is None else files.unnamed,
            "files_missing": [] if files is None else files.missing,
        }


def restored(
    dsn: str, nats_url: str, blobs: Blobs, folder: Path, *, discard: bool, declare: bool, dry_run: bool
) -> RestoreReport:
    """Find the events that the ledger lost, restore or discard them, and allow writes again. Safe to repeat.

    `discard` leaves the lost events out; `declare` begins an epoch even if nothing differs. Raises `Unavailable`,
    `RestoreRefused` and `BlobStoreUnavailable`; then the ledger is unchanged, and writes remain stopped.
    """
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        try:
            if dry_run:
                lost = _find(connection, nats_url)
                if not _is_needed(connection, lost, declare=declare):
                    return RestoreReport(None, None, None, None)
                return RestoreReport(plan_of(connection, lost, discard=discard), None, None, None)
            return _restored(connection, nats_url, blobs, folder / FOLDER, discard=discard, declare=declare)
        except psycopg.errors.InsufficientPrivilege as error:
            raise RestoreRefused(
                f"The user {connection.info.user} may not do this: name the user who owns the table ledger in "
                "DARKROOM_POSTGRES_DSN, as for `darkroom migrate`. Nothing was changed."
            ) from error


def _restored(
    connection: Connection[TupleRow], nats_url: str, blobs: Blobs, folder: Path, *, discard: bool, declare: bool
) -> RestoreReport:
    lost = _find(connection, nats_url)
    if is_replaced(connection, lost.made):  # an earlier run died at the very end
        _delete_stream(nats_url)
        return RestoreReport(None, None, None, None)
    if not _is_needed(connection, lost, declare=declare):
        return RestoreReport(None, None, None, None)
    stop_writes(connection, WORKING)  # from here on the ledger does not change
    lost = _find(connection, nats_url)
    saved = _saved(lost, folder)
    reached(Point.RESTORED_AFTER_FILE)
    _take_orders_back(nats_url)
    plan, epoch = restore(connection, lost, discard=discard)
    if is_replaced(connection, lost.made):
        _delete_stream(nats_url)
    end_others(connection)
    report = RestoreReport(plan, epoch, saved, _files(connection, blobs, lost))
    _write_report(folder, report)
    return report


def _saved(lost: Lost, folder: Path) -> Path | None:
    """The file with the lost events; None if there are none. Raises `RestoreRefused`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return save(lost, folder) if lost.events else None
    except OSError as error:
        raise RestoreRefused(
            f"The lost events cannot be saved in {folder}: {error.strerror}. Nothing was changed."
        ) from error


def _find(connection: Connection[TupleRow], nats_url: str) -> Lost:
    head = head_of(connection)
    thorough = stopped_reason(connection) is not None

    async def find() -> Lost:
        async with _connected(nats_url) as client:
            jetstream = client.jetstream(timeout=CONNECT_S_MAX)
            return await find_lost(jetstream, lambda position: read_at(connection, position), head, thorough=thorough)

    return asyncio.run(find())


def _is_needed(connection: Connection[TupleRow], lost: Lost, *, declare: bool) -> bool:
    return bool(lost.count or declare or stopped_reason(connection))


def _take_orders_back(nats_url: str) -> None:
    """Empty WORK: its orders belong to the lost ledger. The dispatcher sends the orders of this one again."""

    async def purge() -> None:
        async with _connected(nats_url) as client:
            try:
                await client.jetstream(timeout=CONNECT_S_MAX).purge_stream(WORK_STREAM)
            except NotFoundError:
                return
            except TimeoutError:  # without permission; workers drop an order of a job that does not exist
                log.warning("orders of what was lost may be left: run `nats stream purge %s`", WORK_STREAM)

    asyncio.run(purge())


def _delete_stream(nats_url: str) -> None:
    """Delete the stream so that the relay fills it again. If this is interrupted, the relay deletes it."""

    async def delete() -> None:
        async with _connected(nats_url) as client:
            try:
                await client.jetstream(timeout=CONNECT_S_MAX).delete_stream(LEDGER_STREAM)
            except NotFoundError:
                return

    asyncio.run(delete())


class _connected:  # noqa: N801 - reads as a function
    """A short-lived connection. Raises `Unavailable`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client()

    async def __aenter__(self) -> Client:
        async def heard(_: Exception) -> None:
            """Reported below."""

        try:
            await self._client.connect(
                nats_servers(self._url),
                connect_timeout=CONNECT_S_MAX,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # otherwise it retries for two minutes
                error_cb=heard,
            )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unavailable("NATS cannot be reached: what the ledger lost is in its stream LEDGER.") from error
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        await self._client.close()
        if isinstance(error, nats.errors.Error | APIError | TimeoutError):
            raise Unavailable("NATS did not answer; docs/least-rights.md says what the user needs.") from error


def _files(connection: Connection[TupleRow], blobs: Blobs, lost: Lost) -> FilesReport:
    """Compare the object store with the files that the ledger names now."""
    now, before = named_files(connection), NamedFiles()
    before.reserved |= now.reserved
    for event in lost.events:
        before.take(event.stream_id, event.topic, event.state)
    named = {*now.there, *now.reserved.values()}
    there = set(blobs.paths())
    adopted = sum(path in named and path in there and _fits(blobs, path, sha) for path, sha in before.there.items())
    return FilesReport(adopted, sorted(there - named), sorted(path for path in now.there if path not in there))


def _fits(blobs: Blobs, path: str, sha256: str) -> bool:
    try:
        return blobs.describe(path).sha256 == sha256
    except (BlobMissing, BlobStoreUnavailable):
        return False


def _named(event: RawEvent) -> dict[str, Any]:
    return {"position": event.position, "stream": str(event.stream_id), "version": event.version, "type": event.topic}


def _write_report(folder: Path, report: RestoreReport) -> None:
    file = folder / f"report-{report.epoch}.json"
    file.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")
