"""The loop of a service that follows the ledger: it steps when the ledger grows, and waits out outages."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from nats.errors import Error as NatsError

from services.database import Unavailable
from services.messaging.broker import Broker
from services.observability import progress

log = logging.getLogger(__name__)


LOOK_S_MIN: Final = 0.02
"""Minimum seconds between the starts of two steps. On a busy ledger several commits then share a step, which costs as
many round trips for one event as for many; a single event is not delayed."""

LOOK_SHARE: Final = 4
"""A slow step is followed by a pause of three times its duration: on a busy machine there are fewer and larger steps,
which leaves time for writers."""

LOOK_S_MAX: Final = 0.1
"""Maximum seconds of such a pause."""


def pause_after(took_s: float) -> float:
    """Seconds until the next step, after one of `took_s` seconds that left nothing to do."""
    return min(max(LOOK_S_MIN, LOOK_SHARE * took_s), LOOK_S_MAX) - took_s


class OutOfStep(Exception):
    """A follower of the ledger cannot continue in the current state. Logged once, and tried again."""

    code = "out_of_step"


NATS_REMEDY: Final = "See that NATS runs, that DARKROOM_NATS_URL is right, and that its disk has room."


def say_wait(service: progress.ServiceProgress, error: Exception) -> None:
    """Report why a service waits."""
    if isinstance(error, (NatsError, OSError)) and not hasattr(error, "remedy"):  # a TimeoutError is an OSError
        service.waits(error, "nats_unavailable", NATS_REMEDY)
    else:
        service.waits(error)


async def follow(
    who: str, step: Callable[[], Awaitable[int]], broker: Broker, stop: asyncio.Event, *, full: int = 1
) -> None:
    """Step until there is nothing left to do, then wait for the ledger to grow; until `stop`.

    `step` returns how much it did; less than `full` means that nothing is left. An outage of Postgres or NATS is logged
    once and waited out. The state is reported to `services.observability.progress`.
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
