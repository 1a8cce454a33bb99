"""The soak itself: start, let it rain, wait for rest, check."""

import asyncio
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.soak.faults import RESTORE, Chaos, Fault, schedule
from tests.soak.figures import Figures, figures_of, unforeseen
from tests.soak.fleet import Fleet
from tests.soak.listening import Listener
from tests.soak.restoring import RESTORE_S_MAX
from tests.soak.traffic import Owner
from tests.soak.watching import Outages, busy, until_ready, until_rest
from tests.system.calls import Made
from tests.system.invariants import Found, what_is_wrong

OWNERS: Final = ("ada", "ben", "cleo")
LISTENERS_OF_EACH: Final = 2
READY_S_MAX: Final = 120.0
REST_S_MAX: Final = 240.0
"""A thumbnail whose maker was killed is tried again after a minute; an order whose worker was, after seconds."""

MOMENTS: Final = 3
"""Positions as of which the views are built and looked at."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """How it went. `wrong` is empty when every promise held; `folder` is kept when one did not."""

    seed: int
    wrong: list[str]
    figures: Figures
    faults: list[Fault]
    folder: Path


def soak(seed: int, seconds: float) -> Soaked:
    """Run it, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-soak-"))
    folder.chmod(0o711)  # Postgres may run as another user
    soaked = asyncio.run(_soak(seed, seconds, folder))
    if not soaked.wrong:
        shutil.rmtree(folder)
    return soaked


async def _soak(seed: int, seconds: float, folder: Path) -> Soaked:
    fleet = Fleet(folder, random.Random(f"fleet of {seed}"))
    faults = schedule(seed, seconds)
    try:
        await fleet.open()
        for url in fleet.urls:
            await until_ready(url, READY_S_MAX)
        return await _rain(seed, seconds, fleet, faults, folder)
    finally:
        await fleet.close()


async def _rain(seed: int, seconds: float, fleet: Fleet, faults: list[Fault], folder: Path) -> Soaked:
    keys = {name: fleet.add_user(name) for name in OWNERS}
    owners = [Owner(name, key, fleet.urls, random.Random(f"{name} of {seed}")) for name, key in keys.items()]
    listeners = [
        Listener(name, key, fleet.urls, random.Random(f"listener {number} of {name} of {seed}"))
        for name, key in keys.items()
        for number in range(LISTENERS_OF_EACH)
    ]
    outages = Outages(fleet.urls)
    chaos = Chaos(fleet, faults, lambda worker: busy(fleet.place, worker))
    dry, silent = asyncio.Event(), asyncio.Event()
    beside = [asyncio.create_task(one.run(silent)) for one in listeners] + [asyncio.create_task(outages.run())]
    try:
        restores = sum((fault.kind, fault.target) == RESTORE for fault in faults)
        async with asyncio.timeout(seconds + restores * RESTORE_S_MAX + REST_S_MAX):
            asking = [asyncio.create_task(owner.run(dry)) for owner in owners]
            await asyncio.gather(chaos.run(), asyncio.sleep(seconds))
            dry.set()
            ceased = time.monotonic()
            await asyncio.gather(*asking)
        missing = await until_rest(
            fleet.place, lambda: [(one.heard.owner, one.position) for one in listeners], REST_S_MAX
        )
        rest_s = time.monotonic() - ceased
    finally:
        silent.set()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        for owner in owners:
            await owner.close()
        for listener in listeners:
            await listener.close()
    said = [submission for owner in owners for submission in owner.said]
    made = Made(
        [call for owner in owners for call in owner.made.calls],
        [again for owner in owners for again in owner.made.retries],
    )
    heard, losses = [one.heard for one in listeners], chaos.restoring.losses
    found: Found = await asyncio.to_thread(what_is_wrong, fleet.place, said, heard, made, MOMENTS, losses)
    wrong = [f"no rest within {REST_S_MAX:g} s: {one}" for one in missing]
    wrong += [one for each in (*owners, *listeners, chaos.restoring) for one in each.wrong]
    wrong += [one.sentence for owner in owners for one in owner.contradictions if not one.of & losses.streams]
    wrong += found.wrong
    wrong += [f"{log.stem} failed as nobody foresaw: {line}" for log, line in unforeseen(fleet.logs)]
    figures = figures_of(seconds, rest_s, found, owners, listeners, outages, chaos, fleet)
    return Soaked(seed, wrong, figures, chaos.done, folder)
