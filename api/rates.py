"""Token buckets: how often somebody may do something."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NAMES_MAX: Final = 10_000
"""Names remembered; the one not heard of for longest is forgotten, and begins with a full bucket again."""


@dataclass(slots=True)
class _Bucket:
    """What may come at once, as of a moment of the monotonic clock."""

    tokens: float
    at_s: float


class Rates:
    """A bucket for each name: `burst` at once, refilled by `per_s`. For one event loop alone."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """0 when one more may come; else the seconds until it may. One that is refused costs nothing."""
        wait_s = self.wait_s(name)
        if wait_s == 0:
            self._buckets[name].tokens -= 1
        return wait_s

    def wait_s(self, name: str) -> float:
        """Seconds until one more may come."""
        now_s = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(self._burst, now_s))
        self._buckets.move_to_end(name)
        if len(self._buckets) > NAMES_MAX:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._per_s)
        bucket.at_s = now_s
        return 0.0 if bucket.tokens >= 1 else (1 - bucket.tokens) / self._per_s
