"""Another user's waiting time while somebody attacks: the API and everything around it as `darkroom up` starts them.

Each attack runs in a process of its own. In quiet is measured once all that followed from the last attack is done.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from statistics import quantiles
from subprocess import DEVNULL, PIPE
from typing import Final
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from benchmarks.attackers import ATTACKS, JOB
from benchmarks.contest import Contest, Row, Target
from benchmarks.stage import Stage
from benchmarks.submit import free_port

STOP_S_MAX: Final = 60.0
SETTLE_S: Final = 3.0
"""So long an attack runs before another user is measured: its connections are open, its first requests in work."""

PAUSE_S: Final = 0.02
"""Between two requests of the other user, who stays below the rate that one owner has."""

CALM_S_MAX: Final = 120.0
"""What followed from an attack is done by then: views, broadcast, files."""

CALM_CPU_SHARE: Final = 0.05
"""Of one processor. An installation that does less does nothing but look whether there is something to do."""


@contextmanager
def contest(attack: str, stage: Stage) -> Iterator[Contest]:
    """An installation with two users: one attacks, and one is measured, before and during the attack."""
    folder = stage.folder / "attacked"
    environment = {**os.environ, "DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": str(free_port())}
    command = [sys.executable, "-m", "api.cli"]
    with subprocess.Popen([*command, "up", "--workers", "none"], env=environment, stdout=PIPE, stderr=DEVNULL) as up:
        try:
            if up.stdout is None or not up.stdout.readline().startswith(b"ready"):
                raise RuntimeError("Darkroom did not start.")
            url = (folder / "url").read_text().strip()
            names = [f"{name}-{time.time_ns()}" for name in ("other", "attacker")]
            tokens = [_token_of(command, environment, name) for name in names]
            requests = 40 if stage.quick else 200

            def in_quiet() -> float:
                _until_calm(up.pid)
                return p95_ms(url, tokens[0], requests)

            yield Contest(ours=lambda: _under_attack(attack, url, tokens, requests), peer=in_quiet)
        finally:
            up.terminate()
            up.communicate(timeout=STOP_S_MAX)


def p95_ms(url: str, token: str, requests: int) -> float:
    """The 95th percentile of one user's submissions and readings, each over a connection of its own."""
    spent = []
    for number in range(requests):
        began = time.perf_counter()
        client = HTTPConnection(urlsplit(url).netloc, timeout=STOP_S_MAX)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if number % 2:
            client.request("GET", "/v1/models", headers=headers)
        else:
            client.request("POST", "/v1/jobs", json.dumps(JOB), headers)
        answer = client.getresponse()
        answer.read()
        client.close()
        if answer.status not in {200, 202}:
            raise RuntimeError(f"The other user was answered {answer.status}.")
        spent.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_S)
    return quantiles(spent, n=20)[-1]


def _under_attack(attack: str, url: str, tokens: list[str], requests: int) -> float:
    command = [sys.executable, "-m", "benchmarks.attackers", attack, url, tokens[1]]
    with subprocess.Popen(command, stdout=PIPE) as attacking:
        try:
            time.sleep(SETTLE_S)
            return p95_ms(url, tokens[0], requests)
        finally:
            ended = attacking.poll()
            attacking.kill()
            if ended is not None:
                raise RuntimeError(f"The attack ended by itself, with status {ended}.")


def _until_calm(pid: int) -> None:
    """Return when the installation of this process has computed next to nothing for two seconds."""
    until_s, calm_s = time.monotonic() + CALM_S_MAX, 0.0
    while calm_s < 2 and time.monotonic() < until_s:
        before_s = _computed_s(pid)
        time.sleep(0.5)
        calm_s = calm_s + 0.5 if _computed_s(pid) - before_s < 0.5 * CALM_CPU_SHARE else 0.0


def _computed_s(pid: int) -> float:
    """Seconds of processor time that a process and its descendants have taken."""
    top = psutil.Process(pid)
    spent = 0.0
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


def _token_of(command: list[str], environment: dict[str, str], name: str) -> str:
    said = subprocess.run([*command, "users", "add", name], env=environment, stdout=PIPE, text=True, check=True)
    return next(word for word in said.stdout.split() if word.startswith("dk_"))


ROWS = [
    Row(
        f"attack-{name}",
        "ms, p95 of another user",
        "the same in quiet",
        Target("ratio", "≤", 3),
        partial(contest, name),
    )
    for name in ATTACKS
]
