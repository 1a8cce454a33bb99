"""Work that keeps a processor busy: one piece at a time, and one owner gets a share of the time while others ask."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from api.errors import RateLimited

SHARE_MAX: Final = 0.2
"""The share of the time that one owner's work takes while others ask. What follows from a large batch, its views and
its broadcast, takes as long again as the request itself."""

FREE_S: Final = 0.05
"""Work up to this needs no rest afterwards: a page shows several small batches at once."""

REST_S_MAX: Final = 6.0
"""The longest rest. A batch of the largest size takes one to two seconds."""

WAIT_S_MAX: Final = 30.0
"""A request waits so long for its turn; then it is refused."""

LOOK_S: Final = 0.5
"""Who rests looks this often whether others still ask."""

OTHERS_S: Final = 10.0
"""Others ask as long as the last request of another owner is no older."""

OWNERS_MAX: Final = 1_000
"""Owners remembered as asking; the one not heard of for longest is forgotten."""


class Company:
    """Which owners asked for anything lately. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s: OrderedDict[str, float] = OrderedDict()

    def asks(self, owner: str) -> None:
        """A request of this owner came."""
        self._asked_s[owner] = self._clock()
        self._asked_s.move_to_end(owner)
        if len(self._asked_s) > OWNERS_MAX:
            self._asked_s.popitem(last=False)

    def others_ask(self, owner: str) -> bool:
        """Whether anybody but this owner asked within `OTHERS_S`."""
        other = next((one for one in reversed(self._asked_s) if one != owner), None)
        return other is not None and self._clock() - self._asked_s[other] <= OTHERS_S


class Pacing:
    """Turns for one kind of work. An owner who is alone never rests. For one event loop."""

    def __init__(self, company: Company, clock: Callable[[], float] = time.monotonic) -> None:
        self._company = company
        self._clock = clock
        self._working = asyncio.Lock()
        self._of_owner: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._rested_at_s: dict[str, float] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Work inside the block. Raises `RateLimited` when the turn does not come within `WAIT_S_MAX`."""
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
        """First among the owner's own requests, which rest one after the other, then among everybody's."""
        await own.acquire()
        try:
            while (left_s := self._left_s(owner)) > 0 and self._company.others_ask(owner):  # noqa: ASYNC110 - time passes
                await asyncio.sleep(min(LOOK_S, left_s))
            await self._working.acquire()
        except BaseException:
            own.release()
            raise

    def _left_s(self, owner: str) -> float:
        """How long the owner still rests."""
        return self._rested_at_s.get(owner, 0.0) - self._clock()

    def _rest_after(self, owner: str, worked_s: float) -> None:
        now_s = self._clock()
        rest_s = min(REST_S_MAX, max(0.0, worked_s - FREE_S) * (1 / SHARE_MAX - 1))
        self._rested_at_s = {one: at_s for one, at_s in self._rested_at_s.items() if at_s > now_s}
        self._rested_at_s[owner] = now_s + rest_s
