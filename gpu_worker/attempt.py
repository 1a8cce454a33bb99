"""One attempt of one job: start, render, store, report each asset, and report the end."""

import asyncio
import contextvars
import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client

from domain.bounds import cut
from domain.errors import AssetEnded, PromptAlreadyEnhanced
from domain.events import (
    WARNING_CHARACTERS_MAX,
    AssetCompleted,
    ErrorClass,
    Failure,
    JobHandedOver,
    JobMemoryLowered,
    JobNote,
    JobWarned,
)
from gpu_worker.engines import HandedOver, MemoryLowered, OutputFailed, RenderCanceled, Rendering, Warned
from gpu_worker.engines.peak_memory import forget_peak_memory, peak_memory_bytes
from gpu_worker.enhancement.enhancing import with_enhanced_prompt
from gpu_worker.failures import failure_of
from gpu_worker.keep_alive import Interrupt, KeepAlive
from gpu_worker.outputs.storing import Stored, store
from gpu_worker.reporting import Reporter, ReportRefused
from gpu_worker.workshop import Workshop, library_versions, request_of
from services.crash_points import Point, reached
from services.files.blobs import BlobStoreUnavailable
from services.messaging.wire import (
    UNACCEPTABLE,
    AssetCompletedReport,
    AssetFailedReport,
    AttemptFailedReport,
    AttemptReleasedReport,
    CancelConfirmedReport,
    NoteReport,
    Progress,
    ReportReply,
    StartedReport,
    WorkOrder,
    progress_subject,
)
from services.observability import telemetry
from services.observability.redaction import redacted

LOG = logging.getLogger("darkroom.worker")

PROGRESS_S_MIN = 0.05
"""Minimum seconds between progress messages: 20 a second are enough for people."""

STEP_S_MAX = 5.0
"""Seconds for which a stopping worker waits for the current step before it gives the job back anyway."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An output that the render thread has finished or given up, on its way into the object store."""

    position: int
    render_ms: int
    peak_memory_bytes: int
    stored: Future[Stored]


@dataclass(frozen=True, slots=True)
class RenderThreadEnded:
    """The render thread has finished the order."""

    error: BaseException | None = None


class Attempt:
    """An order in progress."""

    def __init__(
        self,
        order: WorkOrder,
        workshop: Workshop,
        reporter: Reporter,
        connection: Client,
        keep_alive: KeepAlive,
    ) -> None:
        self._order = order
        self._workshop = workshop
        self._reporter = reporter
        self._connection = connection
        self._keep_alive = keep_alive
        self._loop = asyncio.get_running_loop()
        self._arrivals: asyncio.Queue[Arrival | RenderThreadEnded] = asyncio.Queue()
        self._owed = {output.index for output in order.outputs}
        self._unreported: list[Arrival] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._revision = ""
        self._progress_due_at_s = 0.0
        self._who = {"job_id": order.job_id, "attempt": order.attempt}

    async def run(self) -> ReportReply:
        """Work until the ledger has the end of the attempt or refuses it; returns the answer to the start."""
        started = await self._reporter.settle(StartedReport.model_validate(self._who))
        if not started.accepted:
            LOG.info("not started: %s", started.detail or started.code)
            return started
        reached(Point.WORKER_AFTER_START)
        LOG.info("started: %d images with %s", len(self._owed), self._order.recipe.model)
        self._keep_alive.lease(started)
        began = time.perf_counter()
        rendering = self._loop.run_in_executor(self._workshop.rendering, contextvars.copy_context().run, self._render)
        failure = await self._report_arrivals()
        if self._keep_alive.interrupt is not Interrupt.STOPPING:
            await rendering  # it has reported its end: the thread is free for the next order
        await self._end(failure, seconds=time.perf_counter() - began)
        await self._settle_unreported()
        return started

    def _render(self) -> None:
        """Runs in the render thread. Every error is passed to the event loop."""
        workshop = self._workshop
        ended = RenderThreadEnded()
        try:
            forget_peak_memory()
            self._order = order = self._with_enhanced_prompt()
            request = request_of(order, workshop.blobs)
            for loss in request.losses:
                self._take(loss)
            with telemetry.job_span("load model", order.job_id, {"darkroom.model": order.recipe.model}):
                engine = workshop.engine(order.recipe.model)
            self._revision = engine.model_revision
            with telemetry.job_span("render", order.job_id, {"darkroom.outputs": len(order.outputs)}):
                for rendering in engine.render(request, on_step=self._stepped, canceled=self._canceled):
                    self._take(rendering)
        except BaseException as error:  # an exception that ended this thread would leave the job hanging
            ended = RenderThreadEnded(error)
        self._arrived(ended)

    def _with_enhanced_prompt(self) -> WorkOrder:
        """Runs in the render thread, before the engine takes the memory that a language model may need."""
        return with_enhanced_prompt(
            self._order, self._workshop.enhancing, self._note, lambda: self._keep_alive.interrupt is not None
        )

    def _take(self, rendering: Rendering) -> None:
        """Runs in the render thread. It waits until the ledger has a note; outputs are stored in parallel."""
        match rendering:
            case MemoryLowered(profile=profile, error=error):
                self._workshop.ran_out(self._order.recipe.model)
                self._note(JobMemoryLowered(attempt=self._order.attempt, profile=profile, error=redacted(error)))
            case HandedOver(position=position, provider=provider, provider_id=provider_id):
                reached(Point.WORKER_BEFORE_HAND_OVER)
                index = self._order.outputs[position].index
                handed = {"index": index, "provider": provider, "provider_id": provider_id}
                self._note(JobHandedOver.model_validate({"attempt": self._order.attempt, **handed}))
                reached(Point.WORKER_AFTER_HAND_OVER)
            case Warned(code=code, detail=detail):
                said = cut(redacted(detail), WARNING_CHARACTERS_MAX)
                self._note(JobWarned(attempt=self._order.attempt, code=str(code), detail=said))
            case OutputFailed(position=position, error=error):
                failed: Future[Stored] = Future()
                failed.set_exception(error)
                self._arrived(Arrival(position, 0, peak_memory_bytes(), failed))
            case _:
                output = self._order.outputs[rendering.position]
                stored = self._workshop.storing.submit(
                    contextvars.copy_context().run,
                    store,
                    self._workshop.blobs,
                    self._order,
                    output,
                    rendering,
                    self._revision,
                    self._workshop.file_recipe,
                )
                self._arrived(Arrival(rendering.position, rendering.render_ms, peak_memory_bytes(), stored))

    def _note(self, note: JobNote) -> None:
        """Append a note to the ledger and wait for it. Raises RenderCanceled when it is refused.

        Raises ReportRefused for a note that no attempt could append.
        """
        report = NoteReport(**self._who, note=note)
        reply = asyncio.run_coroutine_threadsafe(self._reporter.settle(report), self._loop).result()
        if reply.code in UNACCEPTABLE:
            raise ReportRefused(_refused(report.note.__class__.__name__, reply))
        if not reply.accepted:
            settled = reply.code == PromptAlreadyEnhanced.code
            self._keep_alive.interrupted(Interrupt.GIVING_BACK if settled else Interrupt.SUPERSEDED)
            raise RenderCanceled(reply.detail or "Another attempt has the job.")

    def _arrived(self, arrival: Arrival | RenderThreadEnded) -> None:
        with suppress(RuntimeError):  # the loop is closed: the worker gave the job back and is stopping
            self._loop.call_soon_threadsafe(self._arrivals.put_nowait, arrival)

    def _canceled(self) -> bool:
        """Runs in the render thread: see `Engine.render`."""
        interrupt = self._keep_alive.interrupt
        if interrupt in {Interrupt.STOPPING, Interrupt.SUPERSEDED}:
            # Outputs at a provider continue as well: the next attempt asks for them by their ids.
            raise RenderCanceled("The job goes on in another attempt.")
        return interrupt is Interrupt.CANCELED

    def _stepped(self, step: int, total: int) -> None:
        """Runs in the render thread after every step."""
        reached(Point.WORKER_AFTER_STEP)
        now_s = time.monotonic()
        if now_s < self._progress_due_at_s and step < total:
            return
        self._progress_due_at_s = now_s + PROGRESS_S_MIN
        progress = Progress(job_id=self._order.job_id, attempt=self._order.attempt, step=step, total=total)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._publish_soon, progress)

    def _publish_soon(self, progress: Progress) -> None:
        if self._connection.is_connected:  # progress is worthless later
            task = self._loop.create_task(self._publish(progress))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, progress: Progress) -> None:
        subject = progress_subject(self._workshop.worker)
        with suppress(nats.errors.Error):
            await self._connection.publish(subject, progress.model_dump_json().encode())

    async def _report_arrivals(self) -> Failure | None:
        """Report each image as it arrives. Returns why the attempt failed; None if it did not fail or was stopped."""
        failure = None
        while isinstance(arrival := await self._next_arrival(), Arrival):
            if self._keep_alive.interrupt in {Interrupt.CANCELED, Interrupt.SUPERSEDED}:
                self._unreported.append(arrival)
                continue
            output = self._order.outputs[arrival.position]
            try:
                stored = await asyncio.wrap_future(arrival.stored)
            except Exception as error:  # the encoder may raise anything
                why = self._failure_of(error)
                if why.error_class is ErrorClass.TRANSIENT:
                    failure = why  # the object store is at fault: the next attempt makes the remaining assets
                else:  # one image that cannot be encoded does not fail the others
                    await self._report(AssetFailedReport(**self._who, index=output.index, error=why))
                continue
            completed = self._completed(arrival, stored)
            LOG.info(
                "asset %d rendered in %d ms, stored in %d ms", output.index, completed.render_ms, completed.store_ms
            )
            await self._report(AssetCompletedReport(**self._who, index=output.index, completed=completed))
        if arrival.error is None or (isinstance(arrival.error, RenderCanceled) and self._keep_alive.interrupt):
            return failure
        return self._failure_of(arrival.error)

    def _failure_of(self, error: BaseException) -> Failure:
        return failure_of(error, LOG, worker=self._workshop.worker, versions=self._versions())

    def _versions(self) -> dict[str, str]:
        """The versions that the worker runs on; without a model until one is loaded."""
        return {**library_versions(), **({"model": self._revision} if self._revision else {})}

    async def _next_arrival(self) -> Arrival | RenderThreadEnded:
        while True:
            try:
                async with asyncio.timeout(STEP_S_MAX):
                    return await self._arrivals.get()
            except TimeoutError:
                if self._keep_alive.interrupt is Interrupt.STOPPING:
                    LOG.warning("the step that is running takes too long to wait for")
                    return RenderThreadEnded()

    async def _report(self, report: AssetCompletedReport | AssetFailedReport) -> None:
        reply = await self._reporter.settle(report)
        if reply.accepted:
            reached(Point.WORKER_AFTER_REPORT)
            self._owed.discard(report.index)
        elif reply.code in UNACCEPTABLE:
            LOG.error("asset %d: its report is not taken: %s", report.index, reply.detail or reply.code)
            if isinstance(report, AssetCompletedReport):
                why = Failure(error_class=ErrorClass.INTERNAL, message=_refused("AssetCompleted", reply))
                await self._report(AssetFailedReport(**self._who, index=report.index, error=why))
        else:
            LOG.info("asset %d refused: %s", report.index, reply.detail or reply.code)
            self._keep_alive.interrupted(Interrupt.SUPERSEDED)
            if reply.code == AssetEnded.code:
                reached(Point.WORKER_BEFORE_DELETE)
                await self._delete_file(report.index)

    async def _settle_unreported(self) -> None:
        """Report files that were finished while stopping; the ledger answers for each whether it is unwanted.

        Only files that no attempt will report are deleted: another attempt may be about to report this file as its own.
        """
        for arrival in self._unreported:
            if await self._loop.run_in_executor(None, arrival.stored.exception) is not None:
                continue  # it was not stored
            index = self._order.outputs[arrival.position].index
            completed = self._completed(arrival, arrival.stored.result())
            await self._report(AssetCompletedReport(**self._who, index=index, completed=completed))

    async def _delete_file(self, index: int) -> None:
        """A failure here is left to the sweeper."""
        (path,) = (output.path for output in self._order.outputs if output.index == index)
        try:
            await self._loop.run_in_executor(self._workshop.storing, self._workshop.blobs.delete, path)
        except (BlobStoreUnavailable, OSError) as error:
            LOG.warning("the file of asset %d stays for now: %s", index, error)

    async def _end(self, failure: Failure | None, *, seconds: float) -> None:
        """Report the end; not needed if every asset was reported, because that ended the job."""
        report: CancelConfirmedReport | AttemptReleasedReport | AttemptFailedReport
        interrupt = self._keep_alive.interrupt
        if not self._owed:
            LOG.info("done in %.2f s", seconds)
            return
        if interrupt is Interrupt.SUPERSEDED:
            LOG.info("discarded: another attempt has the job")
            return
        if interrupt is Interrupt.CANCELED:
            report = CancelConfirmedReport.model_validate(self._who)
        elif interrupt in {Interrupt.STOPPING, Interrupt.GIVING_BACK}:
            report = AttemptReleasedReport.model_validate(self._who)
        else:
            missing = Failure(error_class=ErrorClass.INTERNAL, message="The engine left out images that the job owes.")
            report = AttemptFailedReport(**self._who, error=failure or missing)
        reply = await self._reporter.settle(report)
        if reply.code in UNACCEPTABLE and isinstance(report, AttemptFailedReport):
            why = Failure(error_class=report.error.error_class, message=_refused("AttemptFailed", reply))
            reply = await self._reporter.settle(AttemptFailedReport(**self._who, error=why))
        LOG.info("%s %s", report.kind, "accepted" if reply.accepted else f"refused: {reply.detail or reply.code}")

    def _completed(self, arrival: Arrival, stored: Stored) -> AssetCompleted:
        return AssetCompleted(
            attempt=self._order.attempt,
            sha256=stored.sha256,
            pixels_sha256=stored.picture.pixels_sha256,
            media_type=stored.picture.media_type,
            bytes=stored.bytes,
            width=stored.picture.width,
            height=stored.picture.height,
            frames=stored.picture.frames,
            fps=stored.picture.fps,
            render_ms=arrival.render_ms,
            store_ms=stored.store_ms,
            worker_versions=self._versions(),
            peak_memory_bytes=arrival.peak_memory_bytes,
        )


def _refused(what: str, reply: ReportReply) -> str:
    """The failure of this part of the work, for the ledger."""
    return f"The ledger does not take what the worker reported ({what}): {reply.detail or reply.code}"
