"""A whole installation, shared by the tests of a file that leave it as they found it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.installation import Installation


@pytest.fixture
def make_installation() -> Iterator[Callable[..., Installation]]:
    """Make installations with the environment given; each has a folder with a short path, removed afterwards."""
    folders: list[Path] = []

    def make(**environment: str) -> Installation:
        folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
        folders.append(folder)
        return Installation(folder / "data", **environment)

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """One installation for a whole file."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    with Installation(folder / "data") as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)
