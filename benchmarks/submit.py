"""Submissions over HTTP: one API process, 40 clients in another, each answer sent after the commit."""

import http.client
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


@contextmanager
def batches(stage: Stage) -> Iterator[Contest]:
    """The API, and the projector; each measurement opens another batch."""
    port = free_port()
    environment = {
        "DARKROOM_NATS_URL": stage.servers.nats_url,
        "DARKROOM_DATA_DIR": str(stage.folder / "api"),
        "DARKROOM_ADMIN_TOKEN": TOKEN,
        "DARKROOM_PORT": str(port),
    }
    with ExitStack() as undo:
        environment["DARKROOM_POSTGRES_DSN"] = undo.enter_context(stage.database(migrated=True))
        for service in ("api", "projector"):
            undo.enter_context(process(["api.cli", "run", service], environment))
        await_ready(port)
        yield Contest(ours=lambda: seconds_of_a_batch(port), peer=None)


def seconds_of_a_batch(port: int) -> float:
    """From the first byte of a batch's body to the last one of its answer."""
    item = {"job_type": "sdxl_image_fast", "prompt": "a lighthouse on a cliff at dusk, warm light", "quantity": 3}
    items = [{"template": f"Template {number}", **item} for number in range(ITEMS)]
    body = json.dumps({"name": "Lighthouses", "collection": "Autumn", "items": items})
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S_MAX)
    began = time.perf_counter()
    connection.request("POST", "/v1/batches", body, headers)
    response = connection.getresponse()
    answered = json.loads(response.read())
    took = time.perf_counter() - began
    connection.close()
    if response.status != 202 or answered["counts"]["queued"] != ITEMS:
        raise RuntimeError(f"A batch was answered with {response.status}: {answered.get('detail')}")
    return took


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


def await_ready(port: int) -> None:
    """Return when the API there can do its work: NATS may come a moment after it listens."""
    await_port(port)
    deadline = time.monotonic() + READY_S_MAX
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S_MAX)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"The API is not ready: /readyz answers {status}.")
        time.sleep(0.05)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


ITEMS = 1_000
PEER = "bare FastAPI, no database"
ENOUGH = Target("ours", "≥", 1_200)
ROWS = [
    Row("submit-http", "jobs/s, 40 clients, projector not running", PEER, ENOUGH, contest(projector=False)),
    Row("submit-http-projected", "jobs/s, 40 clients, projector running", PEER, ENOUGH, contest(projector=True)),
    Row("submit-batch", "s, 1,000 items of three images in one request", "—", Target("ours", "≤", 3), batches),
]
