"""What is wrong with an installation, found from what it says of itself: one list for everybody who asks.

`/readyz`, `darkroom doctor`, `/metrics` and `darkroom up` show it. A finding comes from a function of
`services.observability.checks`; a new one is a function more in its tuple `CHECKS`.
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
"""Postgres has so long for each question; supervisors ask every few seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator has to know: a stable code, one sentence, and what to do.

    An `error` makes the installation unusable: `/readyz` answers 503. A `warning` is listed and nothing more.
    """

    code: str
    sentence: str
    remedy: str
    severity: Severity = "warning"

    def document(self) -> dict[str, str]:
        """For programs."""
        return {
            "code": self.code,
            "severity": self.severity,
            "sentence": self.sentence,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """For people: the sentence and the remedy."""
        return f"{self.sentence} {self.remedy}".strip()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a check may look at: Postgres, the settings that matter, and where this process keeps its data.

    `connection` is an autocommit one; each check has a transaction of its own with a bound on its time. `views` are the
    views of this version, with their versions; `data_dir` is None where the services run elsewhere.
    """

    connection: Connection[TupleRow]
    views: Mapping[str, int] = field(default_factory=dict)
    data_dir: Path | None = None
    disk_free_min_bytes: int = 0

    def rows(self, query: str, arguments: Mapping[str, Any] | None = None) -> list[TupleRow]:
        """What Postgres answers."""
        return self.connection.execute(query.encode(), arguments).fetchall()


Check = Callable[[Facts], Iterable[Finding]]
"""Looks at the facts and yields what it found. It changes nothing."""


UNREADABLE: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
)
"""The user of this process may not look, or the schema is another version's."""


def examine(facts: Facts, checks: Sequence[Check]) -> list[Finding]:
    """What every check finds, errors first. One that breaks, or may not look, holds up no other.

    Raises psycopg's own errors when Postgres is gone.
    """
    found: list[Finding] = []
    for check in checks:
        try:
            found += made(check, facts)
        except UNREADABLE as error:
            log.debug("the check %s cannot look: %s", check.__name__, error)
    return sorted(found, key=lambda finding: finding.severity)


def made(check: Check, facts: Facts) -> list[Finding]:
    """What one check finds. Raises one of `UNREADABLE` where it cannot look."""
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
