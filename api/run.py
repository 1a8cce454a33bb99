"""The composition root: builds what the services need, and runs one, several or all of them in this process."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import uvicorn
import uvloop
from starlette.types import ASGIApp

from api.app import Parts, create_app, end_streams
from api.http.errors import RebuildUnavailable
from api.http.protocol import BoundedConnection
from domain.recipes.catalog import Catalog
from projections import ALL
from projections.projection import Projection
from services.database import CONNECTING, Database, Unavailable, translated
from services.files.blobs import Blobs
from services.files.decoders import bounded
from services.files.sweeper import Sweeper
from services.files.thumbnails import Thumbnailer
from services.gc_tuning import keep_what_is_loaded
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.messaging.broker import Broker
from services.messaging.relay import Relay
from services.observability.checks import PROGRAMS
from services.observability.metrics import serve_metrics
from services.observability.progress import Telling
from services.observability.telemetry import exporting
from services.observability.watch import Watch
from services.queue.dispatcher import Dispatcher
from services.queue.fleet import RollCall
from services.queue.reaper import Reaper
from services.queue.report_handler import ReportHandler
from services.restore.comparing import Admission
from services.restore.rights import WITHOUT_ROLES, lacks_rights
from services.scheduling import in_turn, yielding
from services.settings import PREFIX, Settings, SettingsError
from services.views.owned_views import OwnedViews, why_unfit
from services.views.projector import Projector
from services.views.rebuild import RebuildStopped, Rebuilt, rebuild, rebuild_outdated

log = logging.getLogger(__name__)

T = TypeVar("T")

SERVICES: Final = ("api", "projector", "relay", "dispatcher", "recorder", "reaper", "thumbnails")
"""The services that `darkroom run` can run in one process; the worker is a separate program."""

RESTART_S_FIRST: Final = 0.5
RESTART_S_MAX: Final = 30.0
"""Maximum seconds before a failed service is restarted; the pause doubles each time."""

PATIENT: Final = frozenset({"thumbnails"})
"""Services without urgency: in a separate process they yield the processor to the others, and catch up after load."""

HTTP_STOP_S_MAX: Final = 3
"""Maximum seconds for open requests and streams to end when the API stops."""


class PortTaken(Exception):
    """Another program listens on the port."""

    code = "port_taken"


@dataclass(frozen=True, slots=True)
class Core:
    """The shared parts of the services in one process."""

    settings: Settings
    catalog: Catalog
    database: Database
    ledger: Ledger
    broker: Broker
    is_compared: Callable[[], bool]


@asynccontextmanager
async def open_core(settings: Settings, name: str) -> AsyncIterator[Core]:
    """Connections to Postgres and NATS; neither needs to run yet. Raises `SettingsError`."""
    dsn, nats_url = servers_of(settings)
    catalog = settings.catalog()
    broker = Broker(nats_url, f"darkroom-{name}", settings.nats_replicas)
    admission = Admission()
    with (
        Database(dsn) as database,
        Flusher(dsn, broker.wake, admission.is_given) as flusher,
        Ledger(PostgresRecorder(database, flusher)) as ledger,
    ):
        await broker.open()
        await broker.hear_wakes()
        comparing = asyncio.create_task(admission.seek(ledger, broker))
        try:
            yield Core(settings, catalog, database, ledger, broker, admission.is_given)
        finally:
            comparing.cancel()
            await asyncio.gather(comparing, return_exceptions=True)
            await broker.close()


def servers_of(settings: Settings) -> tuple[str, str]:
    """The Postgres DSN and NATS URL that a service needs. Raises `SettingsError` with the name of a missing one."""
    if settings.postgres_dsn is None:
        raise SettingsError("DARKROOM_POSTGRES_DSN: is needed to run a service alone; `darkroom up` starts a server.")
    if settings.nats_url is None:
        raise SettingsError("DARKROOM_NATS_URL: is needed to run a service alone; `darkroom up` starts a server.")
    return settings.postgres_dsn.get_secret_value(), settings.nats_url.get_secret_value()


def views_dsn(settings: Settings) -> str:
    """The DSN with which the API reads the views, for a user who sees only the rows of one owner.

    Raises `SettingsError`.
    """
    dsn, _ = servers_of(settings)
    given = settings.postgres_api_dsn
    asked, variable = (dsn, "POSTGRES_DSN") if given is None else (given.get_secret_value(), "POSTGRES_API_DSN")
    try:
        reason = why_unfit(asked, logs_in=given is not None) or _without_roles(dsn)
    except Unavailable as error:
        log.warning("whether the views can be read is not known yet: %s", error)
        reason = None
    if reason is not None:
        raise SettingsError(f"{PREFIX}{variable}: {reason}.")
    return asked


def _without_roles(dsn: str) -> str | None:
    """Raises `Unavailable`."""
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        return WITHOUT_ROLES if lacks_rights(connection) else None


def run_on_loop(program: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on uvloop: submissions over HTTP are nearly three times as fast.

    asyncio's own loop writes to a pipe for every commit that the flusher's thread reports, and each such call hands
    Python over to another thread for milliseconds.
    """
    keep_what_is_loaded()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(program)


def run_services(names: Sequence[str], settings: Settings) -> int:
    """Run services until SIGINT or SIGTERM; returns the exit code. Implements `darkroom run`."""

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        if "api" in names:
            _admin_token(settings)  # before anything is opened
        listening = listen(settings.host, settings.port) if "api" in names else None
        listen_for_scrapes(settings)
        async with open_core(settings, "-".join(names)) as core:
            await serve(names, core, stop, listening, lambda: print(f"ready {','.join(names)}", flush=True))  # noqa: T201

    in_turn()
    if PATIENT.issuperset(names):
        yielding()
    with exporting(f"darkroom-{'-'.join(names)}"):
        run_on_loop(run())
    return 0


async def serve(
    names: Sequence[str],
    core: Core,
    stop: asyncio.Event,
    listening: socket.socket | None,
    on_ready: Callable[[], None],
) -> None:
    """Run services until `stop`; one that fails unexpectedly is restarted. Raises `SettingsError`."""
    started = asyncio.Event()
    services: dict[str, Callable[[], Awaitable[None]]] = {
        "projector": lambda: _projector(core).run(core.broker, stop),
        "relay": lambda: Relay(core.ledger, core.broker).run(stop),
        "dispatcher": lambda: _dispatcher(core).run(stop),
        "recorder": lambda: _record(core, stop),
        "reaper": lambda: _reap(core, stop),
        "thumbnails": lambda: Thumbnailer(core.database, core.ledger, core.broker, Blobs(core.settings.blobs())).run(
            stop
        ),
    }
    if listening is not None:
        admin_token = _admin_token(core.settings)
        dsn = await asyncio.to_thread(views_dsn, core.settings)
        services["api"] = lambda: _serve_http(core, dsn, admin_token, listening, stop, started)
    else:
        started.set()
    async with (
        _decoding_until(stop),
        Telling(core.database, map(_said_as, names)),
        asyncio.TaskGroup() as group,
    ):
        for name in names:
            group.create_task(_keep_running(name, services[name], stop), name=name)
        await _first(started, stop)
        if not stop.is_set():
            on_ready()


@asynccontextmanager
async def _decoding_until(stop: asyncio.Event) -> AsyncIterator[None]:
    """Do not wait for files at the end: decoders are killed, and their work is requested again."""

    async def end() -> None:
        await stop.wait()
        bounded.end()

    ending = asyncio.create_task(end())
    try:
        yield
    finally:
        ending.cancel()
        bounded.begin()


def _said_as(name: str) -> str:
    """A service's name in its progress reports."""
    return next((word for word, program in PROGRAMS.items() if program == name), name)


def watch_of(core: Core) -> Watch:
    """Examines the installation of this process."""
    views = {view.name: view.version for view in ALL}
    free = core.settings.disk_free_min_mb * 1024**2
    return Watch(core.database, core.broker, views, _folder(core.settings), free)


async def _record(core: Core, stop: asyncio.Event) -> None:
    """Records reports and announcements of workers."""
    async with asyncio.TaskGroup() as group:
        group.create_task(ReportHandler(core.database, core.ledger, core.broker, core.settings.lease_s).run(stop))
        # A separate task: reports are answered even if announcements fail.
        calling = RollCall(core.database, core.broker, pools_of(core.catalog))
        group.create_task(_keep_running("roll call", lambda: calling.run(stop), stop))


async def _reap(core: Core, stop: asyncio.Event) -> None:
    """Runs the reaper and the sweeper."""
    async with asyncio.TaskGroup() as group:
        group.create_task(Reaper(core.database, core.ledger, core.broker, core.settings.lease_s).run(stop))
        # A separate task: if its failure stopped the reaper, no lease would expire meanwhile.
        group.create_task(_keep_running("sweeper", lambda: _sweep(core, stop), stop))


async def _sweep(core: Core, stop: asyncio.Event) -> None:
    await Sweeper(core.database, core.ledger, Blobs(core.settings.blobs())).run(stop)


def _dispatcher(core: Core) -> Dispatcher:
    """The dispatcher of every pool of the catalog."""
    limits = core.settings.running_per_owner_max, core.settings.lease_s
    return Dispatcher(core.database, core.ledger, core.broker, pools_of(core.catalog), *limits)


def _projector(core: Core) -> Projector:
    """The projector of every view, each in the version of this program."""

    def rebuild_others(stopping: Callable[[], bool]) -> bool:
        return rebuild_outdated(core.database, core.ledger, ALL, stopping)

    return Projector(core.database, core.ledger, ALL, rebuild_others)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Stop in order on SIGINT and SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


def listen(host: str, port: int) -> socket.socket:
    """The API's socket, bound before anything starts; port 0 picks a free one. Raises `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise PortTaken(
            f"The API cannot listen on {host}:{port}: {str(error.strerror).partition(' (')[0]}. "
            "Choose another port with --port, or another address with --host."
        ) from error


def listen_for_scrapes(settings: Settings) -> None:
    """Answer scrapes on `metrics_port`, if it is set, until the process ends. Raises `PortTaken`."""
    if settings.metrics_port is None:
        return
    try:
        serve_metrics(settings.host, settings.metrics_port)
    except OSError as error:
        raise PortTaken(
            f"Metrics cannot be served on {settings.host}:{settings.metrics_port}: {error.strerror}. "
            "Choose another port with DARKROOM_METRICS_PORT."
        ) from error


def pools_of(catalog: Catalog) -> list[str]:
    """The worker pools of the catalog's job types."""
    return sorted({catalog.models[job_type.model].pool for job_type in catalog.job_types.values()})


class _Server(uvicorn.Server):
    """uvicorn that reports when it serves, and leaves signals to this process."""

    def __init__(self, config: uvicorn.Config, started: asyncio.Event) -> None:
        super().__init__(config)
        self._serves = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        await super().startup(sockets)
        self._serves.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _admin_token(settings: Settings) -> str:
    if settings.admin_token is None:
        raise SettingsError("DARKROOM_ADMIN_TOKEN: is needed to run the API alone; choose a long random one.")
    return settings.admin_token.get_secret_value()


async def _serve_http(
    core: Core, dsn: str, admin_token: str, listening: socket.socket, stop: asyncio.Event, started: asyncio.Event
) -> None:
    """`dsn` is that of the views."""
    with OwnedViews(dsn) as owned:
        await _serve_app(core, owned, admin_token, listening, stop, started)


async def _serve_app(
    core: Core,
    owned: OwnedViews,
    admin_token: str,
    listening: socket.socket,
    stop: asyncio.Event,
    started: asyncio.Event,
) -> None:
    views = {view.name: view for view in ALL}
    app = create_app(
        Parts(
            ledger=core.ledger,
            database=core.database,
            views=owned,
            blobs=Blobs(core.settings.blobs()),
            catalog=core.catalog,
            broker=core.broker,
            admin_token=admin_token,
            rebuild=lambda name: _rebuild(core, views[name], stop.is_set),
            upload_bytes_max=core.settings.upload_mb_max * 1024**2,
            requests_per_s_max=core.settings.requests_per_s_max,
            requests_at_once_max=core.settings.requests_at_once_max,
            watch=watch_of(core),
            is_compared=core.is_compared,
        )
    )
    server = _Server(server_config(app, core.settings.trusted_proxies), started)
    serving = asyncio.create_task(server.serve(sockets=[listening.dup()]))
    await _first(stop, serving)
    end_streams(app)
    server.should_exit = True
    await serving


def server_config(app: ASGIApp, trusted_proxies: str) -> uvicorn.Config:
    """uvicorn's configuration. Only trusted proxies may set the client's address."""
    return uvicorn.Config(
        app,
        log_config=None,  # its entries are formatted like ours
        http=BoundedConnection,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
        ws="none",
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=HTTP_STOP_S_MAX,
    )


def _folder(settings: Settings) -> Path | None:
    """The data folder; None if this machine has none."""
    folder = settings.data_dir.expanduser().absolute()
    return folder if folder.is_dir() else None


def _rebuild(core: Core, view: Projection, stopping: Callable[[], bool]) -> Rebuilt:
    try:
        return rebuild(core.database, core.ledger, view, stopping)
    except (psycopg.errors.InsufficientPrivilege, RebuildStopped):
        # The views belong to the projector (docs/least-rights.md), or this process is ending.
        raise RebuildUnavailable from None


async def _keep_running(name: str, service: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    pause_s = RESTART_S_FIRST
    while not stop.is_set():
        log.debug("the %s begins", name)
        try:
            await service()
        except Exception:
            log.exception("the %s failed and is started again in %g s", name, pause_s)
            await _first(stop, asyncio.sleep(pause_s))
            pause_s = min(RESTART_S_MAX, 2 * pause_s)


async def _first(*waited: asyncio.Event | Awaitable[None]) -> None:
    """Return when the first of these is set or done; the others are canceled."""
    tasks = [asyncio.ensure_future(one.wait() if isinstance(one, asyncio.Event) else one) for one in waited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, one in zip(tasks, waited, strict=True):
            if not isinstance(one, asyncio.Task):
                task.cancel()
