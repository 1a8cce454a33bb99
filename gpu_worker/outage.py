"""Waiting for something that does not answer: how long, and one line in the log when it stops and when it is back."""

import logging
import random

WAIT_FIRST_S = 0.2
WAIT_MAX_S = 5.0
"""Exponential, doubling, with jitter over the upper half: a fleet of workers does not come back in step."""


class Outage:
    """One thing that is asked again until it answers."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` begins a sentence: "NATS", "The recorder"."""
        self._log = log
        self._what = what
        self._misses = 0

    @property
    def lasts(self) -> bool:
        """Whether it was away when it was last asked."""
        return self._misses > 0

    def missed(self, why: object) -> float:
        """It did not answer. Returns the seconds to wait before the next try."""
        if not self.lasts:
            self._log.warning("%s is away, trying again until it is back: %s", self._what, why)
        wait_s: float = min(WAIT_MAX_S, WAIT_FIRST_S * 2.0 ** min(self._misses, 10))
        self._misses += 1
        return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def over(self) -> None:
        """It answered."""
        if self.lasts:
            self._log.info("%s is back", self._what)
        self._misses = 0
