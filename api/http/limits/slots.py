"""Slots for expensive work: a maximum in total, per owner, and of a shared amount; requests wait in turn."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.http.errors import UploadsBusy


@dataclass(frozen=True, slots=True)
class Room:
    """The number of slots, and the amount (bytes, pixels) shared by their holders; in total and per owner."""

    slots_max: int
    slots_per_owner_max: int
    amount_max: int
    amount_per_owner_max: int


@dataclass(eq=False, slots=True)
class _Waiting:
    owner: str
    amount: int
    admitted: asyncio.Future[None]


class Slots:
    """Slots of one event loop.

    Owners with fewer slots go first, then in order of arrival; a request that does not fit lets others pass.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held: Counter[str] = Counter()
        self._amounts: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []

    @property
    def held(self) -> int:
        """The number of taken slots."""
        return self._held.total()

    @asynccontextmanager
    async def taken(self, owner: str, amount: int, wait_s_max: float) -> AsyncIterator[None]:
        """Hold a slot while the block runs. An amount above an owner's share counts as the whole share.

        Raises `UploadsBusy` if there is none within `wait_s_max` seconds.
        """
        amount = max(0, min(amount, self._room.amount_per_owner_max))
        await self._admitted(owner, amount, wait_s_max)
        try:
            yield
        finally:
            self._leave(owner, amount)

    async def _admitted(self, owner: str, amount: int, wait_s_max: float) -> None:
        waiting = _Waiting(owner, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._admit()
        try:
            async with asyncio.timeout(wait_s_max):
                await waiting.admitted
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # admitted at the last moment
                self._leave(owner, amount)
            if isinstance(error, TimeoutError):
                raise UploadsBusy from None
            raise

    def _admit(self) -> None:
        for waiting in sorted(self._waiting, key=lambda one: self._held[one.owner]):
            if self._fits(waiting):
                self._waiting.remove(waiting)
                self._held[waiting.owner] += 1
                self._amounts[waiting.owner] += waiting.amount
                waiting.admitted.set_result(None)

    def _fits(self, waiting: _Waiting) -> bool:
        room = self._room
        return (
            self._held.total() < room.slots_max
            and self._held[waiting.owner] < room.slots_per_owner_max
            and self._amounts.total() + waiting.amount <= room.amount_max
            and self._amounts[waiting.owner] + waiting.amount <= room.amount_per_owner_max
        )

    def _leave(self, owner: str, amount: int) -> None:
        self._held[owner] -= 1
        self._amounts[owner] -= amount
        if not self._held[owner]:
            del self._held[owner], self._amounts[owner]
        self._admit()
