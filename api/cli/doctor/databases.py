"""What can be wrong with Postgres and what is in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

import projections
from api.cli.doctor.scene import CheckSkipped, Examination, Fault
from projections.sql import load
from services.database import CONNECTING, Unavailable
from services.migrate import all_migrations
from services.observability import checks
from services.observability.findings import Check, Facts, made
from services.restore.epochs import stopped_reason
from services.restore.rights import lacks_rights
from services.views.owned_views import why_unfit

SQL: Final = load("doctor.sql", "api.cli.doctor")

POSTGRES_MIN: Final = 180_000

CLOCKS_S_MAX: Final = 2.0
"""Clocks further apart than this put the events of two machines in another order than they happened."""

QUEUE: Final = (checks.workers_missing, checks.models_missing)

PASSWORD: Final = ("28P01", "28000")
NO_DATABASE: Final = "3D000"


def postgres_reachable(scene: Examination) -> None:
    """Postgres answers, lets us in, and is new enough."""
    with _opened(scene) as connection:
        ((version, _),) = connection.execute(SQL["server"]).fetchall()
    if version < POSTGRES_MIN:
        raise Fault(f"Postgres is of version {version // 10_000}; Darkroom needs 18.", "Upgrade the server to 18.")


def schema_fits(scene: Examination) -> None:
    """The schema is that of this version of Darkroom."""
    with _opened(scene) as connection:
        ((is_migrated,),) = connection.execute(SQL["is_migrated"]).fetchall()
        applied = dict(connection.execute(SQL["applied"]).fetchall()) if is_migrated else {}
        without_roles = is_migrated and lacks_rights(connection)
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
    if without_roles:
        raise Fault("The database was restored without its roles.", "Run: darkroom migrate. docs/backup.md says more.")


def ledger_writable(scene: Examination) -> None:
    """Nothing has stopped writes: the ledger is the one that others have seen."""
    with _opened(scene) as connection:
        reason = stopped_reason(connection)
    if reason is not None:
        what, _, _ = reason.partition(" Writes are stopped;")
        raise Fault(f"Writes are stopped. {what}", "Run: darkroom restored. docs/backup.md says what it does.")


def clocks_agree(scene: Examination) -> None:
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


def api_role_fits(scene: Examination) -> None:
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


def views_follow(scene: Examination) -> None:
    """Every view takes what the ledger has, in time."""
    _refuse_findings(scene, (checks.views_follow,))


def queue_moves(scene: Examination) -> None:
    """No job waits for a worker, or a model, that is not there."""
    _refuse_findings(scene, QUEUE)


def services_go_on(scene: Examination) -> None:
    """Every service runs, and none waits or hangs; nobody holds a lock that others need."""
    others = [check for check in checks.CHECKS if check not in (checks.views_follow, checks.disk_free, *QUEUE)]
    _refuse_findings(scene, others)


def _refuse_findings(scene: Examination, wanted: Sequence[Check]) -> None:
    """Raises `Fault` with all that these checks find, as `/readyz` says it."""
    views = {view.name: view.version for view in projections.ALL}
    with _opened(scene) as connection:
        found = [finding for check in wanted for finding in made(check, Facts(connection, views))]
    if found:
        remedies = dict.fromkeys(finding.remedy for finding in found)
        raise Fault(" ".join(finding.sentence for finding in found), " ".join(remedies))


@contextmanager
def _opened(scene: Examination) -> Iterator[Connection[TupleRow]]:
    """A connection. Raises `Fault` where there is none to be had, `CheckSkipped` where nothing says to which server."""
    dsn = scene.dsn()
    try:
        connection = psycopg.connect(dsn, **CONNECTING)
    except psycopg.OperationalError as error:
        raise _unreachable(scene, error) from None
    with connection:
        try:
            yield connection
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
            raise CheckSkipped("the schema is not that of this version") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise CheckSkipped(
                f"the user of DARKROOM_POSTGRES_DSN may not look: {error.diag.message_primary}"
            ) from None


def _unreachable(scene: Examination, error: psycopg.OperationalError) -> Fault:
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
