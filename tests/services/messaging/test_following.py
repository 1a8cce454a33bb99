"""How long a follower of the ledger pauses."""

import pytest

from services.messaging.follower import LOOK_S_MAX, LOOK_S_MIN, pause_after


@pytest.mark.parametrize(("took_s", "next_s"), [(0.0, 0.02), (0.005, 0.02), (0.01, 0.04), (0.02, 0.08), (0.05, 0.1)])
def test_looks_that_take_longer_grow_fewer(took_s: float, next_s: float) -> None:
    """From the beginning of one look to that of the next."""
    assert took_s + pause_after(took_s) == pytest.approx(next_s)
    assert LOOK_S_MIN <= next_s <= LOOK_S_MAX


def test_after_a_very_long_look_nothing_is_waited_for() -> None:
    assert pause_after(3.0) < 0  # asyncio.sleep takes it for 0
