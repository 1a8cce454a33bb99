"""Items that a service of this process skipped because it cannot process them, and why.

A follower that met the same item at every step would make no progress. It parks the item instead, logs it once, and
continues. Parked items are reported with the progress of their service, and found by `services.observability.checks`.
They are in memory: after a restart the service meets the items again.
"""

import logging
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from services.observability import progress
from services.observability.metrics import ITEMS_PARKED

log = logging.getLogger(__name__)

PARKED_MAX: Final = 1_000
"""Maximum items remembered per process; the oldest are dropped first."""

TOLD_MAX: Final = 3
"""Maximum items reported per service; its log has all."""

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
    """Remember a skipped item; logged unless its sentence is unchanged. Thread-safe."""
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
    """The item was processed after all. Does nothing if it was not parked."""
    with _lock:
        if _parked.pop((service, item), None) is not None:
            _tell(service)


def parked(service: str | None = None) -> list[Parked]:
    """All parked items of this process, or those of one service, the oldest first."""
    with _lock:
        return [one for one in _parked.values() if service in {None, one.service}]


def _tell(service: str) -> None:
    of_service = [one for one in _parked.values() if one.service == service]
    ITEMS_PARKED.labels(service).set(len(of_service))
    sentences = [one.sentence[:SENTENCE_CHARACTERS_MAX] for one in of_service[-TOLD_MAX:]]
    progress.of(service).facts["parked"] = {"count": len(of_service), "sentences": sentences}
