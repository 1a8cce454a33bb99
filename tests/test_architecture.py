"""What pages promise has a test; rooms are small; names are used once; modules need no other to be imported first."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("api", "domain", "gpu_worker", "projections", "services")
MODULES_MAX = 15


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/security.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text("utf-8"))
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")]
    assert named
    assert not missing


def test_every_invariant_names_a_test():
    rows = re.findall(r"^\| \d+ \|.*$", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    assert rows
    assert all("::" in row for row in rows)


def test_every_promise_about_security_names_a_test() -> None:
    tables = (ROOT / "docs/security.md").read_text("utf-8").split("| promise | test |\n|---|---|\n")[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    assert len(tables) > 1
    assert [row for row in rows if "::" not in row] == []


def test_no_two_public_classes_share_a_name() -> None:
    named = [
        (node.name, str(file.relative_to(ROOT)))
        for file in sources()
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    shared = {name for name, times in Counter(name for name, _ in named).items() if times > 1}
    assert [each for each in named if each[0] in shared] == []


def test_no_room_is_a_hall() -> None:
    rooms = Counter(file.parent for file in sources() if file.name != "__init__.py")
    assert {str(room.relative_to(ROOT)): modules for room, modules in rooms.items() if modules > MODULES_MAX} == {}


def test_every_room_says_in_a_sentence_what_it_is() -> None:
    rooms = {file.parent for file in sources()}
    silent = [room for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8")))]
    assert silent == []


@pytest.mark.slow
def test_every_module_can_be_imported_alone() -> None:
    """Each in a fork of an interpreter that has the third-party libraries, and nothing of ours."""
    program = (
        "import importlib, os, sys\n"
        "import av, diffusers, fastapi, nats, numpy, obstore, PIL.Image, psycopg, torch, transformers, typer, uvicorn\n"
        "for name in sys.stdin.read().split():\n"
        "    if (child := os.fork()) == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, repr(error), flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in sources()]
    importable = [name for name in modules if not name.endswith("__main__") and "decoders.child" not in name]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(importable),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def sources() -> list[Path]:
    """Every module of the product."""
    return [file for top in TOPS for file in (ROOT / top).rglob("*.py")]
