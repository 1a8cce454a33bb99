"""Slots are shared by owners: none takes those of others, and nobody gets more than there is."""

import asyncio
import random
from collections import Counter

import pytest

from api.http.errors import UploadsBusy
from api.http.limits.slots import Room, Slots
from tests.api.serving import until

ROOM = Room(slots_max=4, slots_per_owner_max=2, amount_max=100, amount_per_owner_max=60)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_comes_the_bounds_hold_and_everybody_is_served(seed: int) -> None:
    chance = random.Random(seed)
    slots, held, amounts, served = Slots(ROOM), Counter[str](), Counter[str](), 0

    async def use(owner: str, amount: int, turns: int) -> None:
        nonlocal served
        async with slots.taken(owner, amount, 60):
            counted = min(amount, ROOM.amount_per_owner_max)
            held[owner] += 1
            amounts[owner] += counted
            assert held.total() <= ROOM.slots_max
            assert held[owner] <= ROOM.slots_per_owner_max
            assert amounts.total() <= ROOM.amount_max
            assert amounts[owner] <= ROOM.amount_per_owner_max
            for _ in range(turns):
                await asyncio.sleep(0)
            held[owner] -= 1
            amounts[owner] -= counted
            served += 1

    users = [use(chance.choice("abc"), chance.choice([0, 1, 30, 60, 500]), chance.randrange(5)) for _ in range(100)]
    await asyncio.gather(*users)
    assert (served, slots.held) == (100, 0)


async def test_one_owner_with_many_waiting_leaves_room_for_another() -> None:
    slots, release = Slots(ROOM), asyncio.Event()
    entered: list[str] = []

    async def use(owner: str, amount: int) -> None:
        async with slots.taken(owner, amount, 60):
            entered.append(owner)
            await release.wait()

    greedy = [asyncio.create_task(use("greedy", 30)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    other = asyncio.create_task(use("other", 10))
    await until(lambda: "other" in entered)
    assert Counter(entered) == {"greedy": 2, "other": 1}
    release.set()
    await asyncio.gather(*greedy, other)


async def test_who_gives_up_or_waits_too_long_leaves_no_trace() -> None:
    slots = Slots(ROOM)
    async with slots.taken("a", 60, 1):
        waiting = asyncio.create_task(anext(aiter_of(slots, "a")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(UploadsBusy):
            async with slots.taken("a", 60, 0.01):
                raise AssertionError("there was no room")
    assert slots.held == 0
    async with slots.taken("a", 60, 1):
        assert slots.held == 1


async def aiter_of(slots: Slots, owner: str):  # type: ignore[no-untyped-def]
    """Takes a slot when it is asked for its first item."""
    async with slots.taken(owner, 60, 60):
        yield
