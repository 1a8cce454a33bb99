"""Commands on workers: listing them, holding pools and workers, and changing the priority of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.columns import Column, table
from api.cli.names import job_named
from api.cli.options import AsJson, DataDir, JobName, Token, Url
from api.cli.remote.failures import NotThere
from api.cli.remote.server import Server, find_server, finish
from api.cli.tables import local_time
from api.cli.terminal import DONE, complain, print_json, printable, say, width_of_stdout
from domain.json_type import Json

if TYPE_CHECKING:
    from api.cli.remote.client import Client

Word = Literal["pause", "drain", "resume"]

Name = Annotated[
    str, typer.Argument(metavar="POOL|WORKER", help="A pool such as sdxl, or a worker such as worker.gpu-1.")
]
Reason = Annotated[str | None, typer.Option(help="The reason, for later readers.")]

SAID: dict[Word, str] = {"pause": "paused", "drain": "drained", "resume": "resumed"}


def workers(as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None) -> None:
    """List workers and pools: their states, their jobs, and since when."""
    finish(_workers(find_server(url, token, data_dir), as_json=as_json))


def pause(
    name: Name,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Pause a pool or worker. Running jobs continue, new jobs wait."""
    finish(_change(find_server(url, token, data_dir), "pause", name, reason, as_json=as_json))


def drain(
    name: Name,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Pause a pool or worker to empty it.

    `darkroom workers` shows when its last job has ended.
    """
    finish(_change(find_server(url, token, data_dir), "drain", name, reason, as_json=as_json))


def resume(
    name: Name,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Let a pool or a worker take jobs again."""
    finish(_change(find_server(url, token, data_dir), "resume", name, reason, as_json=as_json))


def priority(
    job: JobName,
    value: Annotated[int, typer.Argument(min=-10, max=10, metavar="PRIORITY", help="-10 to 10; 10 goes first.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Change the priority of a waiting job of any owner."""
    finish(_reprioritize(find_server(url, token, data_dir), job_named(job), value, as_json=as_json))


async def _workers(server: Server, *, as_json: bool) -> int:
    async with server.client() as client:
        found, pools = await client.workers(), await client.pools()
    if as_json:
        print_json({"workers": found, "pools": pools})
        return DONE
    width = width_of_stdout()
    if found:
        for line in worker_lines(found, width):
            say(line)
        say("")
    else:
        complain(
            "No worker was heard of. Start one with `darkroom up --workers 1`, or elsewhere with `darkroom run worker`."
        )
    for line in pool_lines(pools, width):
        say(line)
    return DONE


async def _change(server: Server, word: Word, name: str, reason: str | None, *, as_json: bool) -> int:
    async with server.client() as client:
        changed = await _hold(client, word, name, reason)
    if as_json:
        print_json(changed)
        return DONE
    say(f"{changed['kind']} {name} is {SAID[word]}")
    return DONE


async def _hold(client: Client, word: Word, name: str, reason: str | None) -> Json:
    """A worker's name has a dot, after its NATS user; a pool's has none."""
    if "." in name:
        return await client.hold("workers", name, word, reason)
    try:
        return await client.hold("pools", name, word, reason)
    except NotThere:
        pools = [row["pool"] for row in await client.pools()]
        workers = [row["name"] for row in await client.workers()]
        known = f"The pools are {', '.join(pools)}; the workers are {', '.join(workers) or 'not known yet'}."
        raise NotThere(f"There is no pool and no worker {name!r}. {printable(known)}") from None


async def _reprioritize(server: Server, job_id: str, value: int, *, as_json: bool) -> int:
    async with server.client() as client:
        changed = await client.reprioritize(job_id, value)
    if as_json:
        print_json(changed)
    else:
        say(f"{job_id}  priority {changed['priority']}")
    return DONE


def worker_lines(found: Sequence[Json], width: int | None) -> list[str]:
    """A line for each worker, with its full name and state."""
    columns = [
        Column("worker"),
        Column("state"),
        Column("job", leave_at=1),
        Column("step", leave_at=3),
        Column("since", leave_at=2),
        Column("heard", leave_at=5),
        Column("device", leave_at=6),
        Column("pools", leave_at=4),
        Column("models", whole=False, leave_at=7),
    ]
    return table(columns, [_worker_row(row) for row in found], width)


def pool_lines(found: Sequence[Json], width: int | None) -> list[str]:
    """A line for each pool."""
    columns = [
        Column("pool"),
        Column("state"),
        Column("workers"),
        Column("waiting"),
        Column("running"),
        Column("why", whole=False),
    ]
    return table(columns, [_pool_row(row) for row in found], width)


def _worker_row(row: Json) -> list[str]:
    job = row["job"]
    progress = None if job is None else job["progress"]
    models = [model["name"] + (" (loaded)" if model["loaded"] else "") for model in row["models"]]
    return [
        printable(row["name"]),
        row["state"],
        "" if job is None else job["id"],
        "" if progress is None else f"{progress['step']}/{progress['total']}",
        local_time(row["since"]),
        local_time(row["heard_at"]),
        printable(row["device"] or ""),
        printable(",".join(row["pools"])),
        printable(", ".join(models)),
    ]


def _pool_row(row: Json) -> list[str]:
    held = row["held"]
    if held is not None:
        why = f"by {held['by']} since {local_time(held['since'])}" + (f": {held['reason']}" if held["reason"] else "")
    elif row["state"] == "no_worker" and row["last_seen_at"]:
        why = f"the last worker was heard of {local_time(row['last_seen_at'])}"
    else:
        why = ""
    state = row["state"].replace("_", " ")
    return [row["pool"], state, str(row["workers"]), str(row["waiting"]), str(row["running"]), printable(why)]
