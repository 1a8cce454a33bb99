"""An older backup of Postgres, put back while everybody goes on asking: each step as docs/backup.md says it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import nats
import nats.errors
import psycopg
from nats.js.errors import APIError, NotFoundError
from psycopg.conninfo import make_conninfo

from services.messaging.wire import LEDGER_STREAM
from tests.backup_page import commands, run
from tests.soak.fleet import SERVICES, Fleet
from tests.system.invariants import Place, facts_of
from tests.system.losses import Losses

STEP_S_MAX: Final = 60.0
"""For a step, while Postgres or NATS recover from another fault."""

RELAY_S_MAX: Final = 10.0
"""For the relay to publish what was committed; a stream that is damaged may take longer than anybody waits."""

NOTICED_S_MAX: Final = 60.0
"""From the start of the services until writes are stopped."""

LOOK_S: Final = 0.1

RESTORE_S_MAX: Final = 180.0
"""For all of it."""

NOTHING: Final = "Nothing to do"

CUT_ALL: Final = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = 'postgres' and backend_type = 'client backend' and pid <> pg_backend_pid()
"""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Backup:
    """What the commands of the page wrote, and where the ledger ended at least when they began."""

    folder: Path
    head: int


class Restoring:
    """Takes backups and puts them back. `losses` is what that took for good; `wrong` what did not go as promised."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._backups: list[Backup] = []
        self._begun = 0
        self.losses = Losses()
        self.wrong: list[str] = []
        self.ways: Counter[str] = Counter()
        self.taken_back = 0

    async def back_up(self) -> None:
        """While everything runs; again where Postgres fell in the middle of it."""
        self._begun += 1
        folder = self._fleet.data.parent / f"backup-{self._begun}"
        folder.mkdir()
        head = await _patiently(lambda: _head(self._fleet.place))
        await _patiently(lambda: _run("backup", DIR=str(self._fleet.data), BACKUP=str(folder)))
        self._backups.append(Backup(folder, head))

    async def restore(self, share: float) -> None:
        """Put back the backup at this share of those that there are.

        Half of the times the relay has published everything before: then nothing may be lost. And half of the times
        the services run again before anybody acts: then they have to stop all writes by themselves.
        """
        if not self._backups:
            raise ProcessLookupError("no backup")
        chosen = int(share * 4 * len(self._backups))
        backup, is_published, is_noticed = self._backups[chosen // 4], bool(chosen & 1), bool(chosen & 2)
        began = time.monotonic()
        await self._stop_writing(is_published=is_published)
        before = await _patiently(lambda: facts_of(self._fleet.place.dsn))
        published = await self._published()
        dsn = self._fleet.place.dsn
        await _patiently(lambda: _put_back(dsn, backup))
        restored_to = await _patiently(lambda: _head(self._fleet.place))
        is_noticed &= published > restored_to
        if is_noticed:
            self._fleet.start_again()
            await self._until_stopped()
        report = await self._restored(must=published > restored_to)
        if not is_noticed:
            self._fleet.start_again()
        after = await _patiently(lambda: facts_of(dsn))
        lost = self.losses.add(before, after)
        if report["how"] == "merged":
            self.losses.moved(report["shared_position"])
        if published >= len(before) and report["how"] != "merged" and lost:
            self.wrong.append(f"LEDGER held all {len(before)} events, and {lost} are lost after {report}")
        self.taken_back += report["taken_back"]
        self.ways[f"{report['how']}{', noticed' if is_noticed else ''}{', some lost' if lost else ''}"] += 1
        if time.monotonic() - began > RESTORE_S_MAX:
            self.wrong.append(f"a restore took {time.monotonic() - began:.0f} s")

    async def _stop_writing(self, *, is_published: bool) -> None:
        """Nothing that writes runs after this, and nothing is on its way."""
        if is_published:
            self._fleet.hold([name for name in SERVICES if name != "relay"])
            await _patiently(lambda: _cut_all(self._fleet.place.dsn))
            head = await _patiently(lambda: _head(self._fleet.place))
            with suppress(TimeoutError):
                async with asyncio.timeout(RELAY_S_MAX):
                    while await self._published() < head:  # noqa: ASYNC110 - it is in another process
                        await asyncio.sleep(LOOK_S)
        self._fleet.hold(SERVICES)
        await _patiently(lambda: _cut_all(self._fleet.place.dsn))

    async def _published(self) -> int:
        """Up to where LEDGER holds every event."""
        until = time.monotonic() + STEP_S_MAX
        while True:
            try:
                client = await nats.connect(self._fleet.place.nats_url, connect_timeout=3, max_reconnect_attempts=0)
                try:
                    state = (await client.jetstream(timeout=3).stream_info(LEDGER_STREAM)).state
                finally:
                    await client.close()
            except NotFoundError:
                return 0
            except (nats.errors.Error, APIError, OSError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(LOOK_S)
            else:
                return state.last_seq if state.messages == state.last_seq else 0

    async def _until_stopped(self) -> None:
        until = time.monotonic() + NOTICED_S_MAX
        while await _patiently(lambda: _stopped(self._fleet.place)) is None:
            if time.monotonic() > until:
                self.wrong.append(f"an older backup was not noticed within {NOTICED_S_MAX:g} s")
                return
            await asyncio.sleep(LOOK_S)

    async def _restored(self, *, must: bool) -> dict[str, Any]:
        """`darkroom restored`, and what it reported. Where LEDGER holds no more than the backup, it is declared."""
        place, data = self._fleet.place, self._fleet.data
        settings = {
            "DARKROOM_POSTGRES_DSN": place.dsn,
            "DARKROOM_NATS_URL": place.nats_url,
            "DARKROOM_BLOBS_URL": place.blobs.as_uri(),
            "DARKROOM_DATA_DIR": str(data),
        }
        reports = set((data / "restored").glob("report-*.json"))
        said = await _patiently(lambda: _run("restored", **settings))
        if NOTHING in said:
            if must:
                self.wrong.append(f"LEDGER held more than the backup, and there was nothing to do: {said}")
            await _patiently(lambda: _run_line("darkroom restored --declare", **settings))
        (made,) = set((data / "restored").glob("report-*.json")) - reports
        report: dict[str, Any] = json.loads(made.read_text())
        return report


async def _patiently(step: Callable[[], Result]) -> Result:
    """Do it in a thread, again while a server is away."""
    until = time.monotonic() + STEP_S_MAX
    while True:
        try:
            return await asyncio.to_thread(step)
        except (psycopg.Error, CommandFailed):
            if time.monotonic() > until:
                raise
        await asyncio.sleep(LOOK_S)


class CommandFailed(Exception):
    """A command of the page ended with another status than 0; what it said."""


def _run(block: str, **environment: str) -> str:
    return _run_line(commands(block), **environment)


def _run_line(line: str, **environment: str) -> str:
    done = run(line, **environment)
    if done.returncode:
        raise CommandFailed(f"{line}: {done.stdout}{done.stderr}")
    return done.stdout


def _put_back(dsn: str, backup: Backup) -> None:
    """The database is made again; its server, and with it the roles, stay."""
    with psycopg.connect(make_conninfo(dsn, dbname="template1"), autocommit=True, connect_timeout=3) as connection:
        connection.execute("drop database if exists postgres with (force)")
        connection.execute("create database postgres template template0")
    _run("restore", NEW=dsn, BACKUP=str(backup.folder))


def _cut_all(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as connection:
        connection.execute(CUT_ALL)


def _head(place: Place) -> int:
    return int(_value(place, "select coalesce(max(last_position), 0) from ledger_commits"))


def _stopped(place: Place) -> Any:
    return _value(place, "select (select reason from ledger_stopped)")


def _value(place: Place, query: str) -> Any:
    with psycopg.connect(place.dsn, connect_timeout=3) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
