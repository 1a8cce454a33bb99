"""ARCHITECTURE.md names a test for each invariant; each of them must exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_the_architecture_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "ARCHITECTURE.md").read_text("utf-8"))
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")]
    assert named
    assert not missing


def test_every_invariant_names_a_test():
    rows = re.findall(r"^\| \d+ \|.*$", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    assert rows
    assert all("::" in row for row in rows)
