"""Commands that run Darkroom or work on the installation itself, without a server: database, files, settings."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from services.settings import Settings


class Service(StrEnum):
    """The services that `darkroom run` can run."""

    API = "api"
    PROJECTOR = "projector"
    RELAY = "relay"
    DISPATCHER = "dispatcher"
    RECORDER = "recorder"
    REAPER = "reaper"
    THUMBNAILS = "thumbnails"
    WORKER = "worker"


def check_workers(workers: str, settings: "Settings") -> None:
    """Raises `typer.BadParameter` for an invalid value of `--workers`."""
    from api.local_workers import WorkersInvalid, groups_of  # noqa: PLC0415 - client commands start without

    try:
        groups_of(workers, settings.catalog().pools())
    except WorkersInvalid as error:
        raise typer.BadParameter(f"--workers {workers!r}: {error}") from None


def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: DARKROOM_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one. Default: DARKROOM_PORT.")
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Pools to run a worker for, separated by commas; with several GPUs one worker for each. "
            "sdxl*2+wan: two for one pool, one for another. `none`: no worker."
        ),
    ] = "sdxl,wan",
) -> None:
    """Run everything on this machine; Ctrl-C stops it.

    Postgres, NATS, the services, the API and workers. Prints a line with `ready` and the link once it serves.
    """
    given = {"data_dir": data_dir, "host": host, "port": port}
    from services.observability.logs import log_to_stderr  # noqa: PLC0415 - client commands start without the services
    from services.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    check_workers(workers, settings)
    log_to_stderr(settings.log_level, settings.log_format)
    from api.up import up as run_everything  # noqa: PLC0415 - after the options are known to be right

    raise typer.Exit(run_everything(settings, workers=workers))


def run(
    services: Annotated[
        list[Service], typer.Argument(metavar="SERVICE…", help="One or more services; `worker` runs alone.")
    ],
) -> None:
    """Run single services in the foreground.

    There are api, projector, relay, dispatcher, recorder, reaper, thumbnails and worker.
    """
    if Service.WORKER in services:
        if len(services) > 1:
            raise typer.BadParameter("the worker has no database and runs alone: darkroom run worker")
        os.execv(sys.executable, [sys.executable, "-m", "gpu_worker"])  # noqa: S606 - no shell wanted
    from services.observability.logs import log_to_stderr  # noqa: PLC0415 - see `up`
    from services.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    log_to_stderr(settings.log_level, settings.log_format)
    from api.run import run_services  # noqa: PLC0415

    raise typer.Exit(run_services([service.value for service in services], settings))


def rebuild(
    view: Annotated[str | None, typer.Argument(metavar="VIEW", help="The view's name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every view.")] = False,
    as_of: Annotated[
        int | None, typer.Option(min=0, metavar="POSITION", help="The state at this position, next to the live view.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Rebuild views from the ledger.

    All services keep running. Prints rate and checksums.
    """
    from api.cli.local import operate  # noqa: PLC0415

    if (view is None) != every:
        raise typer.BadParameter("name one view, or --all")
    raise typer.Exit(operate.rebuild(operate.find_dsn(data_dir), view, as_of))


def verify(
    files: Annotated[
        bool, typer.Option("--files", help="Also read every file of the ledger and compare its hash.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Recompute the hash chain and every view.

    If something does not match, prints its position; the exit status is then 1.
    """
    from api.cli.local import operate  # noqa: PLC0415

    raise typer.Exit(operate.verify(operate.find_dsn(data_dir), operate.find_blobs(data_dir) if files else None))


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date.

    `darkroom up` does this automatically.
    """
    from api.cli.local import operate  # noqa: PLC0415

    raise typer.Exit(operate.migrate(operate.find_dsn(data_dir)))


def restored(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Continue without the events that the backup lacks.")
    ] = False,
    declare: Annotated[bool, typer.Option("--declare", help="Begin a new epoch even if nothing differs.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Repair the ledger after a restore of an older backup of Postgres.

    Restores the lost events that the stream LEDGER of NATS still has, and allows writes again. See docs/backup.md.
    """
    from api.cli.local import operate  # noqa: PLC0415

    raise typer.Exit(operate.restored(data_dir, discard=discard, declare=declare, dry_run=dry_run, as_json=as_json))


def export(
    given: Annotated[list[str], typer.Argument(metavar="[ID] FILE", help="The job or batch, and the file to write.")],
    every: Annotated[bool, typer.Option("--all", help="Everything of all owners.")] = False,
    unfinished: Annotated[
        bool,
        typer.Option(
            help="With --all: include jobs that have not ended. They continue after the import, and this Darkroom must "
            "not run again: for moving an installation permanently."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing FILE.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Export a job, a batch or everything into one file, a bundle.

    `darkroom import` imports it elsewhere: events, ids and files are the same there. Keys and tokens are not included.
    """
    from api.cli.local import bundles  # noqa: PLC0415

    if len(given) != (1 if every else 2):
        raise typer.BadParameter("name a job or a batch and a file, or --all and a file")
    if unfinished and not every:
        raise typer.BadParameter("--unfinished goes with --all: a single job is exported once it has ended")
    what = None if every else given[0]
    raise typer.Exit(
        bundles.export_to(what, Path(given[-1]), data_dir, unfinished=unfinished, force=force, as_json=as_json)
    )


def import_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `darkroom export`.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Import a bundle of another installation, completely or not at all.

    Existing data stays unchanged; importing the same bundle again changes nothing. All services may keep running.
    """
    from api.cli.local import bundles  # noqa: PLC0415

    raise typer.Exit(bundles.import_from(file, data_dir, as_json=as_json))


def find_faults(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Find faults of the installation, and print how to repair them.

    Works with and without a running server, and changes nothing. The exit status is 1 if there is a fault.
    """
    from api.cli.doctor import doctor  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(doctor(data_dir, as_json=as_json))


def list_settings() -> None:
    """List every setting; secrets are hidden.

    Each with its value, its meaning and its default.
    """
    from api.cli.local import operate  # noqa: PLC0415
    from services.settings import Settings  # noqa: PLC0415

    raise typer.Exit(operate.list_settings(Settings.from_environment()))
