"""ARCHITECTURE.md and docs/security.md name a test for each promise; each of them must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
