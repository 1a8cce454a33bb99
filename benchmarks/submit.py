"""Submissions over HTTP: one API process, 40 clients in another, each answer sent after the commit."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from subprocess import PIPE
from typing import Final

from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage

CLIENTS: Final = 40
TOKEN: Final = "benchmark-token-0123456789"
READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 15.0


def contest(*, projector: bool) -> Callable[[Stage], AbstractContextManager[Contest]]:
    """Both servers run all the while; the one that is not measured is idle."""

    @contextmanager
    def prepare(stage: Stage) -> Iterator[Contest]:
        ours, bare = free_port(), free_port()
        with ExitStack() as undo:
            environment = {
                "DARKROOM_POSTGRES_DSN": undo.enter_context(stage.database(migrated=True)),
                "DARKROOM_NATS_URL": stage.servers.nats_url,
                "DARKROOM_DATA_DIR": str(stage.folder / "api"),
                "DARKROOM_ADMIN_TOKEN": TOKEN,
                "DARKROOM_PORT": str(ours),
            }
            undo.enter_context(process(["api.cli", "run", "api"], environment))
            if projector:
                undo.enter_context(process(["api.cli", "run", "projector"], environment))
            undo.enter_context(process(["benchmarks.bare", str(bare)], {}))
            for port in (ours, bare):
                await_port(port)
            yield Contest(ours=lambda: posted(ours, stage.seconds), peer=lambda: posted(bare, stage.seconds))

    return prepare


def posted(port: int, seconds: float) -> float:
    """Accepted submissions a second."""
    command = [sys.executable, "-m", "benchmarks.load", "127.0.0.1", str(port), "/v1/jobs", TOKEN, str(CLIENTS)]
    printed = subprocess.run(
        [*command, str(seconds)], check=True, stdout=PIPE, text=True, timeout=2 * seconds + READY_S_MAX
    ).stdout
    seen = json.loads(printed)
    if seen["refused"]:
        raise RuntimeError(f"{seen['refused']} submissions were not accepted.")
    return float(seen["rate"])


@contextmanager
def process(module: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """A Python module as a process of its own."""
    child = subprocess.Popen([sys.executable, "-m", *module], env={**os.environ, **environment}, stdout=sys.stderr)
    try:
        yield
    finally:
        child.terminate()
        child.wait(STOP_S_MAX)


def await_port(port: int) -> None:
    """Return when somebody listens there."""
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


PEER = "bare FastAPI, no database"
ENOUGH = Target("ours", "≥", 1_200)
ROWS = [
    Row("submit-http", "jobs/s, 40 clients, projector not running", PEER, ENOUGH, contest(projector=False)),
    Row("submit-http-projected", "jobs/s, 40 clients, projector running", PEER, ENOUGH, contest(projector=True)),
]
