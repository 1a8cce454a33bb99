"""`darkroom up`: everything on one machine, as one process tree that ends completely."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
from pydantic import SecretStr

from api.cli.environment import OF_WORKERS
from api.local_workers import LocalWorker, gpus_here, groups_of, planned
from api.run import SERVICES, Core, PortTaken, listen, open_core, run_on_loop, serve, stop_on_signals, watch_of
from domain.setting_names import NO_SETTINGS, PREFIX
from services.database import Unavailable
from services.embedded import EmbeddedServers
from services.embedded.child import Child
from services.migrate import migrate
from services.observability.telemetry import exporting
from services.observability.watch import say_findings
from services.sessions import new_link
from services.settings import Settings, SettingsError
from services.users import ADMIN, fingerprint
from services.views.owned_views import logging_in_as_role

log = logging.getLogger(__name__)

WORKER_LOOK_S: Final = 0.5

BAD_SETTINGS: Final = 2
"""Exit status of a worker that cannot start with its settings; starting it again would not help."""

WORKER_PAUSE_S_MAX: Final = 30.0
"""Maximum seconds before a worker that ended by itself is restarted; the pause doubles each time."""

WORKER_STOP_STEPS: Final = ((signal.SIGTERM, 6.0), (signal.SIGKILL, 2.0))
"""A stopping worker gives its job back immediately, and exits after 5 s at the latest: Ctrl-C ends within ten
seconds."""


def up(settings: Settings, *, workers: str) -> int:
    """Run Darkroom until SIGINT or SIGTERM; returns the exit code.

    `workers`: as in `api.local_workers`, already checked.
    """
    folder = settings.data_dir.expanduser().absolute()
    os.umask(0o077)  # the folder holds pictures of all users, and secrets
    # The port first: if it is taken, nothing is created and nothing is started.
    with _listening(settings, folder) as listening, _servers(settings, folder) as (dsn, nats_url, worker_nats_url):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for name in migrate(connection):
                log.info("applied migration %s", name)
        _close(folder / "blobs")
        token = _admin_token(settings, folder)
        given = {
            "data_dir": folder,
            "postgres_dsn": SecretStr(dsn),
            "nats_url": SecretStr(nats_url),
            "worker_nats_url": SecretStr(worker_nats_url),
            "admin_token": SecretStr(token),
        }
        if settings.postgres_dsn is None:  # our own server trusts everyone who can reach its socket
            given["postgres_api_dsn"] = SecretStr(logging_in_as_role(dsn))
        with exporting("darkroom"):
            run_on_loop(_run(settings.model_copy(update=given), folder, workers, listening))
    return 0


def _listening(settings: Settings, folder: Path) -> socket.socket:
    """The API's socket. Raises `PortTaken`, with a hint if a Darkroom of the same folder has the port."""
    try:
        return listen(settings.host, settings.port)
    except PortTaken as taken:
        with contextlib.suppress(OSError, ValueError):
            url = (folder / "url").read_text("utf-8").strip()
            if url.endswith(f":{settings.port}"):
                raise PortTaken(f"{taken} A Darkroom on this data folder serves {url}.") from taken
        raise


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def here_and_elsewhere(host: str, port: int) -> tuple[str, str]:
    """Base URLs under which clients on this machine and on others reach a server that listens on `host`.

    A server on every address needs another one in a URL: the loopback address here, and for others the address from
    which this machine would send, or else its name.
    """
    if host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        return _url(host, port), _url(host, port)
    family, loopback, outside = (
        (socket.AF_INET6, "::1", "2001:db8::1") if ":" in host else (socket.AF_INET, "127.0.0.1", "192.0.2.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))  # sends nothing; it only chooses the route
            own = str(probe.getsockname()[0])
        except OSError:  # no network
            own = socket.gethostname()
    return _url(loopback, port), _url(own, port)


async def _run(settings: Settings, folder: Path, workers: str, listening: socket.socket) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    with listening:
        url, shown = here_and_elsewhere(*listening.getsockname()[:2])
        async with open_core(settings, "up") as core:
            services_stop = asyncio.Event()
            working = asyncio.create_task(_keep_workers(core, folder, workers, stop))

            def ready() -> None:
                _write(folder / "url", url)
                print(f"ready {_sign_in_link(core, shown)}", flush=True)  # noqa: T201

            saying = asyncio.create_task(say_findings(watch_of(core), stop))
            serving = asyncio.create_task(serve(SERVICES, core, services_stop, listening, ready))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await saying
            await working  # first: what they give back is still recorded
            services_stop.set()
            stopping.cancel()
            await serving


@contextmanager
def _servers(settings: Settings, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Postgres, NATS, and NATS for the worker: of the settings, or our own; and the files for other programs."""
    if (settings.postgres_dsn is None) != (settings.nats_url is None):
        raise SettingsError(
            "DARKROOM_POSTGRES_DSN and DARKROOM_NATS_URL: give both, or neither to use the bundled servers."
        )
    if settings.postgres_dsn is not None and settings.nats_url is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for_worker = settings.worker_nats_url or settings.nats_url
        dsn, nats_url = settings.postgres_dsn.get_secret_value(), settings.nats_url.get_secret_value()
        yield dsn, nats_url, for_worker.get_secret_value()
        return
    stop = threading.Event()
    with EmbeddedServers(folder, free_bytes_min=settings.disk_free_min_mb * 1024**2) as servers:
        watching = threading.Thread(target=servers.watch, args=(stop,), name="embedded-watch")
        watching.start()
        try:
            _write(folder / "postgres.dsn", servers.postgres_dsn, secret=True)
            yield servers.postgres_dsn, servers.services_nats_url, servers.worker_nats_url
        finally:
            stop.set()
            watching.join()
            for name in ("url", "postgres.dsn"):
                (folder / name).unlink(missing_ok=True)


async def _keep_workers(core: Core, folder: Path, workers: str, stop: asyncio.Event) -> None:
    """Keep the worker processes running until `stop`; then let them give their jobs back."""
    groups = groups_of(workers, core.catalog.pools())
    if not groups:
        return
    if importlib.util.find_spec("diffusers") is None:
        log.warning("no worker runs: install Darkroom with the extra `worker` to generate here")
        return
    gpus = await asyncio.to_thread(gpus_here)
    plan = planned(groups, gpus, os.environ.get("DARKROOM_WORKER_NAME"))
    await asyncio.gather(*(_keep_worker(core, folder, one, stop) for one in plan))


async def _keep_worker(core: Core, folder: Path, worker: LocalWorker, stop: asyncio.Event) -> None:
    """Keep one worker running. If it ends by itself, that is reported where `darkroom up` runs, and in its log."""
    child = Child(
        [sys.executable, "-m", "gpu_worker"],
        folder / worker.log,
        death_signal=signal.SIGTERM,
        environment={**worker_environment(core.settings), **worker.environment()},
    )
    pause_s = WORKER_LOOK_S
    try:
        while not stop.is_set():
            child.spawn()
            on = f" on {worker.gpu}" if worker.gpu else ""
            log.info("worker %s of %s started%s, its log is %s", worker.name, worker.pools, on, folder / worker.log)
            while child.running and not await _within(stop, WORKER_LOOK_S):
                pass
            if child.returncode == BAD_SETTINGS and not stop.is_set():
                log.error("worker %s stays off until Darkroom starts again: %s", worker.name, _last_line(child))
                await stop.wait()
            elif not stop.is_set():
                log.warning(
                    "worker %s ended with status %s and is started again in %g s: %s",
                    worker.name,
                    child.returncode,
                    pause_s,
                    _last_line(child),
                )
                await _within(stop, pause_s)
                pause_s = min(WORKER_PAUSE_S_MAX, 2 * pause_s)
    finally:
        await asyncio.to_thread(child.end, WORKER_STOP_STEPS)


def worker_environment(settings: Settings) -> dict[str, str]:
    """The settings of every worker: NATS and the object store. No database, no token."""
    of_workers = OF_WORKERS | NO_SETTINGS
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and (name in of_workers or not name.startswith(PREFIX))
    }
    nats_url = settings.worker_nats_url.get_secret_value() if settings.worker_nats_url else ""
    return {
        **given,
        "DARKROOM_DATA_DIR": str(settings.data_dir.absolute()),
        "DARKROOM_NATS_URL": nats_url,
        "DARKROOM_BLOBS_URL": settings.blobs(),
    }


def _admin_token(settings: Settings, folder: Path) -> str:
    """The token of the settings, else the one in the folder, else a new one; stored where client commands find it."""
    file = folder / "admin.token"
    if settings.admin_token is not None:
        token = settings.admin_token.get_secret_value()
    elif file.exists():
        token = file.read_text("utf-8").strip()
    else:
        token = secrets.token_urlsafe(32)
    _write(file, token, secret=True)
    return token


def _close(folder: Path) -> None:
    """Close files to other users that an earlier version left readable."""
    with suppress(FileNotFoundError):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)


def _sign_in_link(core: Core, url: str) -> str:
    """A link that signs one browser in as the administrator, once; the plain address if Postgres is unavailable."""
    token = core.settings.admin_token
    if token is None:
        return url
    try:
        with core.database.connection() as connection:
            link = new_link(connection, ADMIN, fingerprint(token.get_secret_value()))
    except Unavailable as error:
        log.warning("no sign-in link was made, `darkroom sign-in` makes one later: %s", error)
        return url
    return f"{url}/?code={link.code}"


def _write(file: Path, text: str, *, secret: bool = False) -> None:
    """All or nothing; a secret is never readable by others, not even briefly."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(f"{text}\n")
    fresh.replace(file)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within this many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _last_line(child: Child) -> str:
    return (child.tail().splitlines() or ["it said nothing"])[-1]
