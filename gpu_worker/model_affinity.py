"""Which waiting order a worker takes: preferably one of a loaded model, within a limit that starves none. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOOKED_AT_MAX = 4
"""Maximum number of orders considered before one is taken; the others are given back immediately."""

PASSED_OVER_MAX = 4
"""Number of returns after which an order is taken next, whatever is loaded."""

WAITED_S_MAX = 30.0
"""Seconds since its dispatch after which an order is taken next. For jobs of minutes this means first come, first
served: there, loading a model costs little in comparison, and waiting for one more job costs much."""


@dataclass(frozen=True, slots=True)
class WaitingOrder:
    """An order that could be taken now."""

    model: str
    waited_s: float
    """Seconds since it was handed out, by the broker's clock and this machine's: they should agree."""
    passed_over: int
    """How often this worker or another one pulled it and gave it back."""

    @property
    def is_due(self) -> bool:
        """Whether it must be taken next."""
        return self.passed_over >= PASSED_OVER_MAX or self.waited_s >= WAITED_S_MAX


def preferred(orders: Sequence[WaitingOrder], is_loaded: Callable[[str], bool]) -> int | None:
    """The index of the order to take: the first that is due or needs no loading. They are sorted, oldest first.

    None: any of them needs loading. Then the oldest is next, unless more orders can be pulled.
    """
    return next((n for n, order in enumerate(orders) if order.is_due or is_loaded(order.model)), None)
