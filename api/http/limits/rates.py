"""Rate limits: token buckets that refuse, and lines in which requests wait."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NAMES_MAX: Final = 10_000
"""Maximum number of names remembered; the one with the oldest request is forgotten, and starts with a full bucket
again."""


@dataclass(slots=True)
class _Bucket:
    """The tokens at a time of the monotonic clock."""

    tokens: float
    at_s: float


class Rates:
    """A bucket for each name: `burst` at once, refilled by `per_s`. For one event loop."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """0 if the request may pass; else the seconds until it may. A refused one costs nothing."""
        wait_s = self.wait_s(name)
        if wait_s == 0:
            self._buckets[name].tokens -= 1
        return wait_s

    def wait_s(self, name: str) -> float:
        """Seconds until the next request may pass."""
        now_s = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(self._burst, now_s))
        self._buckets.move_to_end(name)
        if len(self._buckets) > NAMES_MAX:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._per_s)
        bucket.at_s = now_s
        return 0.0 if bucket.tokens >= 1 else (1 - bucket.tokens) / self._per_s


class WaitingLine:
    """A line for each name, in which requests that come too often wait. `burst` pass at once, then `per_s`.

    Units are what callers count: requests, bytes. Nobody waits longer than `wait_s_max`, and a line is empty that long
    after its last request. For one event loop.
    """

    def __init__(
        self,
        per_s: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        wait_s_max: float = math.inf,
    ) -> None:
        self._per_s = per_s
        self._wait_s_max = wait_s_max
        self._burst_s = burst / per_s
        self._clock = clock
        self._served_s: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, name: str, units: float = 1.0) -> float:
        """Join the line with this many units; returns the seconds until their turn, after all that joined earlier."""
        now_s = self._clock()
        turn_s = max(self._served_s.get(name, 0.0), now_s - self._burst_s)
        self._served_s[name] = min(turn_s + units / self._per_s, now_s + self._wait_s_max)
        self._served_s.move_to_end(name)
        if len(self._served_s) > NAMES_MAX:
            self._served_s.popitem(last=False)
        return max(0.0, turn_s - now_s)
