"""Waits for a service that does not answer; logs once when it stops answering and once when it is back."""

import logging
import random

WAIT_FIRST_S = 0.2
WAIT_MAX_S = 5.0
"""Maximum seconds between tries: exponential, doubling, with jitter over the upper half, so that a fleet of workers
does not return in step."""


class Outage:
    """A service that is called again until it answers."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """`what` begins a sentence: "NATS", "The recorder"."""
        self._log = log
        self._what = what
        self._misses = 0

    @property
    def lasts(self) -> bool:
        """Whether the last call failed."""
        return self._misses > 0

    def missed(self, why: object) -> float:
        """The call failed. Returns the seconds to wait before the next try."""
        if not self.lasts:
            self._log.warning("%s is away, trying again until it is back: %s", self._what, why)
        wait_s: float = min(WAIT_MAX_S, WAIT_FIRST_S * 2.0 ** min(self._misses, 10))
        self._misses += 1
        return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def over(self) -> None:
        """The call succeeded."""
        if self.lasts:
            self._log.info("%s is back", self._what)
        self._misses = 0
