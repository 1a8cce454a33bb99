"""The latest progress of running jobs, in memory only: it is not in the history, and lost with the process.

Workers report progress under their own names; the queue knows which worker runs which job, and its owner. So a worker
cannot report on a job that it does not run.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from nats.aio.msg import Msg
from pydantic import ValidationError

from projections.reads.jobs import RunningAttempt
from services.database import Unavailable
from services.messaging.broker import Broker
from services.messaging.wire import PROGRESS, Progress, sender_of

JOBS_MAX: Final = 10_000
"""Maximum number of jobs remembered; the one with the oldest progress is forgotten first. Far more than run at once."""

UNKNOWN_MAX: Final = 1_000
"""Maximum number of jobs with unconfirmed workers; the progress of more is dropped, and is soon repeated."""

WhoWorks = Callable[[Sequence[UUID]], Sequence[RunningAttempt]]


class ProgressBoard:
    """Receives all progress, remembers the latest of each job, and passes it on with its owner.

    `who_works` reads the queue, in a thread; raises `Unavailable`.
    """

    def __init__(self, who_works: WhoWorks, pass_on: Callable[[str, Progress], None]) -> None:
        self._latest: OrderedDict[UUID, tuple[RunningAttempt, Progress]] = OrderedDict()
        self._unknown: dict[tuple[UUID, str], Progress] = {}
        self._looking: asyncio.Task[None] | None = None
        self._who_works = who_works
        self._pass_on = pass_on

    async def listen(self, broker: Broker) -> None:
        """Subscribe to progress."""
        await broker.subscribe(PROGRESS, self._on_message)

    def latest(self, job_id: UUID, attempt: int) -> Progress | None:
        """The latest progress of this attempt of the job; None if there is none yet."""
        _, progress = self._latest.get(job_id, (None, None))
        return progress if progress is not None and progress.attempt == attempt else None

    async def _on_message(self, message: Msg) -> None:
        worker = sender_of(message.subject)
        try:
            progress = Progress.model_validate_json(message.data)
        except ValidationError:
            return  # a worker of another version: its progress cannot be shown, its reports still count
        known, _ = self._latest.get(progress.job_id, (None, None))
        if known is None or known.attempt < progress.attempt:
            self._ask(worker, progress)
        elif (known.attempt, known.worker) == (progress.attempt, worker):
            self._accept(known, progress)

    def _ask(self, worker: str, progress: Progress) -> None:
        """The first progress of an attempt waits until the queue has confirmed its worker; one query at a time."""
        if len(self._unknown) < UNKNOWN_MAX:
            self._unknown[progress.job_id, worker] = progress
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while asked := self._unknown:
            self._unknown = {}
            try:
                found = await asyncio.to_thread(self._who_works, [job_id for job_id, _ in asked])
            except Unavailable:
                continue  # dropping progress is safe: there will be more
            for running in found:
                progress = asked.get((running.job_id, running.worker))
                if progress is not None and progress.attempt == running.attempt:
                    self._accept(running, progress)

    def _accept(self, running: RunningAttempt, progress: Progress) -> None:
        self._latest[progress.job_id] = (running, progress)
        self._latest.move_to_end(progress.job_id)
        if len(self._latest) > JOBS_MAX:
            self._latest.popitem(last=False)
        self._pass_on(running.owner, progress)
