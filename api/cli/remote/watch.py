"""`darkroom submit --watch`: follow a job until it ends, live in a terminal, as plain lines elsewhere."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from api.cli.remote.client import Client
from api.cli.remote.failures import ClientError, ServerBusy, Unreachable
from api.cli.remote.files import Place, outcome
from api.cli.remote.server_events import ServerEvent
from api.cli.tables import standing
from api.cli.terminal import printable
from domain.json_type import Json
from domain.statuses import ENDED

POLL_S = 2.0
"""Seconds without news after which the job is read: the queue position has no event, and events may be lost."""

RECONNECT_S = (0.2, 10.0)
"""First and longest pause, in seconds, before the event stream is opened again; it doubles in between."""

GONE_S_MAX = 120.0
"""Maximum seconds to wait for an absent server; the job continues."""


class Screen(Protocol):
    """Shows the progress of a job."""

    def standing(self, text: str, step: int, total: int | None) -> None:
        """Show the progress: `step` of `total` denoising steps; `total` is None before a worker has it."""
        ...

    def line(self, text: str) -> None:
        """Print a permanent line: an asset that was completed or failed."""
        ...

    def end(self, status: str) -> None:
        """Show the final status."""
        ...


class LiveScreen:
    """A progress bar; lines scroll above it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("submitted", total=None)
        self._steps: int | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def standing(self, text: str, step: int, total: int | None) -> None:
        """See `Screen`."""
        self._progress.update(self._task, description=text.partition(",")[0] if total else text, completed=step)
        self._progress.update(self._task, total=total)
        self._steps = total or self._steps

    def line(self, text: str) -> None:
        """See `Screen`."""
        self._progress.console.print(Text(text), soft_wrap=True)

    def end(self, status: str) -> None:
        """See `Screen`."""
        self._progress.update(self._task, description=status)
        if status == "succeeded" and self._steps:  # progress is lossy; a job that succeeded took all of its steps
            self._progress.update(self._task, completed=self._steps, total=self._steps)
        self._progress.stop_task(self._task)


class PlainScreen:
    """Lines for a log: a new status when it changes, and the steps at each quarter."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def standing(self, text: str, step: int, total: int | None) -> None:
        """See `Screen`."""
        mark = (text.partition(",")[0], step * 4 // total) if total else (text.partition(", about")[0], 0)
        if mark != self._last:
            self._last = mark
            self._write(text)

    def line(self, text: str) -> None:
        """See `Screen`."""
        self._write(text)

    def end(self, status: str) -> None:
        """The caller prints the outcome."""


def screen_for(console: Console, write: Callable[[str], None]) -> LiveScreen | PlainScreen:
    """A bar in a terminal that can draw one; FORCE_COLOR does not make a pipe one."""
    draws = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    return LiveScreen(console) if draws else PlainScreen(write)


async def watch(client: Client, job: Json, after: int, screen: Screen, place: Place) -> Json:
    """Follow `job` from position `after` until it ends; returns the ended job. `place` says where a file is.

    Warnings that `job` already has are not shown again.

    Raises `ClientError` if the server is absent for two minutes or the job no longer exists.
    """
    news: asyncio.Queue[ServerEvent] = asyncio.Queue(maxsize=1000)
    follower = asyncio.create_task(_follow(client, after, news))
    course = _Course(job, screen, place)
    try:
        course.show(job)
        while job["status"] not in ENDED:
            event = await _next(news)
            if event is not None and event.type == "progress":
                course.progress(event.data)
            elif event is None or event.data.get("correlation_id") == job["id"]:
                position = 0 if event is None or event.position is None else event.position
                job = await _ask(client, job["id"], position)
                course.show(job)
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
    return job


class _Course:
    """What was already shown of a job: nothing is shown twice."""

    def __init__(self, job: Json, screen: Screen, place: Place) -> None:
        self._job_id = job["id"]
        self._screen = screen
        self._place = place
        self._shown: set[str] = {warning["detail"] for warning in job.get("warnings") or []}

    def show(self, job: Json) -> None:
        if job.get("enhanced_prompt") and "enhanced" not in self._shown:
            self._shown.add("enhanced")
            self._screen.line(f"enhanced  {printable(job['enhanced_prompt'])}")
        for warning in job.get("warnings") or []:
            if warning["detail"] not in self._shown:
                self._shown.add(warning["detail"])
                self._screen.line(f"warning   {printable(warning['detail'])}")
        for asset in job["assets"]:
            if asset["status"] != "reserved" and asset["id"] not in self._shown:
                self._shown.add(asset["id"])
                self._screen.line(f"{asset['index']}  {asset['id']}  {outcome(asset, self._place)}")
        if job["status"] in ENDED:
            self._screen.end(job["status"])
        else:
            progress = job.get("progress") or {}
            total = progress.get("total") if job["status"] == "processing" else None
            self._screen.standing(standing(job), int(progress.get("step", 0)), total)

    def progress(self, data: Json) -> None:
        if data["job_id"] == self._job_id:
            step, total = int(data["step"]), int(data["total"])
            self._screen.standing(f"processing, step {step} of {total}", step, total)


async def _next(news: "asyncio.Queue[ServerEvent]") -> ServerEvent | None:
    try:
        return await asyncio.wait_for(news.get(), POLL_S)
    except TimeoutError:
        return None


async def _ask(client: Client, job_id: str, position: int) -> Json:
    """The current job. Waits for an absent server, up to a limit: accepted jobs survive its restart."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GONE_S_MAX
    while True:
        try:
            return await client.job(job_id, position=position)
        except (Unreachable, ServerBusy):
            if loop.time() > deadline:
                raise
        await asyncio.sleep(POLL_S)


async def _follow(client: Client, after: int | str, news: "asyncio.Queue[ServerEvent]") -> None:
    """Put every event into `news`, over any number of connections; none is lost or repeated in between."""
    first_s, longest_s = RECONNECT_S
    pause_s = first_s
    while True:
        with contextlib.suppress(ClientError):  # reading the job meets and reports any error
            async for event in client.events(after):
                after = event.id or after
                pause_s = first_s
                await news.put(event)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, longest_s)
