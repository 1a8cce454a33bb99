"""What is installed is what is declared: the lock, the packages, the extras, and what a node without a GPU needs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    if not line.startswith("#")
)
DECLARED = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[canonical(requirement.name)])


def test_the_lock_holds_nothing_of_one_machine() -> None:
    for name, pin in PINS.items():
        assert Version(pin).local is None, name
    assert not [name for name in PINS if "nvidia" in name or "cuda" in name or "triton" in name]


TOPS = [pattern.removesuffix("*") for pattern in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
FOUND = {".".join(file.parent.relative_to(ROOT).parts) for top in TOPS for file in (ROOT / top).rglob("__init__.py")}


def test_every_package_is_installed() -> None:
    """setuptools finds a folder by its `__init__.py`."""
    folders = {file.parent for top in TOPS for file in (ROOT / top).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == FOUND
    assert {"api", "domain", "gpu_worker", "migrations", "projections", "services"} == set(TOPS)


def test_every_data_file_is_installed() -> None:
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    everywhere = {pattern.removeprefix("*") for pattern in data["*"]}
    for package in FOUND:
        folder = ROOT.joinpath(*package.split("."))
        endings = {file.suffix for file in folder.iterdir() if file.is_file()} - {".py", ".md"} - everywhere
        patterns = data.get(package, [])
        assert endings == {pattern.removeprefix("*") for pattern in patterns if "/" not in pattern}, package
        assert all(any(folder.glob(pattern)) for pattern in patterns), package


def test_the_command_line_starts_without_server_or_model_libraries() -> None:
    heavy = ("torch", "diffusers", "transformers", "psycopg", "eventsourcing", "fastapi", "nats", "pydantic", "httpx")
    code = f"import sys, api.cli; print([name for name in {heavy!r} if name in sys.modules])"
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "[]"


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "up", "demo", "test", "check", "bench", "soak"):
        assert f"make {target} " in listed.stdout


def test_setup_says_so_when_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1"\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    command = ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path}/venv"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "needs Python 3.11 or newer" in said.stderr
    assert "Python 3.8.1" in said.stderr
