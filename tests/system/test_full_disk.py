"""A disk without a byte left: Darkroom says so, loses nothing that it accepted, and goes on once there is room."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from tests.system.installation import Installation

pytestmark = pytest.mark.slow

DISK_MIB = 500
PIECE = b"." * 64 * 1024
LONG_PROMPT = "a lighthouse in fog, " * 400
JOBS_MAX = 5_000


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory."""
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs Linux and mount")
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "tmpfs", str(folder)]
    if (mounted := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_is_said_and_costs_no_accepted_job(small_disk: Path, tmp_path: Path) -> None:
    running = Installation(small_disk / "data", workers="none")
    running.log = tmp_path / "up.log"
    with running:
        accepted = [running.submit(prompt="before")["id"]]
        fill(small_disk / "filler")
        filling, refused_as = submit_until_refused(running)
        accepted += filling
        running.wait_until(lambda: "disk_full" in not_ready(running), 60)
        assert "FAULT    disk" in doctor(running)
        (small_disk / "filler").unlink()
        running.wait_until(lambda: running.request("GET", "/readyz").status_code == 200, 120)
        accepted.append(running.submit(prompt="after")["id"])
        rows = running.rows("select originator_id::text from ledger where topic like 'job.queued%'")
        unsure = {job_id for (job_id,) in rows} - set(accepted)
        assert len(rows) == len(accepted) + len(unsure)
        assert len(unsure) <= (refused_as == "outcome_unknown")
        darkroom(running, "verify", check=True)


def fill(file: Path) -> None:
    """Write until the disk takes no further byte."""
    with file.open("wb", buffering=0) as opened:
        for piece in (PIECE, b"."):
            with pytest.raises(OSError, match="No space left"):
                write_for_ever(opened, piece)


def write_for_ever(opened: FileIO, piece: bytes) -> None:
    while True:
        opened.write(piece)


def submit_until_refused(running: Installation) -> tuple[list[str], str]:
    """The jobs that were accepted until one was refused, and the code of that refusal."""
    accepted: list[str] = []
    for _ in range(JOBS_MAX):
        answer = running.request("POST", "/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": LONG_PROMPT})
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            return accepted, answer.json()["code"]
        accepted.append(answer.json()["id"])
    raise AssertionError("the disk never became full")


def not_ready(running: Installation) -> str:
    """What `/readyz` says against serving."""
    answer = running.request("GET", "/readyz")
    return answer.text if answer.status_code == 503 else ""


def doctor(running: Installation) -> str:
    """What `darkroom doctor` prints."""
    return darkroom(running, "doctor", check=False)


def darkroom(running: Installation, *arguments: str, check: bool) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    command = [sys.executable, "-m", "api.cli", *arguments, "--data-dir", str(running.folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, env=clean, check=check).stdout
