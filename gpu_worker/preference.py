"""Which of the waiting orders a worker takes: one whose model is loaded, within a bound that starves nobody. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOOKED_AT_MAX = 4
"""So many orders are looked at before one is taken; those that are not taken are given back at once."""

PASSED_OVER_MAX = 4
"""An order that was given back so often is taken next, whatever is loaded."""

WAITED_S_MAX = 30.0
"""So is one that was handed out so long ago. Where jobs take minutes that is first come, first served: beside them,
loading a model costs little, and waiting for one more of them costs much."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order that could be taken now."""

    model: str
    waited_s: float
    """Seconds since it was handed out, by the broker's clock and this machine's: they should agree."""
    passed_over: int
    """How often a worker, this one or another, had it in hand and gave it back."""

    @property
    def is_due(self) -> bool:
        """Whether it must not be passed over any more."""
        return self.passed_over >= PASSED_OVER_MAX or self.waited_s >= WAITED_S_MAX


def preferred(orders: Sequence[Waiting], is_loaded: Callable[[str], bool]) -> int | None:
    """Return the index of the order to take: the first that is due or needs no loading. They are sorted, oldest first.

    None: taking any of them means loading a model first. Then it is the oldest's turn, unless more orders can be seen.
    """
    return next((n for n, order in enumerate(orders) if order.is_due or is_loaded(order.model)), None)
