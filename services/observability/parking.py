"""What a service of this process passed over because it can do nothing with it, and why.

A follower that met the same item at every step would do nothing else for ever. It parks the item instead, says so once,
and goes on. What is parked is told with the progress of its service, and found by `services.observability.checks`. It
is in memory: a restart meets the items again.
"""

import logging
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from services.metrics import ITEMS_PARKED
from services.observability import progress

log = logging.getLogger(__name__)

PARKED_MAX: Final = 1_000
"""Items remembered of all services of a process; the oldest go first."""

TOLD_MAX: Final = 3
"""Sentences told of a service; its log has all."""

SENTENCE_CHARACTERS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Parked:
    """`item` names it within its service; `sentence` says what it is, and what to do."""

    service: str
    item: Hashable
    sentence: str


_parked: Final[dict[tuple[str, Hashable], Parked]] = {}
_lock: Final = threading.Lock()


def park(service: str, item: Hashable, sentence: str) -> None:
    """Remember that it was passed over; logged unless the same was said of it before. Thread-safe."""
    one = Parked(service, item, sentence)
    with _lock:
        is_known = _parked.get((service, item)) == one
        _parked[service, item] = one
        while len(_parked) > PARKED_MAX:
            del _parked[next(iter(_parked))]
        _tell(service)
    if not is_known:
        log.error("the %s passes over %s: %s", service, item, sentence)


def unpark(service: str, item: Hashable) -> None:
    """It could be done after all; nothing happens where it was not parked."""
    with _lock:
        if _parked.pop((service, item), None) is not None:
            _tell(service)


def parked(service: str | None = None) -> list[Parked]:
    """All of this process, or those of one service, the oldest first."""
    with _lock:
        return [one for one in _parked.values() if service in {None, one.service}]


def _tell(service: str) -> None:
    of_service = [one for one in _parked.values() if one.service == service]
    ITEMS_PARKED.labels(service).set(len(of_service))
    sentences = [one.sentence[:SENTENCE_CHARACTERS_MAX] for one in of_service[-TOLD_MAX:]]
    progress.of(service).facts["parked"] = {"count": len(of_service), "sentences": sentences}
