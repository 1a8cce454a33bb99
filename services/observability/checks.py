"""The checks of an installation: each is a function that yields findings, a sentence with a remedy.

To add a check, write a function and add it to `CHECKS`. Checks read Postgres only: a service puts its facts there
(`services.observability.progress`).
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from projections.sql import load
from services.messaging.wire import LEASE_S
from services.observability import progress
from services.observability.findings import Check, Facts, Finding

SQL = load("checks.sql", "services.observability")

PROGRAMS: Final[Mapping[str, str]] = {
    "projector": "projector",
    "relay": "relay",
    "dispatcher": "dispatcher",
    "recorder": "recorder",
    "reaper": "reaper",
    "thumbnailer": "thumbnails",
}
"""Required services, each with the name under which `darkroom run` starts it."""

SILENT_S_MAX: Final = 15.0
"""Seconds without a report after which a process is gone, stopped, or cut off from Postgres."""

WAIT_S_MAX: Final = 10.0
"""Seconds of waiting that are normal: a server is restarting."""

IDLE_S_MAX: Final = 30.0
"""Seconds after which a step of a service is stuck; steps take less than a second."""

LOCK_S_MAX: Final = 5.0
"""Seconds of waiting for a lock. The ledger's is held for milliseconds; a rebuild locks a table for less than a
second."""

LAG_EVENTS_MAX: Final = 50_000
"""Events that a view may lag behind: about a second of a rebuild, minutes of a busy day."""

QUEUED_S_MAX: Final = 60.0
"""Seconds for which a job may wait, able to start, before the absence of a worker in its pool is reported."""

DISK_FREE_BYTES_MIN: Final = 32 * 1024**2
"""Minimum free bytes: two write-ahead log files of Postgres. With less, the next write may fail."""


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """The last report of a service. Seconds; `waits_s` is None unless it waits."""

    process: str
    silent_s: float
    idle_s: float
    code: str | None
    waits_for: str | None
    waits_s: float | None
    remedy: str | None
    facts: dict[str, Any]


def reported(facts: Facts) -> dict[str, list[ServiceReport]]:
    """Reports by service, the latest first."""
    found: dict[str, list[ServiceReport]] = defaultdict(list)
    for service, *values in facts.rows(SQL["services"]):
        found[service].append(ServiceReport(*values))
    return found


def services_silent(facts: Facts) -> Iterator[Finding]:
    """Every service reports every few seconds, from at least one process."""
    found = reported(facts)
    for service, program in PROGRAMS.items():
        last = next(iter(found[service]), None)
        if last is None:
            yield Finding("service_missing", f"No {service} runs.", f"Start it: darkroom run {program}.")
        elif last.silent_s > SILENT_S_MAX:
            yield Finding(
                "service_silent",
                f"The {service} has reported nothing for {last.silent_s:.0f} s.",
                f"Its process {last.process} was stopped, is frozen, or cannot reach Postgres; start it again.",
            )


def services_waiting(facts: Facts) -> Iterator[Finding]:
    """No service waits for something or is stuck in a step."""
    for service, processes in reported(facts).items():
        for one in processes:
            if one.silent_s > SILENT_S_MAX:
                continue
            if one.waits_s is not None and one.waits_s > WAIT_S_MAX:
                yield Finding(
                    one.code or "service_waits",
                    f"The {service} has waited for {one.waits_s:.0f} s: {one.waits_for}.",
                    one.remedy or "It goes on by itself once that is gone; its log says more.",
                )
            elif one.waits_s is None and one.idle_s > IDLE_S_MAX:
                yield Finding(
                    "service_stuck",
                    f"The {service} has not finished a step for {one.idle_s:.0f} s.",
                    f"See the other findings; else start process {one.process} again.",
                )


def items_parked(facts: Facts) -> Iterator[Finding]:
    """No service skips an item that it cannot process."""
    for service, processes in reported(facts).items():
        for one in processes:
            parked = one.facts.get("parked") or {}
            if one.silent_s <= SILENT_S_MAX and parked.get("count"):
                yield Finding(
                    "items_parked",
                    f"The {service} passes over {parked['count']} things that it can do nothing with, among them: "
                    f"{'; '.join(parked['sentences'])}.",
                    "Others go on. Its log names each, and what to do.",
                )


def broadcast_damaged(facts: Facts) -> Iterator[Finding]:
    """The stream LEDGER of NATS is complete."""
    for one in reported(facts)["relay"]:
        damaged = one.facts.get("ledger_stream_damaged")
        if one.silent_s <= SILENT_S_MAX and damaged:
            yield Finding(
                "ledger_stream_damaged",
                f"NATS damaged the stream LEDGER {damaged['times']} times since the relay started, last at "
                f"{damaged['at']}: {damaged['why']}. It was filled again from the ledger.",
                "See to the disk of NATS; nothing is lost.",
            )


def ledger_locked(facts: Facts) -> Iterator[Finding]:
    """Writers to the ledger get its lock immediately."""
    for waited_s, waiting, holder, program in facts.rows(SQL["ledger_lock"]):
        if waited_s > LOCK_S_MAX:
            yield Finding(
                "ledger_locked",
                f"Nothing can be written to the ledger: {waiting} writers have waited up to {waited_s:.0f} s for the "
                f"lock that process {holder} of Postgres ({program}) holds.",
                f"Wait for an import or a restore that runs; else end it: select pg_terminate_backend({holder}).",
                "error",
            )


def tables_locked(facts: Facts) -> Iterator[Finding]:
    """No query waits long for a table."""
    for table, waited_s, holder in facts.rows(SQL["lock_queues"]):
        if waited_s > LOCK_S_MAX:
            yield Finding(
                "table_locked",
                f"Something has waited for the table {table} for {waited_s:.0f} s behind process {holder} of Postgres.",
                f"End it if it should not be there: select pg_terminate_backend({holder}).",
            )


def views_follow(facts: Facts) -> Iterator[Finding]:
    """Every view keeps up with the ledger."""
    at = {view: rest for view, *rest in facts.rows(SQL["views"])}
    for view, wanted in sorted(facts.views.items()):
        if view not in at:
            yield Finding(
                "view_missing",
                f"The view {view} was never projected; is the projector running?",
                "Start it: darkroom run projector.",
                "error",
            )
            continue
        position, version, parked, head = at[view]
        if head - position > LAG_EVENTS_MAX:
            yield Finding(
                "view_behind",
                f"The view {view} is {head - position} events behind.",
                f"See that the projector runs and what it logs; else: darkroom rebuild {view}.",
                "error",
            )
        if parked:
            yield Finding(
                "events_parked",
                f"The view {view} keeps {parked} events aside that it could not take.",
                "GET /v1/admin/projections says why; after a fix, start the projector again.",
            )
        if version != wanted:
            yield Finding(
                "view_outdated",
                f"The view {view} was made by another version of Darkroom and is not brought up to date.",
                f"Wait for its rebuild, or run: darkroom rebuild {view}.",
            )


def workers_missing(facts: Facts) -> Iterator[Finding]:
    """Every pool with waiting jobs has a worker."""
    dispatchers = [one for one in reported(facts)["dispatcher"] if one.silent_s <= SILENT_S_MAX]
    workers: dict[str, int] = dispatchers[0].facts.get("workers", {}) if dispatchers else {}
    if workers and not any(workers.values()):
        yield Finding(
            "no_worker",
            "No worker runs: jobs are accepted and wait.",
            "Start Darkroom with `darkroom up --workers 1`, or see worker.log in its data folder. On another machine: "
            "`darkroom run worker` with DARKROOM_NATS_URL.",
        )
        return
    for pool, waiting, oldest_s, is_at_work in facts.rows(SQL["waiting_jobs"]):
        if oldest_s > QUEUED_S_MAX and not workers.get(pool, is_at_work):
            yield Finding(
                "no_worker",
                f"{waiting} jobs of the pool {pool} wait, the oldest for {oldest_s:.0f} s, and no worker of it works.",
                f"Start one: `darkroom up --workers {pool}`, or `DARKROOM_POOLS={pool} darkroom run worker` elsewhere.",
            )


def models_missing(facts: Facts) -> Iterator[Finding]:
    """No worker takes jobs of a model that it cannot load."""
    for (model,) in facts.rows(SQL["missing_models"]):
        yield Finding(
            "model_missing",
            f"Jobs of the model {model} fail: a worker cannot load it.",
            f"Say in DARKROOM_MODELS where it is, as in {model}=/models/{model}; the worker's log says what is wrong.",
        )


def pools_held(facts: Facts) -> Iterator[Finding]:
    """No pool is held by an operator who forgot it."""
    for pool, hold, actor, reason, since, waiting in facts.rows(SQL["held_pools"]):
        why = f" ({reason})" if reason else ""
        yield Finding(
            "pool_held",
            f"The pool {pool} is {hold} by {actor} since {since}{why}, and {waiting} jobs wait in it.",
            f"Let it go on: darkroom resume {pool}.",
        )


def workers_away(facts: Facts) -> Iterator[Finding]:
    """No worker disappeared without announcing its end."""
    for worker, silent_s in facts.rows(SQL["workers_away"], {"lease_s": LEASE_S}):
        yield Finding(
            "worker_away",
            f"The worker {worker} has not been heard of for {silent_s:.0f} s.",
            "Its process was killed, is frozen, or cannot reach NATS; its jobs go to others. See its log.",
        )


def models_without_worker(facts: Facts) -> Iterator[Finding]:
    """Every waiting job has a worker with its model."""
    for model, pool, waiting in facts.rows(SQL["models_without_worker"], {"lease_s": LEASE_S}):
        yield Finding(
            "model_without_worker",
            f"{waiting} jobs of the model {model} wait, and no worker of the pool {pool} has it.",
            f"Name it in DARKROOM_MODELS of a worker, as in {model}=/models/{model}, or start one that has it.",
        )


def disk_free(facts: Facts) -> Iterator[Finding]:
    """The data folder has free space, above all for the database."""
    if facts.data_dir is None:
        return
    free = shutil.disk_usage(facts.data_dir).free
    if free >= max(facts.disk_free_min_bytes, DISK_FREE_BYTES_MIN):
        return
    is_full = free < DISK_FREE_BYTES_MIN
    yield Finding(
        "disk_full" if is_full else "disk_low",
        f"{free // 1024**2} MB are free under {facts.data_dir}"
        + (": nothing can be written." if is_full else "; it needs more soon."),
        "Free some space; everything goes on by itself, and nothing that was accepted is lost.",
        "error" if is_full else "warning",
    )


def ledger_stopped(facts: Facts) -> Iterator[Finding]:
    """The ledger is the one that others have seen, and accepts events."""
    for (reason,) in facts.rows(SQL["stopped"]):
        what, _, _ = str(reason).partition(" Writes are stopped")
        remedy = "Writes are stopped; run `darkroom restored`. docs/backup.md says what it does."
        yield Finding("ledger_stopped", what, remedy, "error")


CHECKS: Final[Sequence[Check]] = (
    ledger_stopped,
    ledger_locked,
    disk_free,
    views_follow,
    services_silent,
    services_waiting,
    items_parked,
    broadcast_damaged,
    tables_locked,
    workers_missing,
    workers_away,
    pools_held,
    models_missing,
    models_without_worker,
)
"""All checks, in order."""


def of_this_process() -> list[Finding]:
    """What the services of this process wait for, even while Postgres is unavailable."""
    return [
        Finding(wait.code, f"The {one.service} of this process waits: {wait.reason}.", wait.remedy, "error")
        for one in progress.here()
        if one.service == progress.WRITER and (wait := one.waiting) is not None
    ]
