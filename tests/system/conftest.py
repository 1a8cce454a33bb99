"""A whole installation, shared by the tests of a file that leave it as they found it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_worker.demo import build_demo_sdxl
from tests.system.installation import Installation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    """DARKROOM_MODELS with the demo model that `make setup` built, or a fresh one."""
    folder = ROOT / "models" / "sdxl-demo"
    if not (folder / "model_index.json").exists():
        folder = tmp_path_factory.mktemp("models") / "sdxl-demo"
        build_demo_sdxl(folder)
    return f"sdxl-demo={folder}"


@pytest.fixture
def make_installation(models: str) -> Iterator[Callable[..., Installation]]:
    """Make installations with the environment given; each has a folder with a short path, removed afterwards."""
    folders: list[Path] = []

    def make(**environment: str) -> Installation:
        folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
        folders.append(folder)
        return Installation(folder / "data", environment.pop("DARKROOM_MODELS", models), **environment)

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def installation(models: str) -> Iterator[Installation]:
    """One installation for a whole file."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-"))
    with Installation(folder / "data", models) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)
