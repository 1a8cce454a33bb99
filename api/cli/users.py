"""`darkroom users`: the users of this Darkroom in addition to the administrator."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

DataDir = Annotated[Path | None, typer.Option(help="The data folder. Default: DARKROOM_DATA_DIR.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user: a to z, 0 to 9, - and _.")]


@app.callback(invoke_without_command=True)
def users(context: typer.Context) -> None:
    """Add, list and revoke users.

    Each has an API key, and sees what is his own. Works directly on the database, as `darkroom migrate` does.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def add(name: Name, data_dir: DataDir = None) -> None:
    """Make an API key for a user.

    The key goes to stdout, this once: only its hash is kept.
    """
    from api.cli import operate, user_keys  # noqa: PLC0415 - brings Postgres

    raise typer.Exit(user_keys.add(operate.find_dsn_to_write(data_dir), name))


@app.command(name="list")
def list_users(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False, data_dir: DataDir = None
) -> None:
    """List users.

    With when each got the latest key, and when it was revoked.
    """
    from api.cli import operate, user_keys  # noqa: PLC0415 - see `add`

    raise typer.Exit(user_keys.list_users(operate.find_dsn(data_dir), as_json=as_json))


@app.command()
def revoke(
    name: Name,
    cancel_jobs: Annotated[
        bool, typer.Option("--cancel-jobs/--keep-jobs", help="What happens to the user's jobs that wait or run.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """End a user's key; keep or cancel the jobs.

    What the user owns stays, and a new key shows all of it again. Jobs that wait or run go on, unless you cancel them
    with --cancel-jobs: now, or later with the same command.
    """
    from api.cli import operate, user_keys  # noqa: PLC0415 - see `add`

    again = ["darkroom", "users", "revoke", name, "--cancel-jobs", *(["--data-dir", str(data_dir)] if data_dir else [])]
    dsn = operate.find_dsn_to_write(data_dir, also_without_nats=True)  # a leaked key cannot wait
    raise typer.Exit(user_keys.revoke(dsn, name, cancel_jobs=cancel_jobs, to_cancel=shlex.join(again)))
