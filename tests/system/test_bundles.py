"""A job goes with its pictures from one running Darkroom to another, by the commands alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.installation import Installation

pytestmark = pytest.mark.slow


def darkroom(place: Installation, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command on the place's data folder, as a person would."""
    command = [sys.executable, "-m", "api.cli", *map(str, arguments), "--data-dir", str(place.folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)


def test_a_finished_job_goes_to_another_installation_and_is_the_same_there(
    make_installation: Callable[..., Installation], tmp_path: Path
) -> None:
    with make_installation() as here, make_installation() as there:
        first = here.done(here.submit(quantity=1, seed=7))
        job = here.done(here.submit(quantity=1, references=[
            {"type": "composition", "source": f"asset:{first['assets'][0]['id']}", "strength": 0.6}
        ]))  # fmt: skip
        here.wait_until(lambda: here.job(job["id"])["assets"][0]["thumbnail_url"] is not None, 30)
        file = tmp_path / "job.zip"

        exported = darkroom(here, "export", job["id"], file, "--json")
        assert exported.returncode == 0, exported.stderr
        imported = darkroom(there, "import", file, "--json")
        assert imported.returncode == 0, imported.stderr
        done = json.loads(imported.stdout)
        assert done["checksum"] == json.loads(exported.stdout)["checksum"]
        assert done["manifest"]["jobs"] == 2

        there.wait_until(lambda: there.request("GET", f"/v1/jobs/{job['id']}").status_code == 200, 20)
        for job_id in (first["id"], job["id"]):
            ours, theirs = here.job_when(job_id, "succeeded"), there.job_when(job_id, "succeeded")
            assert theirs["assets"][0]["sha256"] == ours["assets"][0]["sha256"]
            assert there.content(theirs["assets"][0]) == here.content(ours["assets"][0])
            assert [event["type"] for event in there.history(job_id)] == [
                event["type"] for event in here.history(job_id)
            ]

        again = darkroom(there, "import", file)
        assert (again.returncode, again.stdout.split(",")[0]) == (0, "already here")
        assert there.rows("select max(notification_id) from ledger") == [(done["position"],)]
        verified = darkroom(there, "verify")
        assert verified.returncode == 0, verified.stdout
        # what was imported goes on: another job starts from it
        child = there.done(there.submit(quantity=1, references=[
            {"type": "composition", "source": f"asset:{job['assets'][0]['id']}", "strength": 0.5}
        ]))  # fmt: skip
        assert child["status"] == "succeeded"
