"""Jobs as this process left them: most of what happens to a job happens soon after what happened before."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain.generation import Generation

JOBS_REMEMBERED_MAX: Final = 1_000
"""A few kilobytes each; many times what one process has in work at a time."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job with its assets, the version of each of their streams, and the position of its last event."""

    generation: Generation
    versions: dict[UUID, int]
    position: int


NOTHING: Final = Loaded(Generation(), {}, 0)
"""A job that nobody has submitted yet."""


class RecentJobs:
    """The latest jobs this process has written. Thread-safe.

    Another process may have written since: what is remembered serves to decide on, and the append, which checks the
    version of every stream of the job, tells whether it was still so.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[UUID, Loaded] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, job_id: UUID) -> Loaded | None:
        """The job as it was left, or None."""
        with self._guard:
            return self._jobs.get(job_id)

    def put(self, job_id: UUID, loaded: Loaded) -> None:
        """Remember the job, unless a later state of it is known; the one written longest ago is forgotten."""
        with self._guard:
            known = self._jobs.get(job_id)
            if known is None or known.position < loaded.position:
                self._jobs[job_id] = loaded
            self._jobs.move_to_end(job_id)
            if len(self._jobs) > JOBS_REMEMBERED_MAX:
                self._jobs.popitem(last=False)

    def forget(self, job_id: UUID) -> None:
        """It turned out to have changed."""
        with self._guard:
            self._jobs.pop(job_id, None)

    def clear(self) -> None:
        """The ledger is another one."""
        with self._guard:
            self._jobs.clear()
