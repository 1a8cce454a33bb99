"""What can be wrong with Postgres and what is in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

import projections
from api.cli.doctor.scene import Fault, Scene, Skipped
from projections.sql import load
from services.database import CONNECTING, Unavailable
from services.migrate import all_migrations
from services.owned_views import why_unfit

SQL: Final = load("doctor.sql", "api.cli.doctor")

POSTGRES_MIN: Final = 180_000

CLOCKS_S_MAX: Final = 2.0
"""Clocks further apart than this put the events of two machines in another order than they happened."""

LAG_EVENTS_MAX: Final = 50_000
"""As in /readyz: a view further behind shows a past that nobody wants."""

WAITED_S_MAX: Final = 60.0
"""A job that waits for so long while no worker of its pool works waits for a worker, not for its turn."""

PASSWORD: Final = ("28P01", "28000")
NO_DATABASE: Final = "3D000"


def postgres_reachable(scene: Scene) -> None:
    """Postgres answers, lets us in, and is new enough."""
    with _opened(scene) as connection:
        ((version, _),) = connection.execute(SQL["server"]).fetchall()
    if version < POSTGRES_MIN:
        raise Fault(f"Postgres is of version {version // 10_000}; Darkroom needs 18.", "Upgrade the server to 18.")


def schema_fits(scene: Scene) -> None:
    """The schema is that of this version of Darkroom."""
    with _opened(scene) as connection:
        ((is_migrated,),) = connection.execute(SQL["is_migrated"]).fetchall()
        applied = dict(connection.execute(SQL["applied"]).fetchall()) if is_migrated else {}
    known = {migration.name: migration.sha256 for migration in all_migrations()}
    foreign = sorted(name for name, sha256 in applied.items() if known.get(name) != sha256)
    missing = sorted(set(known) - set(applied))
    if foreign:
        raise Fault(
            f"The schema has {', '.join(foreign)}, which this version of Darkroom does not have: it is of a newer one.",
            "Install the version that made it, or a later one.",
        )
    if missing:
        raise Fault(f"The schema lacks {', '.join(missing)}.", "Run: darkroom migrate")


def clocks_agree(scene: Scene) -> None:
    """This machine and Postgres tell about the same time."""
    with _opened(scene) as connection:
        before_s = scene.clock()
        ((_, there_s),) = connection.execute(SQL["server"]).fetchall()
        ahead_s = (before_s + scene.clock()) / 2 - there_s
    if abs(ahead_s) > CLOCKS_S_MAX:
        word = "ahead of" if ahead_s > 0 else "behind"
        raise Fault(
            f"This machine's clock is {abs(ahead_s):.1f} s {word} that of Postgres.",
            "Let both follow a time server, as with: timedatectl set-ntp true",
        )


def api_role_fits(scene: Scene) -> None:
    """The API can read the views of one owner, and of no more than one."""
    given = scene.given.postgres_api_dsn
    dsn = scene.dsn() if given is None else given.get_secret_value()
    variable = "DARKROOM_POSTGRES_DSN" if given is None else "DARKROOM_POSTGRES_API_DSN"
    try:
        reason = why_unfit(dsn, logs_in=given is not None)
    except Unavailable:
        raise Fault(
            f"{variable}: nobody can log in with it now.", "See the check `postgres`; and the password."
        ) from None
    if reason is not None:
        what, _, grant = reason.partition("; ")
        raise Fault(
            f"{variable}: {what}.", f"As the owner of the database: {grant or 'grant darkroom_api to that user'}"
        )


def views_follow(scene: Scene) -> None:
    """Every view takes what the ledger has, in time."""
    with _opened(scene) as connection:
        rows = connection.execute(SQL["views"]).fetchall()
    at = {view: (position, version, parked, head) for view, position, version, parked, head in rows}
    for view in projections.ALL:
        if view.name not in at:
            raise Fault(f"The view {view.name} was never projected.", "Start the projector: darkroom run projector")
        position, version, parked, head = at[view.name]
        if parked:
            raise Fault(
                f"The view {view.name} keeps {parked} events aside that it could not take.",
                "GET /v1/admin/projections says why. After a fix, start the projector again: it takes them by itself.",
            )
        if version != view.version:
            raise Fault(
                f"The view {view.name} was made by another version of Darkroom.", f"Run: darkroom rebuild {view.name}"
            )
        if head - position > LAG_EVENTS_MAX:
            raise Fault(
                f"The view {view.name} is {head - position} events behind.",
                f"See that the projector runs and what it logs; else: darkroom rebuild {view.name}",
            )


def queue_moves(scene: Scene) -> None:
    """No job waits for a worker that is not there."""
    with _opened(scene) as connection:
        stuck = connection.execute(SQL["stuck"], {"waited_s": WAITED_S_MAX}).fetchall()
    if stuck:
        pool, waiting, oldest_s = stuck[0]
        raise Fault(
            f"{waiting} jobs of the pool {pool} wait, the oldest for {oldest_s:.0f} s, and no worker of it works.",
            f"Start one: DARKROOM_POOLS={pool} darkroom run worker. With `darkroom up`, see worker.log in its folder.",
        )


@contextmanager
def _opened(scene: Scene) -> Iterator[Connection[TupleRow]]:
    """A connection. Raises `Fault` where there is none to be had, `Skipped` where nothing says to which server."""
    dsn = scene.dsn()
    try:
        connection = psycopg.connect(dsn, **CONNECTING)
    except psycopg.OperationalError as error:
        raise _unreachable(scene, error) from None
    with connection:
        try:
            yield connection
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
            raise Skipped("the schema is not that of this version") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise Skipped(f"the user of DARKROOM_POSTGRES_DSN may not look: {error.diag.message_primary}") from None


def _unreachable(scene: Scene, error: psycopg.OperationalError) -> Fault:
    """By what Postgres said. libpq's own words are not repeated: they may hold parts of the connection string."""
    said = str(error)
    refused = ("password authentication failed", "no password supplied", 'role "', "pg_hba.conf")
    if error.sqlstate in PASSWORD or any(words in said for words in refused):
        return Fault("Postgres refuses the user or the password.", "Correct them in DARKROOM_POSTGRES_DSN.")
    if error.sqlstate == NO_DATABASE or ("database" in said and "does not exist" in said):
        return Fault(
            "Postgres has no database of that name.",
            "Create it (createdb), or correct the name in DARKROOM_POSTGRES_DSN.",
        )
    if scene.given.postgres_dsn is None:
        return Fault(
            "The bundled Postgres does not answer, though postgres.dsn says that it runs.",
            f"Start it with `darkroom up`; {scene.folder / 'postgres.log'} says why it ended.",
        )
    return Fault(
        "Postgres cannot be reached.", "See that it runs, and that DARKROOM_POSTGRES_DSN has its host and port."
    )
