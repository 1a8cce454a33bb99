"""Lists over HTTP from one API process, where one owner has 100,000 assets: the slowest answer of each.

`python -m benchmarks.lists` prints every question by itself.
"""

import http.client
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks import crowd
from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage, stage
from benchmarks.submit import TOKEN, await_port, free_port, process

REQUESTS: Final = 100
QUICK_REQUESTS: Final = 10
WARM_REQUESTS: Final = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from sending a request to having the whole answer, over the requests for one address."""

    p50: float
    p95: float


def contest(list_name: str) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """The slowest address of a list, with its 95th percentile and its median."""

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        with served(stage) as port:

            def slowest() -> Times:
                return max(measured(stage, port, list_name).values(), key=lambda times: times.p95)

            yield Contest(ours=lambda: slowest().p95, peer=lambda: slowest().p50)

    return prepare


@contextmanager
def served(stage: Stage) -> Iterator[int]:
    """The port of an API over large views."""
    port = free_port()
    with ExitStack() as undo:
        dsn = undo.enter_context(stage.database(migrated=True))
        crowd.fill(dsn)
        environment = {
            "DARKROOM_POSTGRES_DSN": dsn,
            "DARKROOM_NATS_URL": stage.servers.nats_url,
            "DARKROOM_DATA_DIR": str(stage.folder / "api"),
            "DARKROOM_ADMIN_TOKEN": TOKEN,
            "DARKROOM_PORT": str(port),
        }
        undo.enter_context(process(["api.cli", "run", "api"], environment))
        await_port(port)
        yield port


def measured(stage: Stage, port: int, list_name: str) -> dict[str, Times]:
    """Every address of a list by its name, one request after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        return {name: _asked(connection, path, stage.quick) for name, path in crowd.LISTS[list_name]}
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, path: str, quick: bool) -> Times:
    requests = QUICK_REQUESTS if quick else REQUESTS
    taken = sorted([_request_ms(connection, path) for _ in range(WARM_REQUESTS + requests)][WARM_REQUESTS:])
    return Times(p50=taken[requests // 2], p95=taken[requests * 95 // 100])


def _request_ms(connection: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise RuntimeError(f"{path} was answered with {response.status}.")
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Print the times of every address."""
    print("| list | asked | p50 ms | p95 ms |\n|---|---|---|---|")
    with stage(quick=False) as opened, served(opened) as port:
        for list_name in crowd.LISTS:
            for name, times in measured(opened, port, list_name).items():
                print(f"| {list_name} | {name} | {times.p50:.1f} | {times.p95:.1f} |", flush=True)
    return 0


PEER: Final = "its own median"
ENOUGH: Final = Target("ours", "≤", 50)
ROWS = [Row(f"list-{name}", "ms, p95 of the slowest question", PEER, ENOUGH, contest(name)) for name in crowd.LISTS]


if __name__ == "__main__":
    sys.exit(main())
