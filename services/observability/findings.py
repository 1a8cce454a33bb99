"""What is wrong with an installation: one list of findings for all readers.

`/readyz`, `darkroom doctor`, `/metrics` and `darkroom up` show it. Findings come from the functions in the tuple
`CHECKS` of `services.observability.checks`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load

log = logging.getLogger(__name__)

SQL = load("findings.sql", "services.observability")

Severity = Literal["error", "warning"]

ANSWER_MS_MAX: Final = 1_500
"""Milliseconds that Postgres has for each question; supervisors ask every few seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator needs to know: a stable code, one sentence, and a remedy.

    An `error` makes the installation unusable: `/readyz` answers 503. A `warning` is only listed.
    """

    code: str
    sentence: str
    remedy: str
    severity: Severity = "warning"

    def document(self) -> dict[str, str]:
        """The finding as JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "sentence": self.sentence,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """The sentence and the remedy."""
        return f"{self.sentence} {self.remedy}".strip()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a check may read: Postgres, the settings that matter, and the data folder of this process.

    `connection` is an autocommit one; each check has its own transaction with a time limit. `views` are the views of
    this version, with their versions; `data_dir` is None if the services run elsewhere.
    """

    connection: Connection[TupleRow]
    views: Mapping[str, int] = field(default_factory=dict)
    data_dir: Path | None = None
    disk_free_min_bytes: int = 0

    def rows(self, query: str, arguments: Mapping[str, Any] | None = None) -> list[TupleRow]:
        """The rows of a query."""
        return self.connection.execute(query.encode(), arguments).fetchall()


Check = Callable[[Facts], Iterable[Finding]]
"""Reads the facts and yields findings. It changes nothing."""


UNREADABLE: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
)
"""Errors of a database user without permission, or of a schema of another version."""


def examine(facts: Facts, checks: Sequence[Check]) -> list[Finding]:
    """The findings of every check, errors first. A check that fails does not stop the others.

    Raises psycopg's own errors when the connection to Postgres is lost.
    """
    found: list[Finding] = []
    for check in checks:
        try:
            found += made(check, facts)
        except UNREADABLE as error:
            log.debug("the check %s cannot look: %s", check.__name__, error)
    return sorted(found, key=lambda finding: finding.severity)


def made(check: Check, facts: Facts) -> list[Finding]:
    """The findings of one check. Raises one of `UNREADABLE` if it cannot read the facts."""
    try:
        with facts.connection.transaction():
            facts.connection.execute(SQL["bounds"], {"ms": str(ANSWER_MS_MAX)})
            return list(check(facts))
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return [_slow(check)]
    except (psycopg.OperationalError, psycopg.InterfaceError, *UNREADABLE):
        raise
    except Exception:
        log.exception("the check %s broke off", check.__name__)
        return []


def _slow(check: Check) -> Finding:
    return Finding(
        "check_too_slow",
        f"Postgres did not answer the check {check.__name__} within {ANSWER_MS_MAX / 1_000:g} s.",
        "See what the server is busy with: select * from pg_stat_activity where state <> 'idle'.",
    )
