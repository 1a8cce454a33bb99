"""The `darkroom` command. Exit status 0: done, 1: it did not work, 2: bad usage or settings, 130: interrupted."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from typer.exceptions import Abort, TyperException

from api.cli import users
from services.garbage import collect_seldom
from services.logs import log_to_stderr
from services.settings import Settings, SettingsError

app = typer.Typer(name="darkroom", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(users.app, name="users")


CANCEL_AGAIN_S = 0.5
"""anyio, below httpx, can take a cancellation that comes while it connects for its own, and go on."""


class Service(StrEnum):
    """What `darkroom run` can run."""

    API = "api"
    PROJECTOR = "projector"
    RELAY = "relay"
    DISPATCHER = "dispatcher"
    RECORDER = "recorder"
    REAPER = "reaper"
    THUMBNAILS = "thumbnails"
    WORKER = "worker"


JOB_TYPE = "sdxl_image_fast"
"""Of a submission that does not say it."""

Url = Annotated[str | None, typer.Option(help="The server. Default: DARKROOM_URL, else `url` in the data folder.")]
Token = Annotated[
    str | None, typer.Option(help="The token. Default: DARKROOM_TOKEN, else `admin.token` in the data folder.")
]
DataDir = Annotated[Path | None, typer.Option(help="The data folder. Default: DARKROOM_DATA_DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The job.")]


def main() -> None:
    """Run the command of `sys.argv` and exit with its status."""
    collect_seldom()
    sys.exit(status_of(sys.argv[1:]))


def status_of(arguments: list[str]) -> int:
    """Run a command and return its exit status; what went wrong is one line on stderr, never a traceback."""
    try:
        return int(app(arguments, standalone_mode=False, prog_name="darkroom") or 0)
    except TyperException as error:
        complain(usage_text(error))
        return error.exit_code
    except SettingsError as error:
        complain(str(error))
        return 2
    except (Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        if os.environ.get("DARKROOM_LOG_LEVEL", "").upper() == "DEBUG":
            raise
        # An error of ours has a stable code, and a sentence for the person at the keyboard.
        if isinstance(getattr(error, "code", None), str):
            complain(str(error))
        else:
            complain(f"unexpected {type(error).__name__}: {error}. DARKROOM_LOG_LEVEL=DEBUG shows where it came from.")
        return 1


def usage_text(error: TyperException) -> str:
    """What is wrong with the command line, as one sentence."""
    text = " ".join(error.format_message().split())
    for prefix in ("Invalid value: ", "Value error, "):
        text = text.removeprefix(prefix)
    return f"{text.rstrip('.').replace(': Value error, ', ': ')}. See `darkroom --help`."


def complain(sentence: str) -> None:
    """A line on stderr."""
    typer.echo(f"darkroom: {sentence}", err=True)


def pools_of(workers: str, settings: Settings) -> str:
    """The value of `--workers`, checked: pools of the catalog separated by commas, or `none`."""
    pools = [pool.strip() for pool in workers.split(",") if pool.strip()]
    known = settings.catalog().pools()
    if pools == ["none"]:
        return "none"
    if not pools or not known.issuperset(pools):
        raise typer.BadParameter(
            f"--workers {workers!r}: the pools are {', '.join(sorted(known))}, or none for no worker"
        )
    return ",".join(dict.fromkeys(pools))


def finish(command: Coroutine[Any, Any, int]) -> None:
    """Run a client command to its end and exit with its status. Raises KeyboardInterrupt on Ctrl-C."""
    raise typer.Exit(asyncio.run(_unless_interrupted(command)))


async def _unless_interrupted(command: Coroutine[Any, Any, int]) -> int:
    """The command's status. Ctrl-C cancels it, and again until it has ended: who connects may swallow one."""
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not task.done():
            task.cancel()
            loop.call_later(CANCEL_AGAIN_S, interrupt)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@app.callback(invoke_without_command=True)
def darkroom(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A self-hosted ledger for AI image and video generation: every generation is accounted for."""
    if show_version:
        typer.echo(f"darkroom {version('darkroom')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: DARKROOM_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one. Default: DARKROOM_PORT.")
    ] = None,
    workers: Annotated[
        str, typer.Option(help="Pools to run a worker for, separated by commas, or `none`.")
    ] = "sdxl,wan",
) -> None:
    """Run everything on this machine; Ctrl-C stops it.

    Postgres, NATS, the services, the API and a worker. Prints a line with `ready` and the link once it serves.
    """
    given = {"data_dir": data_dir, "host": host, "port": port}
    settings = Settings.from_environment().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    pools = pools_of(workers, settings)
    log_to_stderr(settings.log_level, settings.log_format)
    from api.up import up as run_everything  # noqa: PLC0415 - brings every service; the client commands start without

    raise typer.Exit(run_everything(settings, workers=pools))


@app.command()
def run(
    services: Annotated[list[Service], typer.Argument(metavar="SERVICE…", help="One or several; `worker` runs alone.")],
) -> None:
    """Run single services in the foreground.

    There are api, projector, relay, dispatcher, recorder, reaper, thumbnails and worker.
    """
    if Service.WORKER in services:
        if len(services) > 1:
            raise typer.BadParameter("the worker has no database and runs alone: darkroom run worker")
        os.execv(sys.executable, [sys.executable, "-m", "gpu_worker"])  # noqa: S606 - no shell wanted
    settings = Settings.from_environment()
    log_to_stderr(settings.log_level, settings.log_format)
    from api.run import run_services  # noqa: PLC0415 - see `up`

    raise typer.Exit(run_services([service.value for service in services], settings))


@app.command()
def submit(
    prompt: Annotated[str | None, typer.Argument(help="What to make; with --like, the job's own unless given.")] = None,
    job_type: Annotated[
        str | None, typer.Option("--type", help=f"The job type. Default: {JOB_TYPE}, or that of --like.")
    ] = None,
    like: Annotated[
        UUID | None,
        typer.Option(metavar="JOB", help="Take over the inputs of this job, its seed too; other options change them."),
    ] = None,
    quantity: Annotated[int | None, typer.Option(help="How many: 1, 3 or 6 images.")] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="N|random",
            help="Seed of the first; the others count up from it. Default: random; with --like, the job's.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter, as in steps=20.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What not to make.")] = None,
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="TYPE=FILE[@STRENGTH]",
            help="A picture that guides: composition, style or character; a file here, media:ID or asset:ID; 0.1 … 1.",
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="The picture that a video starts from; also media:ID, asset:ID.")
    ] = None,
    video: Annotated[
        str | None, typer.Option(metavar="FILE", help="The video that goes on; also media:ID, asset:ID.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="-10 … 10; higher goes first.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it with a progress bar until it has ended.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to download the files to; implies --watch.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Submit a job. Files of this machine are uploaded first.

    With --like JOB, the inputs of that job with what else is said here; what cannot be taken over is said on stderr.
    """
    from api.cli import commands  # noqa: PLC0415 - see `up`

    if prompt is None and like is None:
        raise typer.BadParameter("Missing argument 'PROMPT', or --like JOB")
    asked = {
        "prompt": prompt,
        "job_type": job_type or (None if like else JOB_TYPE),
        "negative_prompt": negative,
        "quantity": quantity,
        "seed": commands.seed_of(seed, like=like is not None),
        "params": commands.params_of(settings or []) or None,
        "references": commands.references_of(references or []) or None,
        "media": {name: source for name, source in (("image", image), ("video", video)) if source} or None,
        "priority": priority,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    server = commands.find_server(url, token, data_dir)
    source = None if like is None else str(like)
    finish(commands.submit(server, body, watched=watch or out is not None, out=out, as_json=as_json, like=source))


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image, a video or a sound.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Upload a file that jobs can start from.

    PNG, JPEG, WebP, MP4, MOV, WebM, WAV, MP3, FLAC or Ogg. The same content again is the same upload.
    """
    from api.cli import commands  # noqa: PLC0415 - see `up`

    finish(commands.upload(commands.find_server(url, token, data_dir), file, as_json=as_json))


@app.command()
def enhance(
    prompt: Annotated[str, typer.Argument(help="What to make.")],
    job_type: Annotated[str, typer.Option("--type", help="The job type that it is meant for.")] = JOB_TYPE,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Make a prompt richer, without a job.

    Prints the richer prompt, and on stderr who made it.
    """
    from api.cli import commands  # noqa: PLC0415 - see `up`

    finish(commands.enhance(commands.find_server(url, token, data_dir), prompt, job_type, as_json=as_json))


@app.command()
def jobs(
    status: Annotated[str | None, typer.Option(help="Only those of this status.")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="Only those of this job type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 20,
    dead: Annotated[bool, typer.Option("--dead", help="Everybody's jobs that failed. For administrators.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """List jobs, newest first."""
    from api.cli import commands  # noqa: PLC0415 - see `up`

    if dead and (status or job_type):
        raise typer.BadParameter("--dead lists everybody's failed jobs; leave --status and --type away")
    server = commands.find_server(url, token, data_dir)
    if dead:
        finish(commands.dead_jobs(server, limit=limit, as_json=as_json))
    finish(commands.jobs(server, status=status, job_type=job_type, limit=limit, as_json=as_json))


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="ID|FILE", help="The job, or a file that Darkroom made.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Show a job and where its files are, or which job a file is of.

    Of a file it also says whether its pixels are still those that the ledger knows; exit status 1 where they are not.
    """
    from api.cli import commands, origins  # noqa: PLC0415 - see `up`

    if os.path.isfile(what):  # says no, as Path.is_file does not, to names that no file can have
        finish(origins.show_file(Path(what), lambda: commands.find_server(url, token, data_dir), as_json=as_json))
    job_id = job_id_of(what)
    finish(commands.show(commands.find_server(url, token, data_dir), job_id, as_json=as_json))


def job_id_of(text: str) -> str:
    """An id as the server writes it."""
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither the id of a job nor a file here") from None


@app.command()
def history(
    job_id: JobId, as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None
) -> None:
    """Show every event of a job and its assets."""
    from api.cli import commands  # noqa: PLC0415 - see `up`

    finish(commands.history(commands.find_server(url, token, data_dir), str(job_id), as_json=as_json))


@app.command()
def cancel(
    job_id: JobId, as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None
) -> None:
    """Stop a job; what is completed stays."""
    from api.cli import commands  # noqa: PLC0415 - see `up`

    finish(commands.cancel(commands.find_server(url, token, data_dir), str(job_id), as_json=as_json))


@app.command()
def retry(
    job_id: JobId,
    dead: Annotated[bool, typer.Option("--dead", help="Anybody's job of `jobs --dead`, for its owner.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Run the failed and canceled outputs of a job again."""
    from api.cli import commands  # noqa: PLC0415 - see `up`

    run = commands.retry_dead if dead else commands.retry
    finish(run(commands.find_server(url, token, data_dir), str(job_id), as_json=as_json))


@app.command()
def rebuild(
    view: Annotated[str | None, typer.Argument(metavar="VIEW", help="The view's name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every view.")] = False,
    as_of: Annotated[
        int | None, typer.Option(min=0, metavar="POSITION", help="As it was then, beside the live view.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Rebuild views from the ledger.

    Everything goes on meanwhile. Prints rate and checksums.
    """
    from api.cli import operate  # noqa: PLC0415 - brings Postgres

    if (view is None) != every:
        raise typer.BadParameter("name one view, or --all")
    raise typer.Exit(operate.rebuild(operate.find_dsn(data_dir), view, as_of))


@app.command()
def verify(data_dir: DataDir = None) -> None:
    """Recompute the hash chain and every view.

    Exit status 1, and the position, where something does not fit.
    """
    from api.cli import operate  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(operate.verify(operate.find_dsn(data_dir)))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date.

    `darkroom up` does it by itself.
    """
    from api.cli import operate  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(operate.migrate(operate.find_dsn(data_dir)))


@app.command()
def export(
    given: Annotated[list[str], typer.Argument(metavar="[ID] FILE", help="The job or batch, and the file to write.")],
    every: Annotated[bool, typer.Option("--all", help="Everything, of every owner.")] = False,
    unfinished: Annotated[
        bool,
        typer.Option(
            help="With --all: also jobs that have not ended. They go on where it is imported, and this Darkroom must "
            "not run any more: for moving an installation for good."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE where it exists.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Write a job, a batch or everything into one file, a bundle.

    `darkroom import` takes it in elsewhere: events, ids and files are the same there. Keys and tokens are not in it.
    """
    from api.cli import bundles  # noqa: PLC0415 - brings Postgres

    if len(given) != (1 if every else 2):
        raise typer.BadParameter("name a job or a batch and a file, or --all and a file")
    if unfinished and not every:
        raise typer.BadParameter("--unfinished goes with --all: a single job is exported once it has ended")
    what = None if every else given[0]
    raise typer.Exit(
        bundles.export_to(what, Path(given[-1]), data_dir, unfinished=unfinished, force=force, as_json=as_json)
    )


@app.command(name="import")
def import_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `darkroom export` wrote.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take in a bundle of another installation, all of it or nothing.

    What is here already stays as it is; the same bundle again changes nothing. Everything may go on meanwhile.
    """
    from api.cli import bundles  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(bundles.import_from(file, data_dir, as_json=as_json))


@app.command(name="doctor")
def find_faults(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Look for what is wrong, and say how to mend it.

    Works with and without a running server, and changes nothing. Exit status 1 when something is wrong.
    """
    from api.cli.doctor import doctor  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(doctor(data_dir, as_json=as_json))


@app.command(name="settings")
def list_settings() -> None:
    """List every setting; secrets are hidden.

    Each with its value, its meaning and its default.
    """
    from api.cli import operate  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(operate.list_settings(Settings.from_environment()))
