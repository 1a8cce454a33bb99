"""`darkroom doctor` next to a running Darkroom, and after that was killed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

from tests.system.installation import Installation


def examined(running: Installation) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and what was found by check."""
    command = [sys.executable, "-m", "api.cli", "doctor", "--json", "--data-dir", str(running.folder)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean, check=False)
    return ended.returncode, {one["check"]: one for one in json.loads(ended.stdout)}


def test_a_darkroom_that_runs_is_well_and_one_that_was_killed_is_not(
    make_installation: Callable[..., Installation],
) -> None:
    with make_installation(workers="none") as running:
        running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 30)
        status, found = examined(running)
        (alone,) = [one for one in found.values() if one["status"] == "fault"]
        assert (alone["check"], alone["what"]) == ("queue", "No worker runs: jobs are accepted and wait.")  # as asked
        assert [name for name, one in found.items() if one["status"] == "skipped"] == ["nats"]
        assert status == 1
        running.kill()
        status, found = examined(running)
        assert status == 1
        faults = {name for name, one in found.items() if one["status"] == "fault"}
        assert faults == {
            "left over",
            "postgres",
            "schema",
            "clock",
            "api role",
            "views",
            "queue",
            "services",
            "ledger",
            "api",
        }
        assert "darkroom up" in found["left over"]["remedy"]
        running.start()
        running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 30)
        assert [name for name, one in examined(running)[1].items() if one["status"] == "fault"] == ["queue"]
