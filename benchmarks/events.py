"""From a commit to the clients of the event stream: a hundred clients, 200 events a second, every service on."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from http.client import HTTPConnection
from subprocess import PIPE
from typing import Final

from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage
from benchmarks.submit import TOKEN
from benchmarks.system import System, running

CLIENTS: Final = 100
JOBS_PER_S: Final = 17
"""Of three images: 12 events each, with their thumbnails."""

SECONDS: Final = 10.0
QUICK_SECONDS: Final = 2.0
ENDS_S_MAX: Final = 60.0
ARRIVED_S: Final = 2.0
"""Until then every event has come, or is counted as lost."""

COMMITTED: Final = """
select l.notification_id, extract(epoch from c.committed_at)
from ledger l join ledger_commits c on l.notification_id between c.first_position and c.last_position
where l.notification_id > %s
"""


def contest(percentile: float) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """Milliseconds within which so large a part of all events was with a client."""

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        seconds = QUICK_SECONDS if stage.quick else SECONDS
        with running(stage) as system:
            yield Contest(ours=lambda: at(percentile, delays_ms(system, seconds)), peer=None)

    return prepare


def at(percentile: float, values: list[float]) -> float:
    """The smallest value that such a part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percentile))]


def delays_ms(system: System, seconds: float) -> list[float]:
    """Of each event and client, from when the ledger stamped the commit, which is before its fsync."""
    after = system.head()
    command = [sys.executable, "-m", "benchmarks.listeners", str(system.port), TOKEN, str(CLIENTS), str(after)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as listeners:
        assert listeners.stdout is not None
        if listeners.stdout.readline() != "ready\n":
            raise RuntimeError("The clients could not listen.")
        jobs = steadily(system, seconds)
        system.await_ends(after, jobs, ENDS_S_MAX)
        head = system.head()
        time.sleep(ARRIVED_S)
        printed, _ = listeners.communicate()
    committed: dict[int, Decimal] = dict(system.connection.execute(COMMITTED, (after,)).fetchall())
    heard = {int(position): times for position, times in json.loads(printed).items() if int(position) <= head}
    lost = [position for position in committed if position <= head and len(heard.get(position, [])) != CLIENTS]
    if lost:
        raise RuntimeError(f"{len(lost)} of {len(committed)} events did not reach every client.")
    return [(time_s - float(committed[position])) * 1000 for position, times in heard.items() for time_s in times]


def steadily(system: System, seconds: float) -> int:
    """Submit jobs at an even pace; how many."""
    client = HTTPConnection("127.0.0.1", system.port, timeout=60)
    pace = threading.Event()
    jobs = int(JOBS_PER_S * seconds)
    began = time.monotonic()
    for number in range(jobs):
        pace.wait(max(0.0, began + number / JOBS_PER_S - time.monotonic()))
        system.submit(client, 3)
    client.close()
    return jobs


LOAD: Final = f"{CLIENTS} clients, {JOBS_PER_S * 12} events/s, all services on"
ROWS = [
    Row("commit-to-sse-p50", f"ms, {LOAD}", "none found", Target("ours", "≤", 100), contest(0.5)),
    Row("commit-to-sse-p99", f"ms, {LOAD}", "none found", Target("ours", "≤", 100), contest(0.99)),
]
