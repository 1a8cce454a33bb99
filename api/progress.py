"""The latest progress of running jobs, kept in memory: it is no history, and lost with the process."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.broker import Broker
from services.wire import Progress

JOBS_MAX: Final = 10_000
"""Jobs remembered; the one not heard of for longest is forgotten first. Far more than run at once."""

SUBJECT: Final = "progress.>"


class ProgressBoard:
    """Hears all progress, remembers the latest of each job, and passes it on with its owner."""

    def __init__(self, pass_on: Callable[[str, Progress], None]) -> None:
        self._latest: OrderedDict[UUID, Progress] = OrderedDict()
        self._pass_on = pass_on

    async def listen(self, broker: Broker) -> None:
        """Hear progress from now on."""
        await broker.subscribe(SUBJECT, self._on_message)

    def latest(self, job_id: UUID, attempt: int) -> Progress | None:
        """What this attempt of the job last said; None when it said nothing yet."""
        progress = self._latest.get(job_id)
        return progress if progress is not None and progress.attempt == attempt else None

    async def _on_message(self, message: Msg) -> None:
        parts = message.subject.split(".")
        try:
            progress = Progress.model_validate_json(message.data)
        except ValidationError:
            return  # a worker of another version: its progress cannot be shown, its reports count all the same
        known = self._latest.get(progress.job_id)
        if known is not None and known.attempt > progress.attempt:
            return
        self._latest[progress.job_id] = progress
        self._latest.move_to_end(progress.job_id)
        if len(self._latest) > JOBS_MAX:
            self._latest.popitem(last=False)
        self._pass_on(parts[1], progress)
