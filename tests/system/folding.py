"""What the views must hold, computed in memory from all events, in the plainest way: no row of it by their code."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow, dict_row
from psycopg.sql import SQL, Identifier

from tests.system.facts import Fact, Row, Table
from tests.system.folding_studio import studio

Schema = Literal["views", "views_as_of"]

JOB_STATUS: Final = {
    "job.queued": "queued",
    "job.started": "processing",
    "job.requeued": "queued",
    "job.succeeded": "succeeded",
    "job.partially_succeeded": "partially_succeeded",
    "job.failed": "failed",
    "job.canceled": "canceled",
    "job.aborted": "aborted",
}
ENDED: Final = {"succeeded", "partially_succeeded", "failed", "canceled", "aborted"}

SHOWN: Final = ("owner", "status", "sha256", "rating", "saved", "trashed", "title", "tags")
"""Of an asset in a list."""


def fold_all(facts: Sequence[Fact]) -> dict[str, Table]:
    """Rows by table and key. Of each table the columns that somebody could miss."""
    jobs, assets = _jobs(facts), _assets(facts)
    return {
        "jobs": jobs,
        "assets": assets,
        "library": {
            key: {name: row[name] for name in SHOWN}
            for key, row in assets.items()
            if row["status"] in {"reserved", "completed"}
        },
        "workspace": _workspace(facts, assets),
        "queue": {key: _waiting(row) for key, row in jobs.items() if row["status"] not in ENDED},
        "performance": {
            key: {"owner": row["owner"], "status": row["status"], "attempts": row["attempt"]}
            for key, row in jobs.items()
        },
        "history": {
            str(fact.position): {
                "stream_id": fact.stream,
                "version": fact.version,
                "type": fact.name,
                "at": fact.at,
                "owner": fact.owner,
                "data": fact.data,
            }
            for fact in facts
        },
        "holds": _holds(facts),
        **studio(facts, jobs),
    }


KEYS: Final[Mapping[str, Sequence[str]]] = {
    "jobs": ["job_id"],
    "queue": ["job_id"],
    "performance": ["job_id"],
    "assets": ["asset_id"],
    "library": ["asset_id"],
    "workspace": ["asset_id"],
    "history": ["position"],
    "holds": ["stream_id"],
    "batches": ["batch_id"],
    "batch_items": ["batch_id", "index"],
    "batch_preferences": ["batch_id", "one", "other"],
    "prompts": ["prompt_id"],
    "turns": ["pool", "priority", "owner"],
    "score_jobs": ["job_id"],
    "score_ratings": ["asset_id"],
    "score_preferences": ["one", "other"],
    "score_wins": ["owner", "by", "winner", "loser"],
}
"""Of each table the columns that tell its rows apart; a key here is all of them, joined by a slash."""


def _waiting(job: Row) -> Row:
    status = "running" if job["status"] == "processing" else "waiting"
    return {name: job[name] for name in ("owner", "attempt", "cancel_requested")} | {"status": status}


def shown(connection: Connection[TupleRow], table: str, like: Mapping[str, Row], *, schema: Schema = "views") -> Table:
    """The rows of a table by key, with the columns that `like` has; without any row there, all of the keys."""
    columns = list(next(iter(like.values()), {}))
    names = SQL(", ").join(map(Identifier, [*KEYS[table], *columns]))
    query = SQL("select {} from {}").format(names, Identifier(schema, table))
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    return {_key(row, table): {name: _plain(row[name]) for name in columns} for row in rows}


def _key(row: Row, table: str) -> str:
    return "/".join(str(row[name]) for name in KEYS[table])


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value


def _jobs(facts: Sequence[Fact]) -> Table:
    jobs: Table = {}
    for fact in facts:
        if fact.name == "job.queued":
            jobs[fact.stream] = {
                "owner": fact.data["owner"],
                "status": "queued",
                "tags": fact.data["tags"],
                "attempt": 0,
                "cancel_requested": False,
                "started_at": None,
                "finished_at": None,
                "queued_position": fact.position,
            }
        row = jobs.get(fact.stream)
        if row is None:
            continue
        row["status"] = JOB_STATUS.get(fact.name, row["status"])
        if fact.name == "job.started":
            row.update(attempt=fact.data["attempt"], started_at=row["started_at"] or fact.at)
        elif fact.name == "job.cancel_requested":
            row["cancel_requested"] = True
        elif fact.name == "job.reprioritized" and "priority" in row:
            row["priority"] = fact.data["priority"]
        elif row["status"] in ENDED:
            row["finished_at"] = fact.at
    return jobs


CURATED: Final[Mapping[str, Callable[[Fact], Row]]] = {
    "asset.completed": lambda fact: {"status": "completed", "sha256": fact.data["sha256"], "completed_at": fact.at},
    "asset.failed": lambda _: {"status": "failed"},
    "asset.canceled": lambda _: {"status": "canceled"},
    "asset.thumbnailed": lambda fact: {"thumbnail_sha256": fact.data["sha256"]},
    "asset.rated": lambda fact: {"rating": fact.data["score"]},
    "asset.titled": lambda fact: {"title": fact.data["title"]},
    "asset.tagged": lambda fact: {"tags": fact.data["tags"]},
    "asset.saved": lambda _: {"saved": True},
    "asset.unsaved": lambda _: {"saved": False},
    "asset.trashed": lambda _: {"trashed": True},
    "asset.restored": lambda _: {"trashed": False},
    "asset.purged": lambda _: {"status": "purged", "thumbnail_sha256": None},
}


def _assets(facts: Sequence[Fact]) -> Table:
    assets: Table = {}
    for fact in facts:
        if fact.name == "asset.reserved":
            assets[fact.stream] = {
                **{name: fact.data[name] for name in ("owner", "job_id", "index", "seed", "path", "title")},
                "status": "reserved",
                "sha256": None,
                "completed_at": None,
                "thumbnail_sha256": None,
                "rating": None,
                "tags": fact.data.get("tags", []),  # of its job
                "saved": False,
                "trashed": False,
            }
        elif fact.name in CURATED:
            assets[fact.stream].update(CURATED[fact.name](fact))
    return assets


def _workspace(facts: Sequence[Fact], assets: Table) -> Table:
    dismissed = {fact.stream for fact in facts if fact.name == "asset.dismissed"}
    return {
        key: {name: row[name] for name in SHOWN} | {"dismissed": key in dismissed}
        for key, row in assets.items()
        if row["status"] != "purged"
    }


def _holds(facts: Sequence[Fact]) -> Table:
    """Of all that was said of a pool or a worker the last counts; one that was resumed is held no more."""
    holds: Table = {}
    for fact in facts:
        kind, _, said = fact.name.partition(".")
        if kind not in {"pool", "worker"}:
            continue
        holds.pop(fact.stream, None)
        if said != "resumed":
            told = {"kind": kind, "name": fact.data[kind], "reason": fact.data["reason"], "since": fact.at}
            holds[fact.stream] = {"owner": fact.owner, "hold": said} | told
    return holds
