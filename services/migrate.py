"""Apply the files of `migrations/` once each, in order, checksummed, under a lock."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load
from services.crash_points import Point, reached
from services.restore.rights import RightsUnknown, give, lacks_rights, rights_wanted

log = logging.getLogger(__name__)

SQL = load("migrate.sql", "services")


class MigrationChanged(Exception):
    """An applied migration differs from the file of that name: the database belongs to another version."""

    code = "migration_changed"


class MigrationRefused(Exception):
    """The database user lacks a right that a migration needs; nothing was applied."""

    code = "migration_refused"


@dataclass(frozen=True, slots=True)
class Migration:
    """A file of `migrations/`."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's text; a released migration never changes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def all_migrations() -> list[Migration]:
    """The packaged migrations in order."""
    files = [file for file in resources.files("migrations").iterdir() if file.name.endswith(".sql")]
    return [Migration(file.name, file.read_text("utf-8")) for file in sorted(files, key=lambda file: file.name)]


def migrate(connection: Connection[TupleRow], migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply missing migrations in one transaction; returns their names. A second call applies nothing.

    Raises `MigrationChanged` before anything is applied, and `MigrationRefused` with nothing applied.
    """
    wanted = all_migrations() if migrations is None else migrations
    rights = _rights(connection, wanted)
    with connection.transaction():
        connection.execute(SQL["lock"])
        connection.execute(SQL["create"])
        applied: dict[str, str] = dict(connection.execute(SQL["applied"]).fetchall())
        _refuse_foreign(wanted, applied)
        missing = [migration for migration in wanted if migration.name not in applied]
        for migration in missing:
            try:
                connection.execute(migration.sql.encode())
            except psycopg.errors.InsufficientPrivilege as error:
                reason = (error.diag.message_primary or str(error)).rstrip(".")
                raise MigrationRefused(f"{migration.name} cannot be applied: {reason}; then migrate again.") from error
            connection.execute(SQL["record"], (migration.name, migration.sha256))
            reached(Point.MIGRATE_BETWEEN_FILES)
        if rights is not None:
            given = give(connection, rights)
            log.warning("the database was restored without its roles; %d rights are given again", given)
        reached(Point.MIGRATE_BEFORE_COMMIT)
    return [migration.name for migration in missing]


def _rights(connection: Connection[TupleRow], wanted: Sequence[Migration]) -> list[str] | None:
    """The roles that must be granted again; None if nothing is missing."""
    if not lacks_rights(connection):
        return None
    try:
        return rights_wanted(connection, lambda empty: migrate(empty, wanted))
    except RightsUnknown as error:
        raise MigrationRefused(str(error)) from error


def _refuse_foreign(wanted: Sequence[Migration], applied: dict[str, str]) -> None:
    known = {migration.name: migration.sha256 for migration in wanted}
    for name, sha256 in applied.items():
        if name not in known:
            raise MigrationChanged(
                f"The database has the migration {name}, which this version of Darkroom does not know: "
                "it was made by a newer version; install that one."
            )
        if known[name] != sha256:
            raise MigrationChanged(
                f"The migration {name} was applied with another text than this version has: "
                "this database belongs to another version of Darkroom."
            )
