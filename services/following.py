"""How a service follows the ledger: it steps whenever the ledger grew, and waits outages out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from nats.errors import Error as NatsError

from services.broker import Broker
from services.database import Unavailable
from services.observability import progress

log = logging.getLogger(__name__)


LOOK_S_MIN: Final = 0.02
"""Between the beginnings of two looks at the ledger. On a busy one several commits then share a look, whose round trips
cost as much for one event as for many; a lonely event is not held up."""

LOOK_SHARE: Final = 4
"""A look that took long is followed by a pause of three times as long: where processors are scarce, looks grow fewer
and each does more, instead of taking time from those who write."""

LOOK_S_MAX: Final = 0.1
"""But nothing waits longer than this for the next look."""


def pause_after(took_s: float) -> float:
    """Seconds to the next look, after one of so many that left nothing to do."""
    return min(max(LOOK_S_MIN, LOOK_SHARE * took_s), LOOK_S_MAX) - took_s


class OutOfStep(Exception):
    """What follows the ledger cannot go on as things are. It is said once, and tried again."""

    code = "out_of_step"


NATS_REMEDY: Final = "See that NATS runs, that DARKROOM_NATS_URL is right, and that its disk has room."


def say_wait(service: progress.ServiceProgress, error: Exception) -> None:
    """Say why a service waits, by what stopped it."""
    if isinstance(error, (NatsError, OSError)) and not hasattr(error, "remedy"):  # a TimeoutError is an OSError
        service.waits(error, "nats_unavailable", NATS_REMEDY)
    else:
        service.waits(error)


async def follow(
    who: str, step: Callable[[], Awaitable[int]], broker: Broker, stop: asyncio.Event, *, full: int = 1
) -> None:
    """Step until there is nothing left to do, then wait for the ledger to grow; until `stop`.

    `step` says how much it did; less than `full` was all there was. An outage of Postgres or NATS is logged once and
    waited out. Where it stands is said to `services.observability.progress`.
    """
    follower = broker.follower()
    said = progress.of(who)
    trouble = ""
    while not stop.is_set():
        began = time.monotonic()
        try:
            if broker.connected:
                while await step() >= full and not stop.is_set():
                    said.looked()
                said.looked()
            else:
                said.waits("NATS cannot be reached", "nats_unavailable", NATS_REMEDY)
            trouble = ""
        except (Unavailable, NatsError, OSError, TimeoutError, OutOfStep) as error:
            if str(error) != trouble:
                log.warning("the %s waits: %s", who, error)
            trouble = str(error)
            say_wait(said, error)
        await asyncio.sleep(pause_after(time.monotonic() - began))
        await follower.woken()
