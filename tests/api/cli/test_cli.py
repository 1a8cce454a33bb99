"""The `darkroom` command without a server: exit statuses and the one line that says what is wrong."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[3]
JOB = str(uuid4())


def darkroom(
    *arguments: str, data_dir: Path, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command in an environment without settings but these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env={**own, "DARKROOM_DATA_DIR": str(data_dir), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photograph"], "No such command 'photograph'"),
        (["submit"], "Missing argument"),
        (["submit", "a cat", "--quantity", "many"], "--quantity"),
        (["submit", "a cat", "--colour", "red"], "--colour"),
        (["submit", "a cat", "--set", "steps"], "is not KEY=VALUE"),
        (["submit", "a cat", "--set", "steps=1", "--set", "steps=2"], "is there twice"),
        (["submit", "a cat \udcff", "--url", "http://127.0.0.1:1", "--token", "t"], "not UTF-8"),
        (["upload"], "Missing argument"),
        (["show", "42"], "'42' is neither the id of a job, a batch or an asset nor a file here"),
        (["show", "x" * 300], "nor a file here"),
        (["history", "not-an-id"], "'not-an-id' is not the id of a job"),
        (["jobs", "--limit", "0"], "--limit"),
        (["jobs", "--url", "127.0.0.1:8700", "--token", "t"], "is not the URL of a server"),
        (["jobs", "--url", "http://127.0.0.1:1", "--token", "t\u00e9"], "characters that no token"),
        (["run"], "Missing argument"),
        (["run", "webserver"], "'projector'"),
        (["run", "worker", "api"], "runs alone"),
        (["up", "--port", "65536"], "--port"),
        (["up", "--workers", "sdxl,none"], "the pools are sdxl, wan"),
        (["rebuild"], "name one view, or --all"),
        (["rebuild", "queue", "--all"], "name one view, or --all"),
        (["rebuild", "queue", "--as-of", "-1"], "--as-of"),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    refused = darkroom(*arguments, data_dir=tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert words in refused.stderr
    assert_one_line(refused)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DARKROOM_PORT", "http"),
        ("DARKROOM_PORT", "70000"),
        ("DARKROOM_LOG_LEVEL", "LOUD"),
        ("DARKROOM_ADMIN_TOKEN", "short"),
        ("DARKROOM_DISK_FREE_MIN_MB", "-1"),
    ],
)
@pytest.mark.parametrize("command", [["jobs"], ["settings"], ["up"], ["run", "api"], ["verify"]], ids=" ".join)
def test_a_bad_setting_is_one_line_and_status_2(command: list[str], variable: str, value: str, tmp_path: Path) -> None:
    refused = darkroom(*command, data_dir=tmp_path, environment={variable: value})
    assert refused.returncode == 2, refused.stderr
    assert variable in refused.stderr
    assert_one_line(refused)


def test_a_bad_setting_of_the_worker_is_named_too(tmp_path: Path) -> None:
    refused = darkroom("settings", data_dir=tmp_path, environment={"DARKROOM_POOLS": "No Pool!"})
    assert refused.returncode == 2
    assert "DARKROOM_POOLS" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_bad_dsn_is_not_repeated(tmp_path: Path) -> None:
    refused = darkroom("verify", data_dir=tmp_path, environment={"DARKROOM_POSTGRES_DSN": "hunter2 hunter2"})
    assert refused.returncode == 2
    assert "DARKROOM_POSTGRES_DSN" in refused.stderr
    assert "hunter2" not in refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["submit", "a cat"],
        ["jobs"],
        ["show", JOB],
        ["history", JOB],
        ["cancel", JOB],
        ["retry", JOB],
        ["upload", __file__],
    ],
    ids=lambda command: command[0],
)
def test_a_server_that_is_not_there_is_one_line_and_status_1(command: list[str], tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    failed = darkroom(*command, "--url", url, "--token", "t", data_dir=tmp_path)
    assert failed.returncode == 1
    assert f"{url} cannot be reached" in failed.stderr
    assert_one_line(failed)


@pytest.mark.parametrize("command", [["jobs"], ["verify"], ["migrate"], ["rebuild", "--all"]], ids=" ".join)
def test_without_a_running_darkroom_it_says_how_to_start_one(command: list[str], tmp_path: Path) -> None:
    failed = darkroom(*command, data_dir=tmp_path)
    assert failed.returncode == 1
    assert str(tmp_path) in failed.stderr
    assert "darkroom up" in failed.stderr
    assert_one_line(failed)


def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path: Path) -> None:
    dsn = f"postgresql://darkroom:hunter2@127.0.0.1:{free_port()}/darkroom"
    failed = darkroom("migrate", data_dir=tmp_path, environment={"DARKROOM_POSTGRES_DSN": dsn})
    assert failed.returncode == 1
    assert "Postgres cannot be reached" in failed.stderr
    assert "hunter2" not in failed.stderr
    assert_one_line(failed)


def test_the_token_of_the_data_folder_goes_to_no_other_server(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:8700\n", encoding="utf-8")
    (tmp_path / "admin.token").write_text("the-token-of-this-folder\n", encoding="utf-8")
    refused = darkroom("jobs", "--url", f"http://127.0.0.1:{free_port()}", data_dir=tmp_path)
    assert refused.returncode == 1
    assert "--token or DARKROOM_TOKEN" in refused.stderr


def test_settings_hides_secrets(tmp_path: Path) -> None:
    secrets = {
        "DARKROOM_ADMIN_TOKEN": "hunter2-hunter2-hunter2",
        "DARKROOM_POSTGRES_DSN": "postgresql://darkroom:hunter2@db/darkroom",
        "DARKROOM_NATS_URL": "nats://darkroom:hunter2@broker:4222",
    }
    listed = darkroom("settings", data_dir=tmp_path, environment=secrets)
    assert listed.returncode == 0, listed.stderr
    assert "DARKROOM_PORT=8700" in listed.stdout
    assert "DARKROOM_ADMIN_TOKEN=(hidden)" in listed.stdout
    assert "DARKROOM_MODELS=sdxl-demo=" in listed.stdout
    assert "hunter2" not in listed.stdout


def test_help_names_every_command(tmp_path: Path) -> None:
    helped = darkroom(data_dir=tmp_path)
    assert helped.returncode == 0
    for command in (
        "up", "run", "submit", "jobs", "show", "history", "cancel", "retry", "rebuild", "verify", "migrate", "settings",
    ):  # fmt: skip
        assert f"  {command} " in helped.stdout
        assert darkroom(command, "--help", data_dir=tmp_path).returncode == 0


def assert_one_line(failed: "subprocess.CompletedProcess[str]") -> None:
    """stderr is one line that names the program; nothing else is said, least of all a traceback."""
    assert failed.stdout == ""
    assert failed.stderr.startswith("darkroom: ")
    assert failed.stderr.endswith("\n")
    assert failed.stderr.count("\n") == 1
