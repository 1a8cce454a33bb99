"""How long the API was away, and when the installation is at rest."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx
import nats
import psycopg
from nats.js.errors import NotFoundError

from projections import ALL
from services.messaging.wire import LEDGER_STREAM
from tests.system.invariants import JOB_ENDINGS, Place

LOOK_S: Final = 0.25

STATE = """
select
  (select coalesce(max(notification_id), 0) from ledger) as head,
  (select count(*) from ledger where topic = 'job.queued.v1')
    - (select count(*) from ledger where topic = any(%s)) as jobs,
  (select count(*) from views.assets where status = 'completed' and thumbnail_sha256 is null) as thumbnails,
  (select coalesce(min(position), 0) from view_progress where slot = 'live') as views,
  (select count(*) from view_progress where slot = 'live') as view_count
"""

OWNERS = "select owner, max(position) from views.history group by owner"

BUSY = "select exists (select from views.queue where status = 'running' and worker like %s)"


class Outages:
    """Asks four times a second whether any API can be used."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self.longest_s = 0.0
        self.total_s = 0.0
        self.number = 0

    async def run(self) -> None:
        """Until cancelled."""
        clock = asyncio.get_running_loop().time
        since: float | None = None
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            while True:
                began = clock()
                usable = any(await asyncio.gather(*(_usable(http, url) for url in self._urls)))
                if usable and since is not None:
                    self.number += 1
                    self.total_s += began - since
                    self.longest_s = max(self.longest_s, began - since)
                    since = None
                elif not usable and since is None:
                    since = began
                await asyncio.sleep(LOOK_S)


async def _usable(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def until_ready(url: str, within_s: float) -> None:
    """Wait for the API. Raises `TimeoutError`."""
    async with asyncio.timeout(within_s), httpx.AsyncClient(timeout=2, trust_env=False) as http:
        while not await _usable(http, url):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(LOOK_S)


def busy(place: Place, worker: str) -> bool:
    """Whether this worker has a job, as the view sees it; no while Postgres is away."""
    try:
        with psycopg.connect(place.dsn, connect_timeout=2) as connection:
            row = connection.execute(BUSY, (f"%.{worker}",)).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


async def until_rest(place: Place, positions: Callable[[], Sequence[tuple[str, int]]], within_s: float) -> list[str]:
    """Wait until nothing is left to do; what is still missing after so long. `positions`: of each stream client."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_s
    missing = ["nothing was looked at"]
    while missing and clock() < deadline:
        await asyncio.sleep(LOOK_S)
        try:
            missing = await _missing(place, positions())
        except (psycopg.Error, nats.errors.Error, OSError) as error:
            missing = [f"{type(error).__name__}: {error}"]
    return missing


async def _missing(place: Place, positions: Sequence[tuple[str, int]]) -> list[str]:
    endings = [f"{name}.v1" for name in sorted(JOB_ENDINGS)]
    async with await psycopg.AsyncConnection.connect(place.dsn, connect_timeout=3) as connection:
        state: Any = await (await connection.execute(STATE, (endings,))).fetchone()
        last: dict[str, int] = dict(await (await connection.execute(OWNERS)).fetchall())
    head, jobs, thumbnails, views, view_count = state
    found = [f"{jobs} jobs have not ended"] if jobs else []
    found += [f"{thumbnails} assets have no thumbnail"] if thumbnails else []
    found += [f"a view is at {views} of {head}"] if views < head or view_count < len(ALL) else []
    broadcast = await _broadcast(place.nats_url)
    found += [f"LEDGER is at {broadcast} of {head}"] if broadcast != head else []
    found += [
        f"an event stream of {owner} is at {position} of {last[owner]}"
        for owner, position in positions
        if position < last.get(owner, 0)
    ]
    return found


async def _broadcast(nats_url: str) -> int:
    client = await nats.connect(nats_url, connect_timeout=3, max_reconnect_attempts=0)
    try:
        state = (await client.jetstream(timeout=3).stream_info(LEDGER_STREAM)).state
        return min(state.messages, state.last_seq)
    except NotFoundError:
        return 0
    finally:
        await client.close()
