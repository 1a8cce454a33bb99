"""Cache of the jobs that this process wrote last: most commands follow shortly after the one before."""

import threading
from collections import OrderedDict
from typing import Any, Final
from uuid import UUID

from services.ledger.aggregates import Loaded

JOBS_REMEMBERED_MAX: Final = 1_000
"""Number of jobs; a few kilobytes each, and many times the jobs that one process works on at a time."""


class RecentJobs:
    """The jobs that this process wrote last. Thread-safe.

    Another process may have written since. Decisions may use the cached state, because the append checks the version of
    every stream of the job.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[UUID, Loaded[Any]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, job_id: UUID) -> Loaded[Any] | None:
        """The cached job, or None."""
        with self._guard:
            return self._jobs.get(job_id)

    def put(self, job_id: UUID, loaded: Loaded[Any]) -> None:
        """Cache the job unless a later state is cached; evicts the one written longest ago."""
        with self._guard:
            known = self._jobs.get(job_id)
            if known is None or known.position < loaded.position:
                self._jobs[job_id] = loaded
            self._jobs.move_to_end(job_id)
            if len(self._jobs) > JOBS_REMEMBERED_MAX:
                self._jobs.popitem(last=False)

    def forget(self, job_id: UUID) -> None:
        """Remove a job that turned out to have changed."""
        with self._guard:
            self._jobs.pop(job_id, None)

    def clear(self) -> None:
        """Remove all jobs, because the ledger is another incarnation."""
        with self._guard:
            self._jobs.clear()
