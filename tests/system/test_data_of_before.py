"""A data folder of the version before goes on in this one: it migrates by itself, and nothing of it is lost."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from projections import ALL
from services.database import Database
from services.embedded import EmbeddedServers
from services.embedded.postgres import _postgres_bin
from services.ledger.verification import verify_chain
from services.migrate import all_migrations
from services.views.rebuild import matches_ledger
from tests.services.older_backup import writing
from tests.system.installation import Installation

DATA = Path(__file__).parents[1] / "data_of_0_1"
FACTS: dict[str, Any] = json.loads((DATA / "facts.json").read_text())


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Running on a copy of the folder, without a worker."""
    top = Path(tempfile.mkdtemp(prefix="darkroom-before-"))
    folder = top / "data"
    try:
        with EmbeddedServers(folder) as servers:
            restore = [str(_postgres_bin() / "pg_restore"), "-d", servers.postgres_dsn, str(DATA / "postgres.dump")]
            # The roles are not in it, as in any dump: they are made again with the first start.
            assert b"role" in subprocess.run(restore, check=False, capture_output=True).stderr
        with tarfile.open(DATA / "blobs.tar") as files:
            files.extractall(folder, filter="data")
        shutil.rmtree(folder / "nats")
        with tarfile.open(DATA / "nats.tar.gz") as streams:
            streams.extractall(folder, filter="data")
        with Installation(folder, workers="none") as running:
            running.wait_until(lambda: is_up_to_date(running), 60)
            yield running
    finally:
        shutil.rmtree(top, ignore_errors=True)


def is_up_to_date(installation: Installation) -> bool:
    """Whether the projector has rebuilt the views that this version makes otherwise, and all are at the end."""
    head = "(select max(notification_id) from ledger)"
    at = installation.rows(f"select view, version, position = {head} from view_progress where slot = 'live'")
    wanted = {(view.name, view.version, True) for view in ALL}
    return wanted <= set(at)


def dsn_of(installation: Installation) -> str:
    return (installation.folder / "postgres.dsn").read_text().strip()


def test_it_is_migrated_by_itself_and_has_its_roles_again(installation: Installation) -> None:
    with psycopg.connect(dsn_of(installation)) as connection:
        applied = connection.execute("select count(*) from migrations").fetchone()
        assert applied == (len(all_migrations()),)
        assert connection.execute("select count(*) from epochs").fetchone() == (1,)
        assert connection.execute("select count(*) from ledger_stopped").fetchone() == (0,)


def test_the_ledger_and_every_view_are_as_computed_again(installation: Installation) -> None:
    dsn = dsn_of(installation)
    with writing(dsn) as ledger, Database(dsn) as database:
        verified = verify_chain(database)
        assert verified.misfit is None
        assert verified.events >= FACTS["head"]
        assert all(event.version for event in ledger.read(0, 10_000))
        for view in ALL:
            assert matches_ledger(database, ledger, view).same, view.name
        with database.connection() as connection:
            assert connection.execute("select count(*) from parked_events").fetchone() == (0,)


@pytest.mark.parametrize("name", [name for name in FACTS["jobs"] if name not in {"running", "waiting"}])
def test_every_job_is_as_it_was(installation: Installation, name: str) -> None:
    job = installation.job(FACTS["ids"][name])
    assert job["status"] == FACTS["jobs"][name]
    for asset in job["assets"]:
        if asset["status"] == "completed":
            assert len(installation.content(asset)) == asset["bytes"]


def test_what_its_owner_made_of_it_is_there(installation: Installation) -> None:
    saved = installation.request("GET", f"/v1/assets/{FACTS['saved']}").json()
    assert (saved["rating"], saved["saved"]) == (5, True)
    assert saved["thumbnail_url"]
    assert installation.request("GET", saved["thumbnail_url"]).status_code == 200
    library = installation.request("GET", "/v1/library").json()["results"]
    assert len(library) >= FACTS["library"]
    assert FACTS["trashed"] not in {asset["id"] for asset in library}
    for batch in FACTS["batches"]:
        assert installation.request("GET", f"/v1/batches/{batch}").status_code == 200
    assert len(installation.request("GET", "/v1/prompts").json()["results"]) == 1


def test_keys_work_and_a_revoked_one_does_not(installation: Installation) -> None:
    for name, status in (("ada", 200), ("bob", 401)):
        headers = {"Authorization": f"Bearer {FACTS[name]}"}
        path = f"{installation.url}/v1/jobs/{FACTS['ids']['of_ada']}"
        assert httpx.get(path, headers=headers, timeout=20).status_code == status


def test_a_new_job_is_taken_and_one_of_before_is_known_by_its_key(installation: Installation) -> None:
    assert installation.submit(prompt="a fox")["status"] == "queued"
    installation.wait_until(lambda: installation.request("GET", "/readyz").status_code == 200, 60, every_s=0.2)
    ended = subprocess.run(
        [sys.executable, "-m", "api.cli", "restored", "--data-dir", str(installation.folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout.partition(":")[0]) == (0, "Nothing to do"), ended.stderr
