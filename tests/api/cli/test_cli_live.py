"""The `darkroom` command against a whole running Darkroom, worker and model included."""

import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from domain.recipes.recipe import Kind
from domain.wording.enhancement import RULES, enhance
from tests.services.media_files import encoded, picture, video

ROOT = Path(__file__).parents[3]
LARGE = ("--set", "width=512", "--set", "height=512")
"""So large that the job runs for long: the demo model is fast."""

TYPES_OF_BOTH = ("sdxl_image_fast", "video_fast")


def command(*arguments: str) -> list[str]:
    """The command of this checkout."""
    return [sys.executable, "-m", "api.cli", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """No setting but the data folder; this checkout, installed or not."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "COLUMNS"))}
    return own | {"PYTHONPATH": str(ROOT), "DARKROOM_DATA_DIR": str(folder)}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The data folder of a Darkroom that runs as long as the module's tests do, and then stops when interrupted."""
    data_dir = Path(tempfile.mkdtemp(prefix="darkroom-"))
    try:
        with (data_dir / "up.log").open("wb") as log:
            up = subprocess.Popen(
                command("up", "--port", "0"),
                cwd=ROOT,
                env=environment(data_dir),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert up.stdout is not None
        with up.stdout as said:
            line = said.readline()
            if "ready" not in line:
                up.kill()
                pytest.fail(f"{line}{(data_dir / 'up.log').read_text('utf-8')}")
            yield data_dir
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def darkroom(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command on the data folder."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(folder: Path, *arguments: str) -> Any:
    """The JSON that a command prints."""
    done = darkroom(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict[str, Any]:
    """A job of three images that was watched to its end."""
    job: dict[str, Any] = answer(
        folder, "submit", "a lighthouse [bold]at dusk[/bold]", "--quantity", "3", "--seed", "7", "--set", "steps=4",
        "--negative", "fog", "--priority", "2", "--watch",
    )  # fmt: skip
    return job


def test_a_watched_job_is_the_one_that_was_asked_for(finished: dict[str, Any]) -> None:
    assert finished["status"] == "succeeded"
    assert finished["prompt"] == "a lighthouse [bold]at dusk[/bold]"
    assert finished["negative_prompt"] == "fog"
    assert finished["params"]["steps"] == 4
    assert finished["priority"] == 2
    assert [(asset["index"], asset["seed"], asset["status"]) for asset in finished["assets"]] == [
        (0, 7, "completed"),
        (1, 8, "completed"),
        (2, 9, "completed"),
    ]


def test_a_prompt_is_made_richer_without_a_job(folder: Path) -> None:
    done = darkroom(folder, "enhance", "a lighthouse")
    assert done.returncode == 0, done.stderr
    assert done.stdout == enhance("a lighthouse", Kind.IMAGE) + "\n"
    assert done.stderr == f"by {RULES}\n"
    made = answer(folder, "enhance", "a lighthouse", "--type", "sdxl_image_high")
    assert (made["original"], made["job_type"], made["enhancer"]) == ("a lighthouse", "sdxl_image_high", RULES)
    refused = darkroom(folder, "enhance", "a lighthouse", "--type", "flux")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "sdxl_image_fast" in refused.stderr


def test_a_job_like_a_finished_one_makes_the_same_pictures(folder: Path, finished: dict[str, Any]) -> None:
    done = darkroom(folder, "submit", "--like", finished["id"], "--watch", "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert (again["status"], again["parent_id"]) == ("succeeded", finished["id"])
    pixels = [
        {
            event["data"]["pixels_sha256"]
            for event in answer(folder, "history", job["id"])
            if event["type"] == "asset.completed"
        }
        for job in (finished, again)
    ]
    assert pixels[0] == pixels[1]
    assert len(pixels[0]) == 3


def test_without_a_terminal_watch_writes_lines_and_local_paths(folder: Path) -> None:
    done = darkroom(folder, "submit", "a red barn", "--set", "steps=4", "--watch")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"job [0-9a-f-]{36}", lines[0])
    assert "\x1b" not in done.stdout
    assert lines[-2] == "succeeded"
    file = Path(lines[-1])
    assert file.is_relative_to(folder / "blobs")
    assert file.read_bytes().startswith(b"\x89PNG")


def test_what_a_demo_model_can_draw_is_said_once(folder: Path) -> None:
    key = ("--token", darkroom(folder, "users", "add", "newcomer").stdout.strip())
    still, moving = (darkroom(folder, "submit", "a lighthouse", "--type", name, *key) for name in TYPES_OF_BOTH)
    assert "darkroom: the model sdxl-demo draws one to three flat shapes (circle, square" in still.stderr
    assert "darkroom: the model wan-demo draws a flat shape" in moving.stderr
    assert [darkroom(folder, "submit", "a door", "--type", name, *key).stderr for name in TYPES_OF_BOTH] == ["", ""]


def test_references_and_media_of_this_machine_are_uploaded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fog.png").write_bytes(encoded(picture()))
    asked = ("submit", "a red circle", "--reference", f"composition={tmp_path / 'fog.png'}@0.9")
    job = answer(folder, *asked)
    (reference,) = job["references"]
    assert (job["task"], reference["type"], reference["strength"]) == ("i2i", "composition", 0.9)
    media = answer(folder, "upload", str(tmp_path / "fog.png"))
    assert reference["source"] == f"media:{media['id']}"
    moving = answer(
        folder, "submit", "a red circle moving up", "--type", "video_fast", "--image", str(tmp_path / "fog.png")
    )
    assert (moving["task"], moving["media"]) == ("i2v", {"image": f"media:{media['id']}"})


@pytest.mark.parametrize("reference", ["fog.png", "style=", "=fog.png"])
def test_a_reference_that_makes_no_sense_is_bad_usage(folder: Path, reference: str) -> None:
    refused = darkroom(folder, "submit", "a red circle", "--reference", reference)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "TYPE=FILE[@STRENGTH]" in refused.stderr


def test_on_a_terminal_watch_draws_a_bar(folder: Path) -> None:
    reader, terminal = pty.openpty()
    try:
        watching = subprocess.Popen(
            command("submit", "a blue boat", "--set", "steps=40", "--watch"),
            cwd=ROOT,
            env=environment(folder) | {"TERM": "xterm-256color", "COLUMNS": "300"},
            stdout=terminal,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(terminal)
    shown = read_terminal(reader)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 0, said
    assert "━" in shown
    assert "40/40" in shown  # progress is lossy, the end is not
    assert "succeeded" in shown
    assert ".png" in shown


def read_terminal(reader: int) -> str:
    """Everything that was written to a terminal until its last writer is gone, two minutes at most."""
    deadline = time.monotonic() + 120
    content = b""
    try:
        while time.monotonic() < deadline:
            if select.select([reader], [], [], 1.0)[0]:
                chunk = os.read(reader, 65_536)
                if not chunk:
                    break
                content += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(reader)
    return content.decode("utf-8", "replace")


def test_out_downloads_the_files_with_the_hashes_of_the_ledger(folder: Path, tmp_path: Path) -> None:
    job = answer(folder, "submit", "a green hill", "--quantity", "3", "--set", "steps=2", "--out", str(tmp_path / "x"))
    files = sorted((tmp_path / "x").iterdir())
    assert [file.name for file in files] == [f"{job['id']}_{index}.png" for index in range(3)]
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == [
        asset["sha256"] for asset in job["assets"]
    ]


def test_history_tells_everything_in_ledger_order(folder: Path, finished: dict[str, Any]) -> None:
    events = answer(folder, "history", finished["id"])
    # Thumbnails come when they are ready, also between the others.
    assert [event["type"] for event in events if event["type"] != "asset.thumbnailed"] == [
        "job.queued",
        *["asset.reserved"] * 3,
        "job.started",
        *["asset.completed"] * 3,
        "job.succeeded",
    ]
    positions = [event["position"] for event in events]
    assert positions == sorted(positions)
    table = darkroom(folder, "history", finished["id"])
    assert table.returncode == 0, table.stderr
    assert "sdxl_image_fast x 3: a lighthouse [bold]at dusk[/bold]" in table.stdout
    assert "index 2, seed 9" in table.stdout
    assert "image/png, 128 x 128" in table.stdout


def test_show_says_where_the_files_are(folder: Path, finished: dict[str, Any]) -> None:
    shown = darkroom(folder, "show", finished["id"])
    assert shown.returncode == 0, shown.stderr
    assert "succeeded" in shown.stdout
    files = re.findall(r"^  [012]  [0-9a-f-]{36}  (/.+)$", shown.stdout, re.MULTILINE)
    assert [Path(file).name for file in files] == [f"{finished['id']}_{index}.png" for index in range(3)]
    assert answer(folder, "show", finished["id"])["id"] == finished["id"]


def test_jobs_lists_the_newest_first_and_no_more_than_asked(folder: Path, finished: dict[str, Any]) -> None:
    submitted = answer(folder, "submit", "a yellow door", "--set", "steps=1")
    listed = answer(folder, "jobs", "--limit", "1")
    assert [job["id"] for job in listed] == [submitted["id"]]
    table = darkroom(folder, "jobs")
    assert table.returncode == 0, table.stderr
    assert finished["id"] in table.stdout
    assert "3/3" in table.stdout


def test_what_the_server_refuses_is_one_line_with_the_field(folder: Path) -> None:
    refused = darkroom(folder, "submit", "a cat", "--quantity", "2", "--set", "stairs=3")
    assert refused.returncode == 1
    assert "quantity" in refused.stderr
    assert "1, 3, 6" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["show", "history", "cancel", "retry"])
def test_an_unknown_job_is_one_line(folder: Path, name: str) -> None:
    unknown = str(uuid4())
    refused = darkroom(folder, name, unknown)
    assert refused.returncode == 1
    assert unknown in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_wrong_token_is_one_line(folder: Path) -> None:
    refused = darkroom(folder, "jobs", "--token", "not-the-token-of-this-server")
    assert refused.returncode == 1
    assert "does not accept the token" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_finished_job_has_nothing_to_cancel_or_retry(folder: Path, finished: dict[str, Any]) -> None:
    assert "had ended already" in darkroom(folder, "cancel", finished["id"]).stdout
    refused = darkroom(folder, "retry", finished["id"])
    assert refused.returncode == 1
    assert "nothing to retry" in refused.stderr


def test_an_interrupted_watch_leaves_the_job_running(folder: Path) -> None:
    watching = subprocess.Popen(
        command("submit", "a long corridor", "--quantity", "6", "--set", "steps=100", *LARGE, "--watch"),
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    job_id = watching.stdout.readline().removeprefix("job ").strip()
    watching.send_signal(signal.SIGINT)
    try:
        _, said = watching.communicate(timeout=60)
    finally:
        watching.kill()  # one that hangs is this test's failure, and not the next one's as well
        watching.wait()
    assert watching.returncode == 130
    assert f"darkroom watch {job_id}" in said
    assert "Traceback" not in said
    assert answer(folder, "show", job_id)["status"] in {"queued", "processing"}
    canceled = darkroom(folder, "cancel", job_id)
    assert canceled.returncode == 0
    assert job_id in canceled.stdout
    deadline = time.monotonic() + 60
    while answer(folder, "show", job_id)["status"] != "canceled":
        assert time.monotonic() < deadline
    again = answer(folder, "retry", job_id)
    assert again["id"] != job_id
    assert again["prompt"] == "a long corridor"
    assert darkroom(folder, "cancel", again["id"]).returncode == 0


def test_the_ledger_verifies_and_its_views_can_be_rebuilt_meanwhile(folder: Path, finished: dict[str, Any]) -> None:
    rebuilt = darkroom(folder, "rebuild", "--all")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert len(re.findall(r"events/s\); checksum \S+, as before", rebuilt.stdout)) >= 4
    back_then = darkroom(folder, "rebuild", "library", "--as-of", "1")
    assert back_then.returncode == 0, back_then.stderr
    assert "library: 3 rows from 1 events" in back_then.stdout  # reserved: the first job had three outputs
    too_far = darkroom(folder, "rebuild", "library", "--as-of", "1000000000")
    assert too_far.returncode == 1
    assert too_far.stderr.count("\n") == 1
    verified = darkroom(folder, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert answer(folder, "show", finished["id"])["status"] == "succeeded"


def test_an_upload_says_what_it_is_and_how_to_use_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fog.txt").write_bytes(encoded(picture()))
    done = darkroom(folder, "upload", str(tmp_path / "fog.txt"))
    assert done.returncode == 0, done.stderr
    media = answer(folder, "upload", str(tmp_path / "fog.txt"))
    lines = done.stdout.splitlines()
    assert lines[0] == f"{media['id']}  image/png, 64 x 48, {media['bytes']:,} bytes"
    assert f"--reference composition=media:{media['id']}" in lines[1]
    assert (folder / "blobs" / "uploads" / "admin" / f"{media['sha256']}.png").read_bytes() == encoded(picture())
    (tmp_path / "clip.mp4").write_bytes(video(frames=3))
    assert "--video media:" in darkroom(folder, "upload", str(tmp_path / "clip.mp4")).stdout
    for command_line in (["rebuild", "--all"], ["verify"]):
        done = darkroom(folder, *command_line)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [("fog.png", "PNG, JPEG"), ("none.png", "No such file"), (".", "directory"), ("large.png", "67108864")],
)
def test_what_cannot_be_uploaded_is_one_line(folder: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "fog.png").write_text("a text")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(65 * 1024**2)
    refused = darkroom(folder, "upload", str(tmp_path / name))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert words in refused.stderr


def test_an_unknown_view_is_bad_usage(folder: Path) -> None:
    refused = darkroom(folder, "rebuild", "gallery")
    assert refused.returncode == 2
    assert "workspace" in refused.stderr


def test_migrate_on_a_current_schema_does_nothing(folder: Path) -> None:
    done = darkroom(folder, "migrate")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The schema is up to date.\n"


def test_a_file_of_a_real_worker_leads_back_to_its_job(folder: Path, finished: dict[str, Any], tmp_path: Path) -> None:
    stored = next((folder / "blobs").rglob(f"{finished['id']}_2.png"))
    copy = tmp_path / "renamed.png"
    shutil.copy(stored, copy)
    shown = answer(folder, "show", str(copy))
    assert shown["job"]["id"] == finished["id"]
    assert shown["pixels"] == "unchanged"
    assert shown["completed"]["stream"] == shown["origin"]["Asset"] == finished["assets"][2]["id"]
    assert shown["completed"]["data"]["sha256"] == shown["sha256"] == finished["assets"][2]["sha256"]
    assert hashlib.sha256(shown["origin"]["Recipe"].encode()).hexdigest() == shown["origin"]["Recipe fingerprint"]


def test_a_user_works_with_a_key_until_it_is_revoked(folder: Path, finished: dict[str, Any]) -> None:
    added = darkroom(folder, "users", "add", "ada")
    assert added.returncode == 0, added.stderr
    key = ("--token", added.stdout.strip())
    job = answer(folder, "submit", "a fox", "--quantity", "1", "--set", "steps=2", "--watch", *key)
    assert job["status"] == "succeeded"
    assert [one["id"] for one in answer(folder, "jobs", *key)] == [job["id"]]
    assert job["id"] not in [one["id"] for one in answer(folder, "jobs")]
    for foreign in (finished["id"], str(uuid4())):
        refused = darkroom(folder, "show", foreign, *key)
        assert (refused.returncode, refused.stderr) == (1, f"darkroom: There is no job {foreign}.\n")
    assert darkroom(folder, "users", "revoke", "ada").returncode == 0
    deadline = time.monotonic() + 10
    while (refused := darkroom(folder, "jobs", *key)).returncode == 0:
        assert time.monotonic() < deadline
    assert (refused.returncode, "token" in refused.stderr) == (1, True)


def test_the_api_reads_the_views_as_a_role_that_can_read_nothing_else(folder: Path) -> None:
    answer(folder, "jobs")
    with psycopg.connect((folder / "postgres.dsn").read_text().strip()) as connection:
        query = "select count(*) from pg_stat_activity where usename = 'darkroom_api'"
        (logins,) = connection.execute(query).fetchone() or (0,)
    assert logins > 0
