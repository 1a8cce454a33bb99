"""Python's collector stays out of the way of batches."""

import gc
from collections.abc import Iterator
from uuid import UUID

import pytest

from domain.envelope import Envelope
from domain.events import AssetTagged
from services.gc_tuning import collect_seldom
from services.ledger import EventMapper
from tests.spec import JOB_ID, NOW, OWNER

EVENTS = 2_000
"""A batch of the projector."""


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """The generation of each look for garbage; the threshold is as before afterwards."""
    before, found = gc.get_threshold(), list[int]()

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            found.append(about["generation"])

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*before)


def decoded() -> list[object]:
    """A batch, all of it alive at once."""
    mapper = EventMapper()
    tagged = mapper.encode(JOB_ID, 1, AssetTagged(tags=("fog",)), Envelope(OWNER, OWNER, NOW, JOB_ID, JOB_ID))
    rows = [(position, UUID(int=position), 1, tagged.topic, tagged.state) for position in range(EVENTS)]
    gc.collect()
    return [mapper.read(*row) for row in rows]


def test_a_batch_is_decoded_with_at_most_one_look_for_garbage(looks: list[int]) -> None:
    decoded()
    often = len(looks)
    collect_seldom()
    looks.clear()
    decoded()
    assert len(looks) - 1 <= 1 < often - 1  # but for the one that each batch begins with
