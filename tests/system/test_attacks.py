"""Whatever one user does, another user and health checks are answered all the time. Bounds are far above what is usual
(tens of milliseconds, on a busy machine hundreds): each was broken by an attack before it was bounded."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import httpx
import psycopg
import pytest

from benchmarks.attackers import ATTACKS, JOB
from services import users
from tests.system.installation import Installation

pytestmark = pytest.mark.timeout(300)

ATTACK_S = 3.0
"""How long another user asks meanwhile, once the attack is on its way."""

ASKED_MIN = 4
"""Rounds of requests, if they are slow."""

USUAL_MS_MAX = 1_500.0
"""Nine requests of ten."""

ANSWER_S_MAX = 15.0
"""Each of them."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without workers."""
    with Installation(tmp_path_factory.mktemp("attacked") / "data", workers="none") as running:
        yield running


def key_of(running: Installation, name: str) -> str:
    """A new user's key."""
    dsn = (running.folder / "postgres.dsn").read_text().strip()
    with psycopg.connect(dsn, autocommit=True) as connection:
        return users.add(connection, name).key


@contextmanager
def attacking(running: Installation, attack: str, key: str) -> Iterator[None]:
    """Another process attacks while the block runs."""
    command = [sys.executable, "-m", "benchmarks.attackers", attack, running.url, key]
    folder = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"attacking\n"
            yield
            assert attacker.poll() is None, "the attack ended by itself"
        finally:
            attacker.kill()


def asked(running: Installation, key: str) -> list[float]:
    """Milliseconds that another user's requests take, each over a connection of its own."""
    calls: list[Callable[[httpx.Client], httpx.Response]] = [
        lambda client: client.post("/v1/jobs", json=JOB),
        lambda client: client.get("/v1/models"),
        lambda client: client.get("/readyz", headers={"Authorization": ""}),
    ]
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    with httpx.Client(
        base_url=running.url, headers=headers, timeout=ANSWER_S_MAX, trust_env=False, verify=False
    ) as client:
        return spent_on(client, calls)


def spent_on(client: httpx.Client, calls: Sequence[Callable[[httpx.Client], httpx.Response]]) -> list[float]:
    """Milliseconds of each call, in turn."""
    spent: list[float] = []
    began_s = time.monotonic()
    while time.monotonic() - began_s < ATTACK_S or len(spent) < len(calls) * ASKED_MIN:
        for call in calls:
            at_s = time.perf_counter()
            answer = call(client)
            spent.append((time.perf_counter() - at_s) * 1000)
            assert answer.status_code in {200, 202}, answer.text
    return spent


@pytest.mark.parametrize("attack", ATTACKS)
def test_another_user_is_served_under_attack(served: Installation, attack: str) -> None:
    other, attacker = key_of(served, f"other-{attack}"), key_of(served, f"attacker-{attack}")
    with attacking(served, attack, attacker):
        spent = asked(served, other)
    assert quantiles(spent, n=10)[-1] < USUAL_MS_MAX, sorted(spent)
