"""Jobs and histories as people read them in a terminal. Every text of a user is shown as it is, never as markup."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]

PROMPT_SHOWN = 60
"""Characters of a prompt in a list; `show` has all of it."""


def printable(text: object) -> str:
    """The text on one line without control characters: a prompt must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def local_time(stamp: str | None) -> str:
    """An ISO time as local time to the second; empty for none."""
    return _local(stamp).strftime("%Y-%m-%d %H:%M:%S") if stamp else ""


def jobs_table(jobs: Sequence[Json]) -> Table:
    """A line for each job."""
    table = _table("id", "status", "type", "files", "created", "prompt")
    for job in jobs:
        done = sum(asset["status"] == "completed" for asset in job.get("assets") or [])
        prompt = printable(job["prompt"])
        short = prompt if len(prompt) <= PROMPT_SHOWN else prompt[: PROMPT_SHOWN - 1] + "…"
        _row(table, job["id"], standing(job), job["job_type"], f"{done}/{job['quantity']}",
             local_time(job["created_at"]), short)  # fmt: skip
    return table


def dead_jobs_table(jobs: Sequence[Json]) -> Table:
    """A line for each."""
    table = _table("id", "owner", "type", "attempts", "failed", "why", "retried as")
    for job in jobs:
        why = ("quarantined: " if job["quarantined"] else "") + error_text(job["error"])
        _row(table, job["id"], printable(job["owner"]), job["job_type"], str(job["attempts"]),
             local_time(job["finished_at"]), why, job["retried_as"] or "")  # fmt: skip
    return table


def users_table(users: Sequence[Json]) -> Table:
    """A line for each user."""
    table = _table("name", "created", "revoked")
    for user in users:
        _row(table, user["name"], local_time(user["created"]), local_time(user["revoked"]))
    return table


def history_table(events: Sequence[Json]) -> Table:
    """A line for each event: its position, its time, its type, and what it says.

    A history of one day has the date above its times, which leaves more room for the words.
    """
    times = [_local(event["at"]) for event in events]
    days = {time.date().isoformat() for time in times}
    heading, pattern = (days.pop(), "%H:%M:%S.%f") if len(days) == 1 else ("time", "%Y-%m-%d %H:%M:%S.%f")
    table = _table("position", heading, "event", "by", "what")
    for time, event in zip(times, events, strict=True):
        milliseconds = time.strftime(pattern)[:-3]
        _row(
            table, str(event["position"]), milliseconds, event["type"], printable(event["actor"]), what_happened(event)
        )
    return table


def job_lines(job: Json, files: Sequence[str]) -> list[str]:
    """Everything about one job, a line each. `files` says where the file of each asset is."""
    facts = {
        "status": standing(job),
        "type": f"{job['job_type']} ({job['model']}, {job['task']})",
        "prompt": job["prompt"],
        "enhanced": job.get("enhanced_prompt"),
        "negative": job.get("negative_prompt"),
        "params": ", ".join(f"{name}={value}" for name, value in (job.get("params") or {}).items()),
        "seed": job["seed"],
        "priority": job.get("priority") or None,
        "attempt": job.get("attempt") or None,
        "created": local_time(job["created_at"]),
        "started": local_time(job.get("started_at")),
        "finished": local_time(job.get("finished_at")),
        "error": error_text(job.get("error")),
    }
    lines = [f"job       {job['id']}"]
    lines += [f"{name:<10}{printable(value)}" for name, value in facts.items() if value not in {None, ""}]
    return lines + [f"  {asset['index']}  {printable(text)}" for asset, text in zip(job["assets"], files, strict=True)]


def standing(job: Json) -> str:
    """The status with what is known about how long it takes."""
    progress, queue = job.get("progress"), job.get("queue")
    if job["status"] == "processing" and progress:
        return f"processing, step {progress['step']} of {progress['total']}"
    if job["status"] == "queued" and isinstance(queue, dict) and queue.get("position") is not None:
        eta_s, eta_p90_s = queue.get("eta_s"), queue.get("eta_p90_s")
        about = "" if eta_s is None else f", about {eta_s:.0f} s"
        at_most = f", hardly over {eta_p90_s:.0f} s" if eta_s and eta_p90_s and round(eta_p90_s) > round(eta_s) else ""
        return f"queued, position {queue['position']}{about}{at_most}"
    return str(job["status"])


def error_text(error: object) -> str:
    """The message of a failure, with its class."""
    if not isinstance(error, dict):
        return ""
    return printable(f"{error.get('message', '')} ({error.get('error_class', 'unknown')})")


def what_happened(event: Json) -> str:
    """What an event says, in a few words."""
    data = event["data"]
    match event["type"]:
        case "job.queued":
            recipe = data["recipe"]
            return printable(f"{recipe['job_type']} x {len(recipe['seeds'])}: {recipe['prompt']}")
        case "job.started":
            return printable(f"attempt {data['attempt']} on {data['worker']}")
        case "job.prompt_enhanced" | "enhancement.made":
            return printable(f"{data['enhancer']}: {data['enhanced']}")
        case "job.requeued":
            return f"attempt {data['attempt']} ended: {data['reason']}. {error_text(data.get('error'))}".strip()
        case "job.failed" | "asset.failed":
            return error_text(data["error"])
        case "job.partially_succeeded":
            return f"{data['completed']} completed, {data['failed']} failed"
        case "asset.reserved":
            return f"index {data['index']}, seed {data['seed']}"
        case "asset.completed":
            size = f"{data['width']} x {data['height']}, {data['bytes']:,} bytes"
            return f"{data['media_type']}, {size}, {data['render_ms'] / 1000:.1f} s, sha256 {data['sha256'][:12]}…"
        case "asset.thumbnailed":
            return f"{data['media_type']}, {data['width']} x {data['height']}, {data['bytes']:,} bytes"
        case "media.uploaded":
            return f"{data['media_type']}, {data['bytes']:,} bytes, sha256 {data['sha256'][:12]}…"
        case _:
            return printable(", ".join(f"{name} {value}" for name, value in data.items() if value is not None))


def _local(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp).astimezone()


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in {"by", "what", "prompt", "status"})
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))
