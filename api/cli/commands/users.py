"""`darkroom users`: the users of this Darkroom in addition to the administrator."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.terminal import command

app = typer.Typer()

DataDir = Annotated[Path | None, typer.Option(help="The data folder. Default: DARKROOM_DATA_DIR.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user: a to z, 0 to 9, - and _.")]


@app.callback(invoke_without_command=True)
def users(context: typer.Context) -> None:
    """Add, list and revoke users.

    Each user has an API key, and sees only their own data. Works directly on the database, like `darkroom migrate`.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def add(name: Name, data_dir: DataDir = None) -> None:
    """Create an API key for a user.

    Prints the key to stdout once: only its hash is stored.
    """
    from api.cli.local import operate, user_keys  # noqa: PLC0415

    raise typer.Exit(user_keys.add(operate.find_dsn_to_write(data_dir), name))


@app.command(name="list")
def list_users(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, data_dir: DataDir = None
) -> None:
    """List users.

    With the times of the latest key and of its revocation.
    """
    from api.cli.local import operate, user_keys  # noqa: PLC0415

    raise typer.Exit(user_keys.list_users(operate.find_dsn(data_dir), as_json=as_json))


@app.command()
def revoke(
    name: Name,
    cancel_jobs: Annotated[
        bool, typer.Option("--cancel-jobs/--keep-jobs", help="Cancel or keep the user's waiting and running jobs.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Revoke a user's key; keep or cancel the jobs.

    The user's data is kept, and a new key gives access to all of it again. Waiting and running jobs continue, unless
    you cancel them with --cancel-jobs: now, or later with the same command.
    """
    from api.cli.local import operate, user_keys  # noqa: PLC0415

    again = command("users", "revoke", name, "--cancel-jobs", *(["--data-dir", str(data_dir)] if data_dir else []))
    dsn = operate.find_dsn_to_write(data_dir, also_without_nats=True)  # a leaked key cannot wait
    raise typer.Exit(user_keys.revoke(dsn, name, cancel_jobs=cancel_jobs, to_cancel=again))
