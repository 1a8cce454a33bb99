"""Crash points stand where their names say, each once; all of them are in the matrix, and the matrix is in the docs."""

import ast
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gpu_worker.settings import WorkerSettings
from services.crash_points import VARIABLE, Point
from services.settings import PREFIX, Settings
from tests.system.crash_matrix import CELLS, table

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("api", "domain", "gpu_worker", "projections", "services")

FILES = {
    "commit": {"services/ledger/flusher.py"},
    "upload": {"api/assets/uploads.py"},
    "purge": {"api/assets/purging.py"},
    "relay": {"services/messaging/relay.py"},
    "dispatcher": {"services/queue/dispatcher.py", "services/messaging/broker.py"},
    "recorder": {"services/queue/report_handler.py"},
    "projector": {"services/views/projector.py"},
    "rebuild": {"services/views/rebuild.py"},
    "reaper": {"services/queue/reaper.py"},
    "sweeper": {"services/files/sweeper.py"},
    "thumbnails": {"services/files/thumbnails.py"},
    "worker": {"gpu_worker/loop.py", "gpu_worker/attempt.py", "gpu_worker/outputs/storing.py"},
    "migrate": {"services/migrate.py"},
    "import": {"services/bundle/intake.py"},
    "restored": {"services/restore/restoring.py", "services/restore/command.py"},
}
"""Where the points of each name may stand."""

TWICE = (
    "from services.crash_points import Point, reached\nfor time in (1, 2):\n    reached(Point.RELAY_AFTER_PUBLISH)\n"
)


def calls(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached"
    ]


def test_each_point_stands_once_in_the_code_and_where_its_name_says():
    found: dict[Point, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            for call in calls(tree):
                (point,) = call.args
                assert isinstance(point, ast.Attribute), ast.unparse(call)
                found[Point[point.attr]].append(file.relative_to(ROOT).as_posix())
    assert {point: len(files) for point, files in found.items()} == dict.fromkeys(Point, 1)
    astray = {point: files for point, files in found.items() if not set(files) <= FILES[point.partition(".")[0]]}
    assert not astray


def test_every_point_is_in_the_matrix_and_no_row_twice():
    assert {cell.at for cell in CELLS} == set(Point)
    assert len({str(cell) for cell in CELLS}) == len(CELLS)


def test_the_docs_show_the_matrix():
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    _, _, after = text.partition("<!-- crash points: tests/system/crash_matrix.py -->\n")
    shown, _, _ = after.partition("<!-- end -->")
    assert shown.splitlines() == table()


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        (None, 0, ""),
        ("relay.between_events", 0, ""),
        ("relay.after_publish", -signal.SIGKILL, "killed at relay.after_publish\n"),
        ("relay.after_publish:2", -signal.SIGKILL, "killed at relay.after_publish\n"),
        ("relay.after_publish:3", 0, ""),
    ],
)
def test_a_process_dies_where_and_when_it_was_asked_to(wanted: str | None, status: int, said: str):
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    ended = subprocess.run(
        [sys.executable, "-c", TWICE],
        env=environment | ({} if wanted is None else {VARIABLE: wanted}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (status, said)


def test_a_name_that_is_invalid_ends_the_program():
    environment = os.environ | {VARIABLE: "relay.somewhere"}
    ended = subprocess.run([sys.executable, "-c", TWICE], env=environment, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"relay.somewhere" in ended.stderr


def test_it_is_no_setting():
    assert VARIABLE.removeprefix(PREFIX).lower() not in {*Settings.model_fields, *WorkerSettings.model_fields}
