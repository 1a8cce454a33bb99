"""Implements `darkroom users`, directly on the database. Each function returns its status."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import psycopg
import typer
from psycopg import Connection
from psycopg.rows import TupleRow

from api.cli.local import operate
from api.cli.local.operate import NoDatabase
from api.cli.tables import local_time, users_lines
from api.cli.terminal import command, pasteable, width_of_stdout
from api.http.identity import KNOWN_S
from services import users
from services.database import CONNECTING, translated
from services.queue import unfinished
from services.queue.unfinished import CanceledJobs, Unfinished

ASKED: Final = "whose workers are asked to stop"


def add(dsn: str, owner: str) -> int:
    """Print a new key to stdout, and advice to stderr."""
    try:
        with _connected(dsn) as connection:
            made = users.add(connection, owner)
    except users.NameInvalid as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(made.key)
    whose = f"{owner} has a new key, and everything as before" if made.again else f"{owner} is a user now"
    advice = "This key is shown once: keep it as DARKROOM_TOKEN; `darkroom sign-in` makes a link for a browser."
    typer.echo(pasteable(f"{whose}. {advice}"), err=True)
    return 0


def list_users(dsn: str, *, as_json: bool) -> int:
    """Everyone who ever had a key."""
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
        typer.echo(f"There are no users but the administrator. Add one: {command('users', 'add', 'NAME')}")
    return 0


def revoke(dsn: str, owner: str, *, cancel_jobs: bool, to_cancel: str) -> int:
    """Revoke an owner's key, and keep or cancel the owner's jobs.

    `to_cancel` is the command that cancels them later. 1 if a job could not be canceled.
    """
    with _connected(dsn) as connection:
        revoked = users.revoke(connection, owner)
    typer.echo(
        f"{owner} has had no key since {local_time(revoked.at.isoformat())}."
        if revoked.already
        else f"The key of {owner} is revoked; what {owner} owns stays."
    )
    if not cancel_jobs:
        with operate.opened(dsn) as (database, ledger):
            typer.echo(_kept(owner, unfinished.count(database, ledger, owner), to_cancel))
        return 0
    # An API caches a key for this long: jobs that it accepts until then are canceled as well.
    time.sleep(max(0.0, KNOWN_S - (datetime.now(UTC) - revoked.at).total_seconds()) if revoked.already else KNOWN_S)
    with operate.opened(dsn, writes=True) as (database, ledger):
        canceled = unfinished.cancel_all(database, ledger, owner, lambda: datetime.now(UTC))
    typer.echo(_canceled(owner, canceled))
    for job_id, error in canceled.failed.items():
        typer.echo(f"Job {job_id} could not be canceled: {error}", err=True)
    return 1 if canceled.failed else 0


def _kept(owner: str, jobs: Unfinished, to_cancel: str) -> str:
    lines = [f"Jobs of {owner}: {jobs.stopping:,} running, {ASKED}."] if jobs.stopping else []
    if jobs.waiting or jobs.running:
        kept = f"{jobs.waiting:,} waiting, {jobs.running:,} running. They are kept and go on; to cancel them, run:"
        lines += [f"Jobs of {owner}: {kept}", f"  {to_cancel}"]
    return "\n".join(lines) or f"No job of {owner} waits or runs."


def _canceled(owner: str, jobs: CanceledJobs) -> str:
    if not jobs.waiting and not jobs.running:
        return f"No job of {owner} had to be canceled."
    return f"Jobs of {owner}: {jobs.waiting:,} waiting, now canceled; {jobs.running:,} running, {ASKED}."


@contextmanager
def _connected(dsn: str) -> Iterator[Connection[TupleRow]]:
    """Raises `Unavailable` and `NoDatabase`."""
    with translated(), psycopg.connect(dsn, **CONNECTING) as connection:
        try:
            yield connection
        except psycopg.errors.UndefinedTable as error:
            raise NoDatabase("the database lacks tables of Darkroom; run `darkroom migrate` first.") from error
