"""No lock is held for longer than its bound, whoever is stopped while holding it: by processes that are stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from services.bundle import intake
from services.database import Unavailable
from services.ledger.flusher import Flusher
from tests.services.commits import appends_held_up, opening

STOPPED_IN_AN_IMPORT = """
import os, signal, sys
from services.bundle import intake
from services.database import Database
intake.HELD_IDLE_MS_MAX = 1_000
with Database(sys.argv[1]) as database, database.transaction() as connection:
    intake.hold_ledger(connection)
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    connection.execute("select 1")
"""


@contextmanager
def stopped(program: str, dsn: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that stopped itself in the middle of something."""
    process = subprocess.Popen([sys.executable, "-c", program, dsn], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def test_an_import_that_is_stopped_loses_the_ledger_and_keeps_nothing(dsn: str, flusher: Flusher) -> None:
    with stopped(STOPPED_IN_AN_IMPORT, dsn) as process:
        assert flusher.append(opening()).result(timeout=60).first_position == 1
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(60) != 0  # what it holds now is nothing


def test_a_writer_hears_that_the_ledger_is_held_instead_of_waiting_on(dsn: str, flusher: Flusher) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter function ledger_append set lock_timeout = '100ms'")  # the same, for the impatient
    with appends_held_up(dsn), pytest.raises(Unavailable, match="holds a lock") as refused:
        flusher.append(opening()).result(timeout=60)
    assert refused.value.reason == "locked"
    assert flusher.append(opening()).result(timeout=60).first_position == 1


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_the_bounds_of_an_import_end_with_its_transaction(dsn: str, setting: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.transaction():
            intake.hold_ledger(connection)
            assert connection.execute(f"show {setting}").fetchone() != ("0",)
        assert connection.execute(f"show {setting}").fetchone() == ("0",)
