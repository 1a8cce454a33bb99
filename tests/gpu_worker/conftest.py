"""The demo model and a tiny Wan, built once; every test here renders with the real pipelines."""

from pathlib import Path

import pytest

from gpu_worker.demo import SDXL_DEMO
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.wan import WanEngine
from tests.gpu_worker.tiny_sdxl import build_tiny_sdxl
from tests.gpu_worker.tiny_wan import build_tiny_wan


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let diffusers' scheduler hand torch tensors to numpy 2 in its own old way."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"))


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The demo model as it ships. Copy it before changing it."""
    return SDXL_DEMO


@pytest.fixture(scope="session")
def random_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL of random weights, which follows whatever it is given. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "random-sdxl"
    build_tiny_sdxl(folder)
    return folder


@pytest.fixture
def engine(demo_folder: Path) -> SdxlEngine:
    """The demo model on the CPU, with nothing learned about memory yet."""
    return SdxlEngine.load(str(demo_folder), device="cpu")


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan that takes words and a first frame, as Wan 2.2 TI2V does. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-wan"
    build_tiny_wan(folder)
    return folder


@pytest.fixture
def wan(wan_folder: Path) -> WanEngine:
    """The tiny Wan on the CPU, with nothing learned about memory yet."""
    return WanEngine.load(str(wan_folder), device="cpu")
