"""Where output goes and how it reads: full disks, closed outputs, sentences in a row, and commands ready to paste."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from api.cli.remote.client import failure
from tests.api.cli.running import Run
from tests.api.cli.test_cli import ROOT
from tests.api.serving import TOKEN, AServer, Site

FULL = "darkroom: cannot write the output: No space left on device.\n"
OURS = re.compile(r"(?<!`)(?<!: )\bdarkroom [a-z]")
"""A command in a sentence that nothing would put under the name of the program as it was called."""


def to_full_disk(*arguments: str, folder: Path, **environment: str) -> tuple[int, str]:
    """The exit status and stderr of a command whose output goes to a full disk."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            cwd=ROOT,
            env={**own, "DARKROOM_DATA_DIR": str(folder), **environment},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["jobs", "--help"], ["settings"]], ids=" ".join)
@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_full_disk_is_one_sentence(arguments: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    assert to_full_disk(*arguments, folder=tmp_path, **environment) == (1, FULL)


async def test_a_list_or_a_document_on_a_full_disk_is_one_sentence(server: AServer, site: Site, tmp_path: Path) -> None:
    job = await site.submit()
    await site.get("/v1/jobs")
    where = ("--url", server.url, "--token", TOKEN)
    for arguments in (("jobs",), ("jobs", "--json"), ("show", job["id"]), ("types",)):
        assert await asyncio.to_thread(to_full_disk, *arguments, *where, folder=tmp_path) == (1, FULL)


async def test_a_closed_output_is_no_failure(tmp_path: Path) -> None:
    shell = ["bash", "-c", f"'{sys.executable}' -m api.cli jobs --help >&-"]
    done = await asyncio.to_thread(subprocess.run, shell, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_download_to_a_folder_that_cannot_be_written_is_one_sentence(
    run: Run, site: Site, tmp_path: Path
) -> None:
    job = await site.finished()
    (tmp_path / f".{job['id']}_0.png.part").mkdir()
    refused = await run("download", f"{job['id']}/0", "--out", str(tmp_path), status=1)
    assert refused.stderr == f"darkroom: cannot write {tmp_path}/{job['id']}_0.png: Is a directory.\n"


@pytest.mark.parametrize(
    ("code", "detail", "sentence"),
    [
        ("busy", "Too much at once.", "Too much at once. Try again in a moment."),
        ("blob_store_unavailable", "[Errno 28] No space left", "[Errno 28] No space left. Try again in a moment."),
        ("ledger_stopped", "Writes are stopped; run `darkroom restored`.", None),
        ("rebuild_unavailable", "This API cannot rebuild views.", None),
    ],
)
def test_trying_again_is_advised_where_it_helps(code: str, detail: str, sentence: str | None) -> None:
    response = httpx.Response(503, json={"code": code, "detail": detail})
    assert str(failure(response, "http://here")) == (sentence or detail)


async def test_a_name_that_is_neither_a_pool_nor_a_worker_is_said_to_be_neither(run: Run) -> None:
    for word in ("pause", "drain", "resume"):
        refused = await run(word, "foo", status=1)
        assert refused.stderr == (
            "darkroom: There is no pool and no worker 'foo'. The pools are sdxl, wan; the workers are not known yet.\n"
        )


def test_every_command_in_a_sentence_is_ready_to_paste() -> None:
    folder = ROOT / "api" / "cli"
    wrong = []
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        help_texts = {id(each) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"
                      for each in ast.walk(node)}  # fmt: skip
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        printed = {
            id(each)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"typer.echo", "say"}
            for argument in node.args
            if not ast.unparse(argument).startswith("pasteable(")
            for each in ast.walk(argument)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if id(node) in help_texts | docstrings:
                continue
            if OURS.search(node.value) or (id(node) in printed and "darkroom " in node.value):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
