"""Turns for work that keeps a processor busy: one request at a time, with pauses while other owners are active."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from api.http.errors import RateLimited

SHARE_MAX: Final = 0.2
"""Maximum share of the time for the work of one owner while others are active. Updating the views and broadcasting the
events of a large batch takes as long again as the request itself."""

FREE_S: Final = 0.05
"""Seconds of work that need no pause afterwards: a page may show several small batches."""

REST_S_MAX: Final = 6.0
"""Maximum seconds of a pause. The largest batch takes one to two seconds of work."""

WAIT_S_MAX: Final = 30.0
"""Seconds that a request waits for its turn before it is refused."""

LOOK_S: Final = 0.5
"""Seconds between two checks whether others are still active."""

OTHERS_S: Final = 10.0
"""Seconds after its last request during which an owner counts as active."""

OWNERS_MAX: Final = 1_000
"""Maximum number of owners remembered; the one with the oldest request is forgotten first."""


class Company:
    """The owners that sent a request recently. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s: OrderedDict[str, float] = OrderedDict()

    def asks(self, owner: str) -> None:
        """Record a request of this owner."""
        self._asked_s[owner] = self._clock()
        self._asked_s.move_to_end(owner)
        if len(self._asked_s) > OWNERS_MAX:
            self._asked_s.popitem(last=False)

    def others_ask(self, owner: str) -> bool:
        """Whether another owner sent a request within `OTHERS_S`."""
        other = next((one for one in reversed(self._asked_s) if one != owner), None)
        return other is not None and self._clock() - self._asked_s[other] <= OTHERS_S


class Pacing:
    """Turns for one kind of work. There are no pauses while only one owner is active. For one event loop."""

    def __init__(self, company: Company, clock: Callable[[], float] = time.monotonic) -> None:
        self._company = company
        self._clock = clock
        self._working = asyncio.Lock()
        self._of_owner: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._rested_at_s: dict[str, float] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Do the work inside the block. Raises `RateLimited` if the turn does not come within `WAIT_S_MAX`."""
        own = self._of_owner.setdefault(owner, asyncio.Lock())
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await self._take_turn(owner, own)
        except TimeoutError:
            raise RateLimited(math.ceil(REST_S_MAX)) from None
        began_s = self._clock()
        try:
            yield
        finally:
            self._working.release()
            self._rest_after(owner, self._clock() - began_s)
            own.release()

    async def _take_turn(self, owner: str, own: asyncio.Lock) -> None:
        """Wait for the other requests of the owner, then for the end of its pause, then for other owners."""
        await own.acquire()
        try:
            while (left_s := self._left_s(owner)) > 0 and self._company.others_ask(owner):  # noqa: ASYNC110 - time passes
                await asyncio.sleep(min(LOOK_S, left_s))
            await self._working.acquire()
        except BaseException:
            own.release()
            raise

    def _left_s(self, owner: str) -> float:
        """Seconds left of the owner's pause."""
        return self._rested_at_s.get(owner, 0.0) - self._clock()

    def _rest_after(self, owner: str, worked_s: float) -> None:
        now_s = self._clock()
        rest_s = min(REST_S_MAX, max(0.0, worked_s - FREE_S) * (1 / SHARE_MAX - 1))
        self._rested_at_s = {one: at_s for one, at_s in self._rested_at_s.items() if at_s > now_s}
        self._rested_at_s[owner] = now_s + rest_s
