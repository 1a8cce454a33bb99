"""Examines an installation for all readers in this process."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.database import Database, Unavailable
from services.messaging.broker import Broker
from services.observability.checks import CHECKS, of_this_process
from services.observability.findings import Check, Facts, Finding, examine

log = logging.getLogger(__name__)

ANSWER_S_MAX: Final = 3.0
"""Seconds that Postgres has to answer; supervisors ask every few seconds."""

KEPT_S: Final = 1.0
"""Seconds for which findings are cached: the installation is examined at most once a second."""

NATS_UNREACHABLE: Final = Finding(
    "nats_unreachable",
    "NATS cannot be reached.",
    "See that NATS runs, and that DARKROOM_NATS_URL is right; nothing that was accepted is lost.",
    "error",
)

TOO_SLOW: Final = Finding(
    "postgres_unreachable",
    f"Postgres did not answer within {ANSWER_S_MAX:g} s.",
    "See what the server is busy with; everything goes on by itself.",
    "error",
)


SAY_S: Final = 5.0
"""Seconds between two examinations of a program that logs its findings."""

LASTS_S_MIN: Final = 10.0
"""Seconds after which a finding is logged; a shorter one was a start or restart."""

NUMBERS: Final = re.compile(r"\d+")


@dataclass(slots=True)
class Watch:
    """The watch of one process. `views`, `data_dir` and `disk_free_min_bytes` are those of `Facts`."""

    database: Database
    broker: Broker
    views: Mapping[str, int]
    data_dir: Path | None = None
    disk_free_min_bytes: int = 0
    checks: Sequence[Check] = CHECKS
    _found: list[Finding] = field(default_factory=list)
    _at_s: float | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def findings(self) -> list[Finding]:
        """The findings of the last second, errors first."""
        async with self._looking:
            if self._at_s is None or time.monotonic() - self._at_s >= KEPT_S:
                self._found = await self._look()
                self._at_s = time.monotonic()
            return self._found

    async def _look(self) -> list[Finding]:
        found = of_this_process()
        if not self.broker.connected:
            found.append(NATS_UNREACHABLE)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                asked = await asyncio.to_thread(self._ask)
        except TimeoutError:
            asked = [TOO_SLOW]
        except Unavailable as error:
            asked = [Finding(error.reason, str(error), error.remedy, "error")]
        known = {finding.code for finding in found}
        both = [*found, *(finding for finding in asked if finding.code not in known)]
        return sorted(both, key=lambda finding: finding.severity)

    def _ask(self) -> list[Finding]:
        with self.database.connection() as connection:
            facts = Facts(connection, self.views, self.data_dir, self.disk_free_min_bytes)
            return examine(facts, self.checks)


async def say_findings(watch: Watch, stop: asyncio.Event) -> None:
    """Log each finding that lasts, once, with its remedy, and again when it is over. Runs until `stop`."""
    since: dict[str, tuple[float, Finding]] = {}
    said: set[str] = set()
    while not stop.is_set():
        now = time.monotonic()
        # A finding is the same while only the seconds in its sentence change.
        found = {NUMBERS.sub("", finding.sentence): finding for finding in await watch.findings()}
        for key in since.keys() - found.keys():
            _, finding = since.pop(key)
            if key in said:
                said.remove(key)
                log.info("over: %s", finding.sentence)
        for key, finding in found.items():
            began, _ = since.setdefault(key, (now, finding))
            if key not in said and now - began >= LASTS_S_MIN:
                said.add(key)
                log.log(logging.ERROR if finding.severity == "error" else logging.WARNING, "%s", finding)
        with suppress(TimeoutError):
            async with asyncio.timeout(SAY_S):
                await stop.wait()
