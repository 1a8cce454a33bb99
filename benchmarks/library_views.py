"""What the library's projections write for each of our views: the rows that ours writes.

They write to tables made by our own migration, so that both sides keep the same columns and indexes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, LiteralString

import orjson
from psycopg.types.json import Jsonb

from benchmarks.histories import ASSETS
from benchmarks.library_app import Asset, Job
from benchmarks.library_projection import Statement, Writer
from domain.policies.fairness import UNEXPECTED_S
from domain.recipes.recipe import asset_id
from projections.scores.rows import prompt_key


def _queued_job(event: Any, position: int) -> Iterable[Statement]:
    recipe = event.recipe
    yield (
        "insert into views.jobs (job_id, owner, status, pool, recipe, job_type, priority, tags, created_at,"
        " queued_position) values (%s, %s, 'queued', %s, %s, %s, 0, '{}', %s, %s)",
        (
            event.originator_id,
            event.owner,
            event.pool,
            Jsonb(recipe, dumps=orjson.dumps),
            recipe["job_type"],
            event.timestamp,
            position,
        ),
    )


def _started_job(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = (
        "update views.jobs set status = 'processing', attempt = %s, started_at = %s where job_id = %s"
    )
    yield update, (event.attempt, event.timestamp, event.originator_id)


def _succeeded_job(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = "update views.jobs set status = 'succeeded', finished_at = %s where job_id = %s"
    yield update, (event.timestamp, event.originator_id)


def _reserved_asset(event: Any, _: int) -> Iterable[Statement]:
    it = event.reservation
    yield (
        'insert into views.assets (asset_id, job_id, owner, "index", seed, kind, bucket, path, status)'
        " values (%s, %s, %s, %s, %s, %s, %s, %s, 'reserved')",
        (event.originator_id, event.job_id, event.owner, event.index, it["seed"], it["kind"], it["bucket"], it["path"]),
    )


def _rows_of_job(table: LiteralString) -> Writer:
    """Workspace and library show facts of the job with each asset: the rows come with the job."""

    def write(event: Any, position: int) -> Iterable[Statement]:
        recipe = event.recipe
        columns: LiteralString = 'asset_id, job_id, owner, "index", prompt, job_type, model, task, status'
        values: LiteralString = "%s, %s, %s, %s, %s, %s, %s, %s, 'reserved'"
        if table == "views.workspace":
            columns += ", queued_position"
            values += ", %s"
        for index in range(ASSETS):
            row = (
                asset_id(event.originator_id, index),
                event.originator_id,
                event.owner,
                index,
                recipe["prompt"],
                recipe["job_type"],
                recipe["model"],
                recipe["task"],
            )
            more = (position,) if table == "views.workspace" else ()
            yield "insert into " + table + " (" + columns + ") values (" + values + ")", (*row, *more)

    return write


def _reserve(table: LiteralString) -> Writer:
    def write(event: Any, _: int) -> Iterable[Statement]:
        it = event.reservation
        update: LiteralString = (
            "update " + table + " set seed = %s, kind = %s, bucket = %s, path = %s where asset_id = %s"
        )
        yield update, (it["seed"], it["kind"], it["bucket"], it["path"], event.originator_id)

    return write


def _complete(table: LiteralString) -> Writer:
    def write(event: Any, position: int) -> Iterable[Statement]:
        it = event.completion
        ending: LiteralString = ", completed_position = %s" if table == "views.library" else ""
        update: LiteralString = (
            "update "
            + table
            + " set status = 'completed', media_type = %s, bytes = %s, sha256 = %s, width = %s, height = %s,"
            + " completed_at = %s"
            + ending
            + " where asset_id = %s"
        )
        more = (position,) if ending else ()
        columns = (it["media_type"], it["bytes"], it["sha256"], it["width"], it["height"], event.timestamp)
        yield update, (*columns, *more, event.originator_id)

    return write


def _rate(table: LiteralString) -> Writer:
    def write(event: Any, _: int) -> Iterable[Statement]:
        yield "update " + table + " set rating = %s where asset_id = %s", (event.score, event.originator_id)

    return write


def _remember(event: Any, position: int) -> Iterable[Statement]:
    data = {name: value for name, value in vars(event).items() if not name.startswith(("originator", "timestamp"))}
    job = getattr(event, "job_id", event.originator_id)
    values = (position, event.originator_id, event.originator_version, type(event).__qualname__, event.timestamp, job)
    yield (
        "insert into views.history (position, stream_id, version, type, at, actor, owner, correlation_id, data)"
        " values (%s, %s, %s, %s, %s, 'admin', 'admin', %s, %s)",
        (*values, Jsonb(data, dumps=orjson.dumps)),
    )


def _enqueue(event: Any, position: int) -> Iterable[Statement]:
    cost_s = UNEXPECTED_S * len(event.recipe["seeds"])
    job = (event.originator_id, event.owner, event.pool, event.recipe["job_type"], event.timestamp, position, cost_s)
    yield (
        "insert into views.queue (job_id, owner, pool, job_type, priority, status, queued_at, queued_position, cost_s)"
        " values (%s, %s, %s, %s, 0, 'waiting', %s, %s, %s)",
        job,
    )
    yield (
        "insert into views.turns as t (pool, priority, owner, waiting, waiting_s, used_s, round_s)"
        " values (%s, 0, %s, 1, %s, 0, 0) on conflict (pool, priority, owner) do update set"
        " waiting = t.waiting + 1, waiting_s = t.waiting_s + excluded.waiting_s",
        (event.pool, event.owner, cost_s),
    )


def _run(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = (
        "update views.queue set status = 'running', attempt = %s, worker = %s, started_at = %s where job_id = %s"
    )
    yield update, (event.attempt, event.worker, event.timestamp, event.originator_id)
    charge: LiteralString = (
        "with charged as (select q.pool, q.priority, q.owner, q.cost_s, l.round_s,"
        " greatest(t.used_s, l.round_s - greatest(60, q.cost_s)) + q.cost_s as used_s"
        " from views.queue q join views.turns t using (pool, priority, owner) cross join lateral ("
        " select max(round_s) as round_s from views.turns where pool = q.pool and priority = q.priority) l"
        " where q.job_id = %s)"
        " update views.turns t set waiting = t.waiting - 1, waiting_s = t.waiting_s - c.cost_s, used_s = c.used_s,"
        " round_s = greatest(c.round_s, (ceil(c.used_s / 60) - 1) * 60)"
        " from charged c where (t.pool, t.priority, t.owner) = (c.pool, c.priority, c.owner)"
    )
    yield charge, (event.originator_id,)


def _dequeue(event: Any, _: int) -> Iterable[Statement]:
    yield "delete from views.queue where job_id = %s", (event.originator_id,)


def _expect(event: Any, _: int) -> Iterable[Statement]:
    recipe = event.recipe
    columns: LiteralString = "job_id, owner, job_type, model, pool, quantity, status, queued_at"
    yield (
        "insert into views.performance (" + columns + ") values (%s, %s, %s, %s, %s, %s, 'queued', %s)",
        (
            event.originator_id,
            event.owner,
            recipe["job_type"],
            recipe["model"],
            event.pool,
            len(recipe["seeds"]),
            event.timestamp,
        ),
    )


def _begin(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = (
        "update views.performance set status = 'processing', attempts = %s, started_at = coalesce(started_at, %s),"
        " last_started_at = %s where job_id = %s"
    )
    yield update, (event.attempt, event.timestamp, event.timestamp, event.originator_id)


def _end(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = "update views.performance set status = 'succeeded', finished_at = %s where job_id = %s"
    yield update, (event.timestamp, event.originator_id)


def _made(event: Any, _: int) -> Iterable[Statement]:
    update: LiteralString = (
        "update views.performance set oldest_attempt = least(oldest_attempt, %s),"
        " peak_memory_bytes = greatest(peak_memory_bytes, %s) where job_id = %s"
    )
    yield update, (event.completion["attempt"], event.completion["peak_memory_bytes"], event.job_id)


def _use(event: Any, position: int) -> Iterable[Statement]:
    recipe = event.recipe
    sha256 = prompt_key(recipe["prompt"])
    job = (event.originator_id, event.owner, len(recipe["seeds"]), sha256, recipe["model"], recipe["job_type"])
    columns: LiteralString = "job_id, owner, quantity, prompt_sha256, model, job_type"
    yield "insert into views.score_jobs (" + columns + ") values (%s, %s, %s, %s, %s, %s)", job
    upsert: LiteralString = (
        "insert into views.scores as s"
        " (owner, by, key, value, first_position, jobs, rated, distribution, score, won, lost, formula)"
        " values (%s, %s, %s, %s, %s, 1, 0, '{0,0,0,0,0}', 3, 0, 0, 1)"
        " on conflict (owner, by, key) do update set jobs = s.jobs + 1"
    )
    for by, key, value in (
        ("prompt", sha256, recipe["prompt"]),
        ("model", recipe["model"], recipe["model"]),
        ("job_type", recipe["job_type"], recipe["job_type"]),
    ):
        yield upsert, (event.owner, by, key, value, position)


def _opine(event: Any, _: int) -> Iterable[Statement]:
    """A first rating, which all of these histories are: all three rows at once, without a look at an earlier one."""
    insert: LiteralString = "insert into views.score_ratings (asset_id, owner, score) values (%s, 'admin', %s)"
    yield insert, (event.originator_id, event.score)
    update: LiteralString = (
        "with sums as ("
        " select s.owner, s.by, s.key, s.rated + 1 as rated, %(score)s + distribution[1] + 2 * distribution[2]"
        " + 3 * distribution[3] + 4 * distribution[4] + 5 * distribution[5] as total"
        " from views.score_jobs j join views.scores s on s.owner = j.owner and (s.by, s.key) in"
        " (('prompt', j.prompt_sha256), ('model', j.model), ('job_type', j.job_type)) where j.job_id = %(job)s)"
        " update views.scores s set rated = n.rated, mean = round(n.total / n.rated::numeric, 4),"
        " score = round((15 + n.total) / (5 + n.rated)::numeric, 4),"
        " distribution[%(score)s] = distribution[%(score)s] + 1"
        " from sums n where (s.owner, s.by, s.key) = (n.owner, n.by, n.key)"
    )
    yield update, {"score": event.score, "job": event.job_id}


_E: Any = Job
_A: Any = Asset


def _rows(table: LiteralString) -> dict[type[Any], Writer]:
    return {
        _E.Queued: _rows_of_job(table),
        _A.Reserved: _reserve(table),
        _A.Completed: _complete(table),
        _A.Rated: _rate(table),
    }


_JOBS: dict[type[Any], Writer] = {
    _E.Queued: _queued_job,
    _E.Started: _started_job,
    _E.Succeeded: _succeeded_job,
    _A.Reserved: _reserved_asset,
    _A.Completed: _complete("views.assets"),
    _A.Rated: _rate("views.assets"),
}
WRITERS: dict[str, Mapping[type[Any], Writer]] = {
    "jobs": _JOBS,
    "workspace": _rows("views.workspace"),
    "library": _rows("views.library"),
    "history": dict.fromkeys(_JOBS, _remember),
    "queue": {_E.Queued: _enqueue, _E.Started: _run, _E.Succeeded: _dequeue},
    "performance": {_E.Queued: _expect, _E.Started: _begin, _E.Succeeded: _end, _A.Completed: _made},
    "scores": {_E.Queued: _use, _A.Rated: _opine},
}
