"""Implements `darkroom rebuild`, `verify`, `migrate` and `settings`, directly on the database.

Each returns its status.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import projections
from api.cli.terminal import command, complain, pasteable
from services import migrate as migrations
from services.database import CONNECTING, Database, Unavailable, translated
from services.embedded.nats import operator_url
from services.files.blobs import Blobs
from services.files.inspection import inspect_files
from services.ledger import Ledger, PostgresRecorder
from services.ledger.flusher import Flusher
from services.ledger.verification import verify_chain
from services.restore import command as restoring
from services.restore.comparing import require_same_history
from services.restore.rights import WITHOUT_ROLES, lacks_rights
from services.settings import PREFIX, Settings, SettingsError
from services.views import rebuild as rebuilding
from services.views.rebuild import Rebuilt

WORKER_SETTINGS_S_MAX = 30.0


class NoDatabase(Exception):
    """There is no database, or it is not Darkroom's."""

    code = "no_database"


def find_dsn(data_dir: Path | None) -> str:
    """`DARKROOM_POSTGRES_DSN`, else the DSN of the `darkroom up` that runs on the data folder.

    Raises `NoDatabase` and `SettingsError`.
    """
    settings = Settings.from_environment()
    if settings.postgres_dsn is not None and data_dir is None:
        dsn = settings.postgres_dsn.get_secret_value()
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise SettingsError(
                f"{PREFIX}POSTGRES_DSN: is not a connection string; it looks like postgresql://user:password@host/name."
            ) from None
        return dsn
    folder = data_dir or settings.data_dir
    try:
        return (folder / "postgres.dsn").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise NoDatabase(
            f"no Darkroom runs on the data folder {folder}: start one with `darkroom up`, "
            f"or name a database with {PREFIX}POSTGRES_DSN."
        ) from None
    except OSError as error:
        raise NoDatabase(f"cannot read {folder / 'postgres.dsn'}: {error.strerror}.") from error


def find_nats(data_dir: Path | None) -> str | None:
    """The NATS that belongs to the database of `find_dsn`; None if a database was named without a NATS."""
    settings = Settings.from_environment()
    if data_dir is None and settings.nats_url is not None:
        return settings.nats_url.get_secret_value()
    if data_dir is None and settings.postgres_dsn is not None:
        return None  # that of the data folder belongs to another database
    return operator_url((data_dir or settings.data_dir).expanduser().absolute())


def find_blobs(data_dir: Path | None) -> str:
    """The URL of the object store that belongs to the database of `find_dsn`."""
    settings = Settings.from_environment()
    return (settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})).blobs()


def find_dsn_to_write(data_dir: Path | None, *, also_without_nats: bool = False) -> str:
    """The DSN of `find_dsn`, for a command that appends to the ledger: LEDGER must have been filled from this ledger.

    `also_without_nats`: for urgent commands, which print that nothing could be compared. Raises `NoDatabase`,
    `SettingsError`, `WritesStopped` and `Unavailable`.
    """
    dsn, nats_url = find_dsn(data_dir), find_nats(data_dir)
    if nats_url is None:
        return dsn
    with opened(dsn) as (_, ledger):
        try:
            require_same_history(ledger, nats_url)
        except Unavailable as error:
            if not (also_without_nats and error.reason == "not_compared"):
                raise
            complain("NATS cannot be reached: it was not checked that Postgres is no older backup.")
    return dsn


def rebuild(dsn: str, name: str | None, as_of: int | None) -> int:
    """Rebuild one view, or all of them in order; as of a position they go to the schema `views_as_of`."""
    views = [view for view in projections.ALL if name in {None, view.name}]
    if not views:
        known = ", ".join(view.name for view in projections.ALL)
        raise typer.BadParameter(f"there is no view {name!r}; there are {known}")
    with opened(dsn) as (database, ledger):
        for view in views:
            if as_of is None:
                _print_rebuilt(rebuilding.rebuild(database, ledger, view))
            else:
                _print_rebuilt(rebuilding.rebuild_as_of(database, ledger, view, as_of))
    if as_of is not None:
        typer.echo("The live views are as they were; these are in the schema views_as_of.")
    return 0


def verify(dsn: str, blobs_url: str | None = None) -> int:
    """Recompute the chain, then every view; 1 if something does not match.

    With `blobs_url`, also read every file of that object store that the ledger names.
    """
    fits = True
    with opened(dsn) as (database, ledger):
        chain = verify_chain(database)
        if chain.misfit is None:
            typer.echo(f"ledger: fits; {chain.events:,} events in {chain.commits:,} commits; head {chain.head}")
        else:
            fits = False
            typer.echo(f"ledger: does not fit at position {chain.misfit.position}: {chain.misfit.reason}")
        if stopped := ledger.stopped():
            fits = False
            typer.echo(pasteable(f"ledger: {stopped}"))
        for view in projections.ALL:
            folded = rebuilding.matches_ledger(database, ledger, view)
            fits &= folded.same is not False
            repair = command("rebuild", view.name)
            verdict = "fits" if folded.same is not False else f"does not fit, repair it with: {repair}"
            typer.echo(f"{view.name}: {verdict}; {folded.rows:,} rows, position {folded.position:,}")
        if blobs_url is not None:
            fits &= _verify_files(database, Blobs(blobs_url))
    return 0 if fits else 1


def _verify_files(database: Database, blobs: Blobs) -> bool:
    found = inspect_files(database, blobs)
    for what, paths in (("missing", found.missing), ("damaged", found.damaged)):
        for path in paths:
            typer.echo(f"files: {path} is {what}")
    fits = not found.missing and not found.damaged
    verdict = "fit" if fits else "do not fit; put back the listed ones from a backup, or purge their assets"
    typer.echo(f"files: {verdict}; {found.intact:,} are intact, {found.bytes:,} bytes")
    return fits


def migrate(dsn: str) -> int:
    """Apply the missing migrations."""
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        applied = migrations.migrate(connection)
    typer.echo("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
    return 0


def restored(data_dir: Path | None, *, discard: bool, declare: bool, dry_run: bool, as_json: bool) -> int:
    """Repair the ledger after a restore of an older backup, and allow writes again."""
    settings = Settings.from_environment()
    folder = (data_dir or settings.data_dir).expanduser().absolute()
    dsn, nats_url = find_dsn(data_dir), find_nats(data_dir)
    if nats_url is None:
        raise NoDatabase(f"what the ledger lost is in NATS: name the server that belongs to it with {PREFIX}NATS_URL.")
    blobs = Blobs(settings.model_copy(update={"data_dir": folder}).blobs())
    try:
        report = restoring.restored(dsn, nats_url, blobs, folder, discard=discard, declare=declare, dry_run=dry_run)
    except psycopg.errors.UndefinedTable as error:
        raise NoDatabase("the database lacks tables of Darkroom; run `darkroom migrate` first.") from error
    if as_json:
        typer.echo(json.dumps(report.document(), indent=2))
    else:
        for line in _lines_of(report, dry_run=dry_run):
            typer.echo(line)
    return 0


def _lines_of(report: restoring.RestoreReport, *, dry_run: bool) -> Iterator[str]:
    plan = report.plan
    if plan is None:
        yield "Nothing to do: the stream LEDGER holds what the ledger holds, and writes are not stopped."
        return
    yield f"Shared up to position {plan.shared:,}; the ledger had lost {plan.lost:,} events and ends at {plan.head:,}."
    if plan.how == "taken_back":
        yield f"{'Would take' if dry_run else 'Took'} all of them back, at the same positions."
    elif plan.lost:
        word = "Would append" if dry_run else "Appended"
        yield f"{word} {len(plan.back):,} of them again; {len(plan.left_out):,} are left out."
    for word, names in (("added", plan.keys_added), ("revoked", plan.keys_revoked)):
        if names:
            yield f"Keys {word} since the backup: {', '.join(sorted(set(names)))}."
    for order in plan.orders:
        output = f"output {order.index} of job {order.job_id}"
        yield f"May be paid twice: order {order.provider_id} at {order.provider}, {output}."
    if report.saved is not None:
        yield f"The lost events are in {report.saved}."
    if report.files is not None:
        files = report.files
        yield (
            f"Files: {files.adopted:,} of lost events fit, {len(files.unnamed):,} are named by nothing, "
            f"{len(files.missing):,} are missing; the report next to the lost events lists them."
        )
    if report.epoch is not None:
        yield f"Writes go on, in epoch {report.epoch}."


def list_settings(settings: Settings) -> int:
    """Print the settings of services and the command line, then those of a worker."""
    lines = [
        (PREFIX + name.upper(), _shown(getattr(settings, name)), _default(field), str(field.description))
        for name, field in Settings.model_fields.items()
    ]
    typer.echo("Services and the command line:\n")
    _print_settings(lines)
    command = [sys.executable, "-m", "gpu_worker", "--settings"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=WORKER_SETTINGS_S_MAX, check=False)  # noqa: S603 - our own module
    if answer.returncode:
        raise SettingsError(answer.stderr.strip() or "the worker cannot list its settings.")
    typer.echo("\nWorkers:\n")
    _print_settings([tuple(line.split("\t")) for line in answer.stdout.splitlines()])
    return 0


@contextmanager
def opened(dsn: str, *, writes: bool = False) -> Iterator[tuple[Database, Ledger]]:
    """The ledger for reading; if `writes`, also for writing, which starts its flusher.

    Explains the error if the schema is not Darkroom's.
    """
    with Database(dsn) as database:
        flusher = Flusher(dsn)
        recorder = PostgresRecorder(database, flusher)
        try:
            with flusher if writes else nullcontext(), Ledger(recorder) as ledger:
                yield database, ledger
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise NoDatabase("the database lacks tables of Darkroom; run `darkroom migrate` first.") from error
        except psycopg.errors.UndefinedObject as error:
            with database.connection() as connection:
                if not lacks_rights(connection):
                    raise
            raise NoDatabase(f"{WITHOUT_ROLES}.") from error
        finally:
            recorder.datastore.close()


def _print_rebuilt(rebuilt: Rebuilt) -> None:
    same = {True: ", as before", False: ", which differs from before", None: ""}[rebuilt.same]
    typer.echo(
        f"{rebuilt.view}: {rebuilt.rows:,} rows from {rebuilt.position:,} events in {rebuilt.seconds:.2f} s "
        f"({rebuilt.events_per_s:,.0f} events/s); checksum {rebuilt.checksum}{same}"
    )


def _print_settings(lines: Sequence[tuple[str, ...]]) -> None:
    for name, value, default, meaning in lines:
        typer.echo(f"{name}={value}\n    {meaning}{f' [{default}]' if default else ''}")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(hidden)"
    return "" if value is None else str(value)


def _default(field: FieldInfo) -> str:
    return _shown(field.get_default(call_default_factory=True, validated_data={}))
