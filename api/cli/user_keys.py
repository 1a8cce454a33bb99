"""What `darkroom users` does, directly on the database. Each returns its status."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import typer
from psycopg import Connection
from psycopg.rows import TupleRow

from api.cli.operate import NoDatabase
from api.cli.tables import local_time, users_lines
from api.cli.terminal import width_of_stdout
from services import users
from services.database import CONNECTING, translated


def add(dsn: str, owner: str) -> int:
    """Print a new key on stdout, and what to know about it on stderr."""
    try:
        with _connected(dsn) as connection:
            made = users.add(connection, owner)
    except users.NameInvalid as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(made.key)
    whose = f"{owner} has a new key, and everything as before" if made.again else f"{owner} is a user now"
    typer.echo(
        f"{whose}. This key is shown once: keep it as DARKROOM_TOKEN; `darkroom sign-in` makes a link for a browser.",
        err=True,
    )
    return 0


def list_users(dsn: str, *, as_json: bool) -> int:
    """Everybody who ever had a key."""
    with _connected(dsn) as connection:
        found = users.list_users(connection)
    rows = [
        {
            "name": user.owner,
            "created": user.created_at.isoformat(),
            "revoked": None if user.revoked_at is None else user.revoked_at.isoformat(),
        }
        for user in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        typer.echo("\n".join(users_lines(rows, width_of_stdout())))
    else:
        typer.echo("There are no users but the administrator. Add one: darkroom users add NAME")
    return 0


def revoke(dsn: str, owner: str) -> int:
    """End the key of an owner."""
    with _connected(dsn) as connection:
        revoked = users.revoke(connection, owner)
    typer.echo(
        f"{owner} has had no key since {local_time(revoked.at.isoformat())}."
        if revoked.already
        else f"The key of {owner} is revoked; what {owner} owns stays."
    )
    return 0


@contextmanager
def _connected(dsn: str) -> Iterator[Connection[TupleRow]]:
    """Raises `Unavailable` and `NoDatabase`."""
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        try:
            yield connection
        except psycopg.errors.UndefinedTable as error:
            raise NoDatabase("the database lacks tables of Darkroom; run `darkroom migrate` first.") from error
