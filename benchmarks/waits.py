"""Record how long jobs really waited: `python -m benchmarks.waits DATA_DIR SECONDS > history.json`.

Needs a running `darkroom up` on that data folder, with demo models. Jobs come in bursts at random, as people send them,
in several quantities and numbers of steps. What is written is for tests/domain/policies/test_recorded_waits.py: of each
job its kind, when it was submitted, started and finished, in seconds from the first one on, and by which worker.
"""

import json
import random
import sys
import time
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx

WAITING_MAX: Final = 30
"""With so many jobs in the queue none is submitted for now."""

BURST_MAX: Final = 8
PAUSE_S_MEAN: Final = 3.0

JOBS: Final = [("sdxl_image_fast", quantity, steps) for quantity in (1, 3) for steps in (2, 8)]
"""Job types, quantities and steps: a kind each."""

SIDE_PX: Final = 64


def main(folder: Path, seconds: float) -> None:
    """Submit, wait until all have ended, write the history to stdout."""
    token = (folder / "admin.token").read_text("utf-8").strip()
    url = (folder / "url").read_text("utf-8").strip()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        ids = submitted(client, seconds)
        while unfinished(client):
            time.sleep(2)
        rows = [row for job_id in ids if (row := row_of(client, job_id)) is not None]
    first = min(row[1] for row in rows)
    shifted = [[kind, *(round(at - first, 2) for at in times), worker] for kind, *times, worker in rows]
    sys.stdout.write("[\n" + ",\n".join(json.dumps(row) for row in sorted(shifted, key=lambda row: row[1])) + "\n]\n")


def submitted(client: httpx.Client, seconds: float) -> list[str]:
    """The ids of the jobs, in bursts for so long."""
    chance = random.Random(11)
    until_s = time.monotonic() + seconds
    ids: list[str] = []
    for number in count():
        if time.monotonic() > until_s:
            return ids
        burst = chance.randint(1, BURST_MAX) if unfinished(client) < WAITING_MAX else 0
        for _ in range(burst):
            job_type, quantity, steps = chance.choice(JOBS)
            asked = {"job_type": job_type, "quantity": quantity, "prompt": f"a lighthouse in fog, view {number}"}
            params = {"width": SIDE_PX, "height": SIDE_PX, "steps": steps}
            answer = client.post("/v1/jobs", json=asked | {"params": params}).raise_for_status()
            ids.append(answer.json()["id"])
        time.sleep(chance.expovariate(1 / PAUSE_S_MEAN))
    raise AssertionError("counting does not end")


def unfinished(client: httpx.Client) -> int:
    """Jobs that wait or run, up to 100 of each."""
    lists = (client.get("/v1/jobs", params={"status": status, "limit": 100}) for status in ("queued", "processing"))
    return sum(len(each.raise_for_status().json()["results"]) for each in lists)


def row_of(client: httpx.Client, job_id: str) -> list[Any] | None:
    """Kind, submitted, started, finished, worker; None for a job that took another way than the straight one."""
    history = client.get(f"/v1/jobs/{job_id}/history").raise_for_status().json()["results"]
    events = {each["type"]: each for each in history if each["stream"] == job_id or each["type"].startswith("job.")}
    if not {"job.queued", "job.started", "job.succeeded"} <= events.keys() or "job.requeued" in events:
        return None
    recipe = events["job.queued"]["data"]["recipe"]
    at = (
        datetime.fromisoformat(events[f"job.{name}"]["at"]).timestamp() for name in ("queued", "started", "succeeded")
    )
    kind = f"{recipe['job_type']} {len(recipe['seeds'])} x {recipe['params']['steps']} steps"
    return [kind, *at, events["job.started"]["data"]["worker"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
