"""Models are loaded once, leave in order, and a broken one fails fast until it is repaired."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.hosted import HostedEngines
from gpu_worker.engines.provider import Account
from gpu_worker.residency import FAILURE_KEPT_S, Residency


def test_a_model_is_loaded_once_and_the_one_unused_for_longest_leaves(demo_folder: Path) -> None:
    residency = Residency({name: str(demo_folder) for name in "abc"}, "cpu", loaded_max=2)
    a, b = residency.engine("a"), residency.engine("b")
    assert residency.engine("a") is a
    residency.engine("c")
    assert residency.engine("a") is a
    assert residency.engine("b") is not b


def test_a_broken_model_fails_fast_and_is_tried_again_later(demo_folder: Path, tmp_path: Path) -> None:
    now_s = 1000.0
    residency = Residency({"sdxl": str(tmp_path / "sdxl")}, "cpu", clock=lambda: now_s)
    with pytest.raises(ModelUnavailable, match="There is no model"):
        residency.engine("sdxl")
    shutil.copytree(demo_folder, tmp_path / "sdxl")
    now_s += FAILURE_KEPT_S - 1
    with pytest.raises(ModelUnavailable, match="There is no model"):
        residency.engine("sdxl")
    now_s += 1
    assert residency.engine("sdxl") is residency.engine("sdxl")


def test_a_broken_model_leaves_the_loaded_ones_alone_and_an_unknown_one_is_named(demo_folder: Path) -> None:
    residency = Residency({"demo": str(demo_folder)}, "cpu")
    demo = residency.engine("demo")
    with pytest.raises(ModelUnavailable, match="no model called wan; its models are: demo"):
        residency.engine("wan")
    assert residency.engine("demo") is demo


def test_a_hosted_model_takes_no_room(demo_folder: Path) -> None:
    models = {"demo": str(demo_folder), "flux": "fal:fal-ai/flux/schnell", "sdxl": "replicate:stability-ai/sdxl"}
    accounts = {"fal": Account("https://queue.fal.run", SecretStr("key"))}
    residency = Residency(models, "cpu", loaded_max=1, hosted=HostedEngines(models, accounts))
    demo = residency.engine("demo")
    assert residency.engine("flux").model_revision == "fal:fal-ai/flux/schnell"
    assert residency.engine("flux") is residency.engine("flux")
    with pytest.raises(ModelUnavailable, match="no account of the provider replicate"):
        residency.engine("sdxl")
    assert residency.engine("demo") is demo


def test_a_hub_model_is_loaded_by_what_the_hub_says_and_as_sdxl_where_it_says_nothing(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--somebody--moving"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("1" * 40)
    (cached / "snapshots" / ("1" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("1" * 40) / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    lines = (
        "from gpu_worker.residency import loader_of, LOADERS",
        "names = {load: name for name, load in LOADERS.items()}",
    )
    asked = "[names[loader_of(source)] for source in ('somebody/moving', 'somebody/unknown', '/nowhere.safetensors')]"
    told = subprocess.run(
        [sys.executable, "-c", "; ".join((*lines, f"print(*{asked})"))],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert told.stdout.split() == ["Wan", "StableDiffusionXL", "StableDiffusionXL"]
