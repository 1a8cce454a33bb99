"""`python -m gpu_worker`: one worker, or several if all models are hosted.

`--settings` lists its settings, `--check` reports problems.

Exit status 0 after SIGTERM or SIGINT, 1 if it had to exit without giving its job back, 2 for an invalid setting.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client

from gpu_worker.check import faults
from gpu_worker.connection import connect
from gpu_worker.engines import ModelUnavailable, OutOfMemory
from gpu_worker.engines.hosted import fal, replicate
from gpu_worker.engines.hosted.engine import HostedEngines, is_hosted
from gpu_worker.engines.hosted.provider import Account
from gpu_worker.engines.identity import KNOWN
from gpu_worker.enhancement.enhance_service import Answering
from gpu_worker.enhancement.enhancing import Enhancing
from gpu_worker.loop import Worker
from gpu_worker.settings import WorkerSettings, WorkerSettingsError
from gpu_worker.tuning import TuningRefused
from gpu_worker.workshop import Engines, Workshop
from services.files.blobs import Blobs
from services.files.decoders import bounded
from services.observability.logs import log_to_stderr
from services.observability.redaction import without_credentials
from services.observability.telemetry import TelemetryMissing, exporting

LOG = logging.getLogger("darkroom.worker")

STOP_S_MAX = 5.0
"""Maximum seconds to give the job back; after that the worker exits, and the job's lease expires."""

CLOSE_S_MAX = 2

T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """Run until stopped. Returns the exit status."""
    if arguments not in ([], ["--settings"], ["--check"]):
        sys.stderr.write("usage: python -m gpu_worker [--settings | --check]\n")
        return 2
    try:
        settings = WorkerSettings.from_environment()
        if arguments == ["--check"]:
            found = list(faults(settings))
            sys.stdout.writelines(f"{what}\t{remedy}\n" for what, remedy in found)
            return 1 if found else 0
        if arguments:
            sys.stdout.writelines(line + "\n" for line in settings.listing())
            return 0
        workshops = compose(settings)
    except WorkerSettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        with exporting("darkroom-worker"):
            return asyncio.run(serve(settings, workshops))
    except TelemetryMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2


def compose(settings: WorkerSettings) -> Sequence[Workshop]:
    """The parts of each worker in this process. Raises `WorkerSettingsError` if one cannot be created."""
    log_to_stderr("WARNING", settings.log_format)  # for the logs of libraries
    log_to_stderr(settings.log_level, settings.log_format, LOG)
    if (warning := WorkerSettings.warning_about(os.environ)) is not None:
        LOG.warning(warning)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # importing torch takes seconds; there is no job to give back
    try:
        blobs = Blobs(settings.blobs())
    except Exception as error:  # the library raises ValueError, OSError or its own exceptions
        reason = without_credentials((str(error).splitlines() or [""])[0])
        raise WorkerSettingsError(f"DARKROOM_BLOBS_URL: {without_credentials(settings.blobs())}: {reason}") from None
    engines = engines_of(settings)
    enhancing = Enhancing(settings.enhancer, settings.device, engines.release)
    device = engines.device_name
    return [
        Workshop(worker, settings.models, engines, blobs, enhancing, settings.file_recipe, device)
        for worker in settings.workers
    ]


def engines_of(settings: WorkerSettings) -> Engines:
    """The engines of a worker; with only hosted models, nothing imports torch. Raises `WorkerSettingsError`."""
    accounts = {
        replicate.NAME: Account(settings.replicate_url, settings.replicate_api_token),
        fal.NAME: Account(settings.fal_url, settings.fal_key),
    }
    hosted = HostedEngines(settings.models, accounts)
    if all(is_hosted(source) for source in settings.models.values()):
        return hosted
    try:
        from gpu_worker.residency import Residency  # noqa: PLC0415 - brings torch, seconds after the settings are checked
    except ModuleNotFoundError as error:
        raise WorkerSettingsError(f"The worker lacks {error.name}: install Darkroom with its extra `worker`.") from None
    KNOWN.keep_in(settings.data_dir / "model_hashes")
    budget_bytes = None if settings.memory_budget_mb is None else settings.memory_budget_mb * 1_000_000
    try:
        return Residency(
            settings.models, settings.device, budget_bytes=budget_bytes, tuning=settings.tuning, hosted=hosted
        )
    except TuningRefused as error:
        raise WorkerSettingsError(str(error)) from None


async def serve(settings: WorkerSettings, workshops: Sequence[Workshop]) -> int:
    """Connect, load the first model, work until stopped. Returns the exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    heed_signals(loop, stop)
    first = workshops[0]
    loading = loop.run_in_executor(first.rendering, load, first, next(iter(settings.models)))
    connection = await unless(stop, connect(settings.nats_servers, settings.worker))
    if connection is None:
        return 0
    try:
        await unless(stop, _result(loading))
        await Answering(connection, first.enhancing, first.rendering).begin()
        workers = [Worker(connection, workshop, settings.pools, settings.heartbeat_s) for workshop in workshops]
        await asyncio.gather(*(worker.run(stop) for worker in workers))
    except nats.errors.ConnectionClosedError:
        LOG.error("NATS closed the connection for good: check DARKROOM_NATS_URL and the permissions of its user")  # noqa: TRY400
        return 1
    finally:
        bounded.end()  # the render thread may be waiting for a decoder
        await close(connection)
    LOG.info("stopped")
    return 0


def load(workshop: Workshop, model: str) -> None:
    """Load a model before its first job, and log immediately if that fails: its jobs will fail too."""
    began = time.perf_counter()
    try:
        engine = workshop.engine(model)
    except (ModelUnavailable, OutOfMemory) as error:
        LOG.error("jobs of the model %s will fail: %s", model, error)  # noqa: TRY400
    else:
        LOG.info("loaded %s, revision %s, in %.1f s", model, engine.model_revision[:12], time.perf_counter() - began)


def heed_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """SIGTERM or SIGINT sets `stop`; the same signal again, or 5 s without an exit, ends the process immediately."""
    heard: set[signal.Signals] = set()

    def leave(why: str) -> None:
        LOG.error("leaving without giving the job back: %s", why)
        os._exit(1)

    def told(number: signal.Signals) -> None:
        if number in heard:  # Ctrl-C followed by a supervisor's SIGTERM is one request, not two
            leave(f"{number.name} came twice")
        heard.add(number)
        if not stop.is_set():
            LOG.info("stopping on %s", number.name)
            stop.set()
            loop.call_later(STOP_S_MAX, leave, f"not possible within {STOP_S_MAX:g} s")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)


async def close(connection: Client) -> None:
    """Flush pending messages, within a time limit, and close."""
    with suppress(nats.errors.Error, TimeoutError):
        if connection.is_connected:
            await connection.flush(CLOSE_S_MAX)
    with suppress(nats.errors.Error, TimeoutError):
        await asyncio.wait_for(connection.close(), CLOSE_S_MAX)


async def unless(stop: asyncio.Event, wanted: Coroutine[Any, Any, T]) -> T | None:
    """The result of `wanted`; None if `stop` is set first, which cancels it."""
    doing = asyncio.create_task(wanted)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    return None if doing.cancelled() else doing.result()


async def _result(future: "asyncio.Future[None]") -> None:
    await future


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for the render thread: loading a model cannot be interrupted, and there is no job to give back.
    os._exit(status)
