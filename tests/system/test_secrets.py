"""No secret is in a process list, a log, an event, or what a program says of a bad setting or a wrong password."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from services.embedded import EmbeddedServers
from tests.system.installation import Installation, eventually

SECRET = "s3cr3t"


def secrets_of(installation: Installation) -> dict[str, str]:
    """What nobody but its own programs may read, by what it is for."""
    accounts = json.loads((installation.folder / "nats.conf").read_text())["accounts"]
    passwords = {user["user"]: user["password"] for account in accounts.values() for user in account["users"]}
    assert set(passwords) == {"darkroom", "services", "worker"}
    return {**passwords, "admin token": installation.token}


def said(installation: Installation) -> str:
    """Everything that was logged and printed. The link that signs a browser in holds a code, and is printed once."""
    files = [installation.log, *installation.folder.glob("*.log")]
    assert {"worker.log", "nats.log", "postgres.log"} <= {file.name for file in files}
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    assert len([line for line in lines if line.startswith("ready http")]) == 1
    return "\n".join(lines)


def test_up_shows_no_secret(make_installation: Callable[..., Installation]) -> None:
    with make_installation(DARKROOM_LOG_LEVEL="DEBUG") as running:
        worker = running.worker()
        job = running.done(running.submit())
        assert job["status"] == "succeeded"
        running.request("GET", "/v1/jobs", headers={"Authorization": "Bearer not-the-token"})
        hidden = secrets_of(running)
        shown = [" ".join(process.cmdline()) for process in running.tree()]
        assert any("nats-server" in line for line in shown)
        assert any("postgres" in line for line in shown)
        assert any("gpu_worker" in line for line in shown)
        events = running.rows("select convert_from(state, 'UTF8') from ledger")
        told = {"process list": "\n".join(shown), "logs": said(running), "events": str(events)}
        assert {where: what for where, text in told.items() for what, secret in hidden.items() if secret in text} == {}
        environment = "\n".join(worker.environ().values())
        assert hidden["worker"] in environment
        assert {what for what, secret in hidden.items() if secret in environment} == {"worker"}
        assert "postgres.dsn" not in environment
        assert (running.folder / "postgres.dsn").read_text().strip() not in environment


BAD_SETTINGS = {
    "DARKROOM_POSTGRES_DSN": (
        f"postgresql://ada:{SECRET}/{SECRET}@host/db",
        f"postgresql://ada:x@{SECRET}@host/db",
        f"host=host password=a {SECRET}",
        f"postgresql://ada:{SECRET}%zz@host/db",
    ),
    "DARKROOM_POSTGRES_API_DSN": (f"{SECRET} {SECRET}",),
    "DARKROOM_NATS_URL": (f"nats://ada:{SECRET}/{SECRET}@host", f"{SECRET}", f"http://ada:{SECRET}@host"),
    "DARKROOM_ADMIN_TOKEN": (SECRET,),
}


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in BAD_SETTINGS.items() for value in values]
)
def test_a_bad_setting_is_one_line_that_does_not_repeat_it(variable: str, value: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "api.cli", "run", "relay"],
        env={**os.environ, "DARKROOM_DATA_DIR": str(tmp_path), variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert variable in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert SECRET not in ended.stdout + ended.stderr


@contextmanager
def a_role_with_a_password(servers: EmbeddedServers) -> Iterator[str]:
    """The name of a user from which Postgres wants a password: the bundled server trusts all others."""
    name = f"locked_{secrets.token_hex(4)}"
    with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
        row = connection.execute("select current_setting('hba_file')").fetchone()
        assert row is not None
        rules = Path(row[0])
        before = rules.read_text()
        connection.execute(f"create role {name} login password '{secrets.token_urlsafe(24)}'".encode())
        rules.write_text(f"local all {name} scram-sha-256\n{before}")
        connection.execute("select pg_reload_conf()")
        try:
            yield name
        finally:
            rules.write_text(before)
            connection.execute("select pg_reload_conf()")
            connection.execute(f"drop role {name}".encode())


@pytest.mark.parametrize("program", ["api", "relay", "worker"])
def test_a_wrong_password_is_reported_without_it(
    program: str, servers: EmbeddedServers, dsn: str, tmp_path: Path
) -> None:
    server = servers.worker_nats_url.rpartition("@")[2]
    log = tmp_path / "program.log"
    with a_role_with_a_password(servers) as locked:
        environment = {
            **os.environ,
            "DARKROOM_POSTGRES_DSN": make_conninfo(dsn, user=locked, password=SECRET),
            "DARKROOM_NATS_URL": f"nats://worker:{SECRET}@{server}",
            "DARKROOM_ADMIN_TOKEN": "a-token-of-this-test-alone",
            "DARKROOM_DATA_DIR": str(tmp_path),
            "DARKROOM_PORT": "0",
            "DARKROOM_LOG_LEVEL": "DEBUG",
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "run", program], env=environment, stdout=out, stderr=out
            )
        try:
            words = "authorization violation" if program == "worker" else "refuses the user or the password"
            eventually(lambda: words in log.read_text().lower(), 60, log.read_text)
            if program == "api":
                eventually(lambda: "Postgres did not answer" in log.read_text(), 60, log.read_text)
        finally:
            process.kill()
            process.wait(20)
    assert SECRET not in log.read_text()


def test_what_up_keeps_is_closed_to_others(make_installation: Callable[..., Installation]) -> None:
    running = make_installation()
    folder = running.folder
    with running:
        pass
    (folder / "blobs").mkdir(exist_ok=True)
    for left_open in (folder, folder / "blobs"):  # as earlier versions made them
        left_open.chmod(0o755)
    with running:
        assert running.done(running.submit())["status"] == "succeeded"
        assert (folder.stat().st_mode & 0o777, (folder / "blobs").stat().st_mode & 0o777) == (0o700, 0o700)
        files = [file for file in (folder / "blobs").rglob("*") if file.is_file()]
        assert files
        mine = [*files, *(file for file in folder.iterdir() if file.is_file())]
        assert {file.name: oct(file.stat().st_mode) for file in mine if file.stat().st_mode & 0o077} == {}
