"""The demo model; every test here renders with the real pipeline."""

from pathlib import Path

import pytest

from gpu_worker.demo import SDXL_DEMO
from gpu_worker.engines.sdxl import SdxlEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let diffusers' scheduler hand torch tensors to numpy 2 in its own old way."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"))


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The demo model as it ships. Copy it before changing it."""
    return SDXL_DEMO


@pytest.fixture
def engine(demo_folder: Path) -> SdxlEngine:
    """The demo model on the CPU, with nothing learned about memory yet."""
    return SdxlEngine.load(str(demo_folder), device="cpu")
