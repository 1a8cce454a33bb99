"""Jobs, assets and histories as text for a terminal. Texts of users are shown unchanged."""

from collections.abc import Callable, Sequence
from datetime import datetime

from api.cli.columns import Column, table
from api.cli.terminal import printable
from domain.json_type import Json

PROMPT_SHOWN = 60
"""Characters of a prompt in a list; `show` prints all of it."""


def local_time(stamp: str | None) -> str:
    """An ISO time as local time to the second, with its zone; empty for none."""
    return _with_zone(_local(stamp), "%Y-%m-%d %H:%M:%S") if stamp else ""


def local_minute(stamp: str | None) -> str:
    """An ISO time as local time to the minute, with its zone; empty for none."""
    return _with_zone(_local(stamp), "%Y-%m-%d %H:%M") if stamp else ""


def jobs_lines(jobs: Sequence[Json], width: int | None) -> list[str]:
    """A line for each job, with its full id and status."""
    columns = [
        Column("id"),
        Column("status"),
        Column("files", leave_at=1),
        Column("now", leave_at=4),
        Column("type", leave_at=2),
        Column("created", leave_at=3),
        Column("prompt", whole=False),
    ]
    rows = []
    for job in jobs:
        done = sum(asset["status"] == "completed" for asset in job.get("assets") or [])
        now = standing(job).removeprefix(str(job["status"])).removeprefix(", ")
        rows.append([job["id"], str(job["status"]), f"{done}/{job['quantity']}", printable(now), job["job_type"],
                     local_minute(job["created_at"]), _short(job["prompt"])])  # fmt: skip
    if not any(row[3] for row in rows):
        columns.pop(3)
        rows = [row[:3] + row[4:] for row in rows]
    return table(columns, rows, width)


def dead_jobs_lines(jobs: Sequence[Json], width: int | None) -> list[str]:
    """A line for each failed job of any owner."""
    columns = [
        Column("id"),
        Column("owner"),
        Column("type", leave_at=3),
        Column("attempts", leave_at=2),
        Column("failed", leave_at=4),
        Column("retried as", leave_at=1),
        Column("why", whole=False),
    ]
    rows = []
    for job in jobs:
        why = ("quarantined: " if job["quarantined"] else "") + error_text(job["error"])
        rows.append([job["id"], printable(job["owner"]), job["job_type"], str(job["attempts"]),
                     local_minute(job["finished_at"]), job["retried_as"] or "", why])  # fmt: skip
    return table(columns, rows, width)


def library_lines(assets: Sequence[Json], width: int | None) -> list[str]:
    """A line for each asset, with its full id."""
    columns = [
        Column("asset"),
        Column("kind"),
        Column("rating"),
        Column("saved", leave_at=1),
        Column("completed", leave_at=3),
        Column("type", leave_at=4),
        Column("tags", whole=False, leave_at=2),
        Column("title or prompt", whole=False),
    ]
    rows = [
        [asset["id"], asset["kind"], str(asset["rating"] or "-"), "yes" if asset["saved"] else "-",
         local_minute(asset["completed_at"]), asset["job_type"], printable(", ".join(asset["tags"])),
         _short(asset["title"] or asset["prompt"])]
        for asset in assets
    ]  # fmt: skip
    return table(columns, rows, width)


def types_lines(types: Sequence[Json], width: int | None) -> list[str]:
    """A line for each job type."""
    columns = [
        Column("type"),
        Column("makes"),
        Column("quantities", leave_at=2),
        Column("seconds", leave_at=3),
        Column("model", leave_at=1),
        Column("tasks", leave_at=4),
        Column("label", whole=False, least=20),
    ]
    rows = [
        [entry["name"], entry["kind"], ", ".join(map(str, entry["quantities"])), _range(entry["expected_s"]),
         entry["model"], ", ".join(entry["tasks"]), printable(entry["label"])]
        for entry in types
    ]  # fmt: skip
    return table(columns, rows, width)


def models_lines(models: Sequence[Json], width: int | None) -> list[str]:
    """A line for each model."""
    columns = [
        Column("model"),
        Column("pool", leave_at=2),
        Column("size", leave_at=3),
        Column("tasks", leave_at=1),
        Column("references", leave_at=4),
        Column("label", whole=False, least=20),
    ]
    rows = [
        [entry["name"], entry["pool"], f"{entry['width']}x{entry['height']}", ", ".join(entry["tasks"]),
         ", ".join(entry["references"]) or "-", printable(entry["label"])]
        for entry in models
    ]  # fmt: skip
    return table(columns, rows, width)


def params_lines(parameters: Json, width: int | None) -> list[str]:
    """A line for each parameter: its default, its allowed values, and what it depends on."""
    columns = [
        Column("parameter"),
        Column("default"),
        Column("allowed", whole=False),
        Column("only with", whole=False),
    ]
    rows = [
        [name, _json_text(each.get("default")), _allowed(each), _conditions(each)]
        for name, each in parameters["properties"].items()
    ]
    if not any(row[3] for row in rows):
        columns.pop()
        rows = [row[:3] for row in rows]
    return table(columns, rows, width)


def users_lines(users: Sequence[Json], width: int | None) -> list[str]:
    """A line for each user."""
    columns = [Column("name"), Column("created"), Column("revoked")]
    rows = [[user["name"], local_time(user["created"]), local_time(user["revoked"])] for user in users]
    return table(columns, rows, width)


def history_lines(events: Sequence[Json], width: int | None) -> list[str]:
    """A line for each event: its position, its time, its type, and its facts, wrapped if necessary.

    If all events are of one day and zone, these are in the heading, which leaves more room for the facts.
    """
    times = [_local(event["at"]) for event in events]
    days = {_with_zone(time, "%Y-%m-%d") for time in times}
    heading = days.pop() if len(days) == 1 else "time"
    columns = [
        Column("position"),
        Column(heading),
        Column("event"),
        Column("by", leave_at=1),
        Column("what", whole=False, wrapped=True, least=36),
    ]
    rows = [
        [str(event["position"]), _moment(time, alone=heading == "time"), event["type"], printable(event["actor"]),
         what_happened(event)]
        for time, event in zip(times, events, strict=True)
    ]  # fmt: skip
    return table(columns, rows, width)


def job_lines(job: Json, files: Sequence[str]) -> list[str]:
    """Everything about one job, line by line. `files` are the places of its assets' files."""
    facts = {
        "status": standing(job),
        "type": f"{job['job_type']} ({job['model']}, {job['task']})",
        "prompt": job["prompt"],
        "enhanced": job.get("enhanced_prompt"),
        "negative": job.get("negative_prompt"),
        "params": ", ".join(f"{name}={in_words(value)}" for name, value in (job.get("params") or {}).items()),
        "seed": job["seed"],
        "tags": ", ".join(job.get("tags") or []),
        "priority": job.get("priority") or None,
        "attempt": job.get("attempt") or None,
        "batch": job.get("batch_id"),
        "created": local_time(job["created_at"]),
        "started": local_time(job.get("started_at")),
        "finished": local_time(job.get("finished_at")),
        "error": error_text(job.get("error")),
    }
    lines = [f"job       {job['id']}"]
    lines += [f"{name:<10}{printable(value)}" for name, value in facts.items() if value not in {None, ""}]
    lines += [f"warning   {printable(warning['detail'])}" for warning in job.get("warnings") or []]
    return lines + [
        f"  {asset['index']}  {asset['id']}  {printable(text)}"
        for asset, text in zip(job["assets"], files, strict=True)
    ]


def batch_lines(batch: Json) -> list[str]:
    """Everything about one batch, line by line: its items with their jobs, or why there is none."""
    facts = {
        "name": batch["name"],
        "collection": batch["collection"],
        "created": local_time(batch["created_at"]),
        "items": ", ".join(f"{count:,} {status}" for status, count in batch["counts"].items() if count),
    }
    lines = [f"batch     {batch['id']}"]
    lines += [f"{name:<10}{printable(value)}" for name, value in facts.items() if value not in {None, ""}]
    return lines + [f"  {item['index']}  {printable(_item_text(item))}" for item in batch["items"]]


def _item_text(item: Json) -> str:
    template = f" ({item['template']})" if item["template"] else ""
    if not item["saved"]:
        return f"{item['status']}{template}: {item['error']['detail']}"
    return f"{item['job_id']}  {item['status']}{template}"


def asset_lines(asset: Json, place: Callable[[Json], str]) -> list[str]:
    """Everything about one asset, line by line. `place` says where the file of a completed one is."""
    size = f", {asset['width']} x {asset['height']}" if asset.get("width") else ""
    facts = {
        "job": f"{asset['job_id']}, output {asset['index']}",
        "status": asset["status"],
        "file": place(asset) if asset["status"] == "completed" else None,
        "kind": f"{asset['media_type']}{size}, {asset['bytes']:,} bytes" if asset.get("bytes") else asset["kind"],
        "type": f"{asset['job_type']} ({asset['model']}, {asset['task']})",
        "prompt": asset["prompt"],
        "seed": asset["seed"],
        "title": asset["title"],
        "tags": ", ".join(asset["tags"]),
        "rating": asset["rating"],
        "saved": "yes" if asset["saved"] else None,
        "completed": local_time(asset["completed_at"]),
        "sha256": asset.get("sha256"),
        "error": error_text(asset.get("error")),
    }
    lines = [f"asset     {asset['id']}"]
    return lines + [f"{name:<10}{printable(value)}" for name, value in facts.items() if value not in {None, ""}]


def standing(job: Json) -> str:
    """The status with the known progress and waiting time."""
    progress, queue = job.get("progress"), job.get("queue")
    if job["status"] == "processing" and progress:
        return f"processing, step {progress['step']} of {progress['total']}"
    if job["status"] == "queued" and isinstance(queue, dict) and queue.get("position") is not None:
        eta_s, eta_p90_s = queue.get("eta_s"), queue.get("eta_p90_s")
        about = "" if eta_s is None else f", about {eta_s:.0f} s"
        at_most = f", hardly over {eta_p90_s:.0f} s" if eta_s and eta_p90_s and round(eta_p90_s) > round(eta_s) else ""
        waits = queue.get("waits_for")
        if waits in {"no_worker", "pool_paused"}:
            since = f" since {local_minute(queue['waits_since'])}" if queue.get("waits_since") else ""
            return f"queued, position {queue['position']}, {str(waits).replace('_', ' ')}{since}"
        return f"queued, position {queue['position']}{about}{at_most}"
    return str(job["status"])


def error_text(error: object) -> str:
    """The message of a failure, with its class."""
    if not isinstance(error, dict):
        return ""
    return printable(f"{error.get('message', '')} ({error.get('error_class', 'unknown')})")


def what_happened(event: Json) -> str:
    """A short description of an event."""
    data = event["data"]
    match event["type"]:
        case "job.queued":
            recipe = data["recipe"]
            return printable(f"{recipe['job_type']} x {len(recipe['seeds'])}: {recipe['prompt']}")
        case "job.started":
            return printable(f"attempt {data['attempt']} on {data['worker']}")
        case "job.prompt_enhanced" | "enhancement.made":
            return printable(f"{data['enhancer']}: {data['enhanced']}")
        case "job.warned":
            return printable(data["detail"])
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
            return "; ".join(f"{name} {in_words(value)}" for name, value in data.items() if value is not None)


def in_words(value: object) -> str:
    """A value of JSON as a person writes it, on one line: a list with commas, true and false, no quotes."""
    match value:
        case None | []:
            return "none"
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(map(in_words, value))
        case dict():
            return ", ".join(f"{printable(name)} {in_words(each)}" for name, each in value.items())
        case _:
            return printable(value)


def _local(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp).astimezone()


def _with_zone(time: datetime, pattern: str) -> str:
    """The zone as an offset: names of zones are ambiguous."""
    offset = time.strftime("%z")
    return f"{time.strftime(pattern)} {offset[:3]}:{offset[3:5]}"


def _moment(time: datetime, *, alone: bool) -> str:
    """To the millisecond; with day and zone if it stands alone."""
    pattern = "%Y-%m-%d %H:%M:%S.%f" if alone else "%H:%M:%S.%f"
    moment = time.strftime(pattern)[:-3]
    return f"{moment} {_with_zone(time, '').strip()}" if alone else moment


def _short(text: object) -> str:
    shown = printable(text)
    return shown if len(shown) <= PROMPT_SHOWN else shown[: PROMPT_SHOWN - 1] + "…"


def _range(bounds: Sequence[float]) -> str:
    least, most = bounds
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _json_text(value: object) -> str:
    return "-" if value is None else in_words(value)


def _allowed(parameter: Json) -> str:
    """The allowed values of a parameter, from its JSON Schema."""
    if "enum" in parameter:
        return ", ".join(_json_text(choice) for choice in parameter["enum"])
    match parameter.get("type"):
        case "boolean":
            return "true, false"
        case "integer" | "number":
            kind = "whole number" if parameter["type"] == "integer" else "number"
            least, most = parameter.get("minimum"), parameter.get("maximum")
            bounds = f" {least:g} to {most:g}" if least is not None and most is not None else ""
            step = parameter.get("multipleOf")
            return f"{kind}{bounds}" + (f", multiple of {step:g}" if step else "")
        case kind:
            return printable(kind)


def _conditions(parameter: Json) -> str:
    conditions = parameter.get("depends_on") or []
    return " and ".join(
        f"{each['name']} = {' or '.join(_json_text(value) for value in each['values'])}" for each in conditions
    )
