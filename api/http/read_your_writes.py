"""Read your writes: a read can require that its views have reached a position."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from api.http.errors import ViewBehind
from domain.errors import FieldProblem, InvalidInput
from projections.reads import jobs as reads
from services.database import Database

MIN_POSITION: Final = "Darkroom-Min-Position"
POSITION: Final = "Darkroom-Position"

WAIT_S_MAX: Final = 5.0
"""Maximum seconds that a read waits for its views."""

POLL_S: Final = 0.01
"""Seconds between reads of the views' positions while requests wait: one query for all of them in this process."""

POSITION_MAX: Final = 2**63 - 1


class ViewPositions:
    """The positions of the live views. Queries Postgres only while requests wait, and once for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[dict[str, int]] | None = None

    async def reached(self, views: Sequence[str], position: int, wait_s_max: float = WAIT_S_MAX) -> None:
        """Return when all of `views` have read the ledger up to `position`. Raises `ViewBehind` and `Unavailable`."""
        deadline = asyncio.get_running_loop().time() + wait_s_max
        while True:
            positions = await self._ask()
            behind = {view: positions.get(view, 0) for view in views if positions.get(view, 0) < position}
            if not behind:
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise ViewBehind(position, behind)
            await asyncio.sleep(POLL_S)

    async def _ask(self) -> dict[str, int]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._read))
        return await asyncio.shield(self._asking)  # one caller that gives up must not cancel the others

    def _read(self) -> dict[str, int]:
        with self._database.connection() as connection:
            return reads.view_positions(connection)


async def wait_for_views(request: Request, positions: ViewPositions, *views: str) -> None:
    """Wait until `views` have reached the request's `Darkroom-Min-Position`; returns immediately without one."""
    wanted = request.headers.get(MIN_POSITION)
    if wanted is None:
        return
    await positions.reached(views, position_of(MIN_POSITION, wanted))


def position_of(path: str, text: str) -> int:
    """Parse a client's position. Raises `InvalidInput` with `path` if it is invalid."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > POSITION_MAX:
        raise InvalidInput([FieldProblem(path, "must be a position: a whole number from 0")])
    return int(text)
