"""Models are loaded once, within a budget, leave in order, and a broken one fails fast until it is repaired."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from gpu_worker.engines import ModelUnavailable
from gpu_worker.engines.diffusers.sdxl import SdxlEngine
from gpu_worker.engines.diffusers.wan import WanEngine
from gpu_worker.engines.hosted.engine import HostedEngines
from gpu_worker.engines.hosted.provider import Account
from gpu_worker.engines.model_size import estimated_bytes
from gpu_worker.residency import FAILURE_KEPT_S, Residency
from gpu_worker.tuning import Tuning, TuningRefused


def bytes_of(engine: object) -> int:
    assert isinstance(engine, SdxlEngine | WanEngine)
    return engine.weights_bytes


def test_a_model_is_loaded_once_and_the_one_unused_for_longest_leaves(demo_folder: Path) -> None:
    one_bytes = bytes_of(SdxlEngine.load(str(demo_folder), device="cpu"))
    residency = Residency({name: str(demo_folder) for name in "abc"}, "cpu", budget_bytes=2 * one_bytes)
    a, b = residency.engine("a"), residency.engine("b")
    assert residency.engine("a") is a
    residency.engine("c")
    assert [residency.is_loaded(name) for name in "abc"] == [True, False, True]
    assert residency.engine("a") is a
    assert residency.engine("b") is not b


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_a_model_takes_is_known_before_it_is_loaded(
    demo_folder: Path, wan_folder: Path, dtype: Literal["fp32", "bf16"]
) -> None:
    for load, folder in ((SdxlEngine.load, demo_folder), (WanEngine.load, wan_folder)):
        engine = load(str(folder), device="cpu", tuning=Tuning(dtype=dtype))
        estimate = estimated_bytes(str(folder), 4 if dtype == "fp32" else 2)
        assert estimate == pytest.approx(bytes_of(engine), rel=0.03)  # Wan keeps its norms in fp32


def test_a_large_model_takes_the_room_of_as_many_small_ones_as_it_needs(demo_folder: Path, wan_folder: Path) -> None:
    large, small = demo_folder, wan_folder
    large_bytes = bytes_of(SdxlEngine.load(str(large), device="cpu"))
    small_bytes = bytes_of(WanEngine.load(str(small), device="cpu"))
    assert 3 * small_bytes < large_bytes
    models = {"a": str(small), "b": str(small), "c": str(small), "large": str(large)}
    residency = Residency(models, "cpu", budget_bytes=large_bytes + small_bytes + small_bytes // 2)
    for name in models:
        residency.engine(name)
    assert [residency.is_loaded(name) for name in models] == [False, False, True, True]


def test_a_model_larger_than_the_budget_is_loaded_alone_and_the_log_says_so(
    demo_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    residency = Residency({name: str(demo_folder) for name in "ab"}, "cpu", budget_bytes=1_000_000)
    residency.engine("a")
    residency.engine("b")
    assert [residency.is_loaded(name) for name in "ab"] == [False, True]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert "more than the 1 MB of DARKROOM_MEMORY_BUDGET_MB: it is loaded alone" in said[0]


def test_models_that_did_not_leave_enough_to_render_are_not_kept_next_to_each_other_again(wan_folder: Path) -> None:
    residency = Residency({name: str(wan_folder) for name in "abc"}, "cpu")
    a = residency.engine("a")
    residency.ran_out("a")
    residency.engine("b")
    residency.ran_out("a")
    assert [residency.is_loaded(name) for name in "abc"] == [True, False, False]
    assert residency.engine("a") is a
    residency.engine("c")
    assert [residency.is_loaded(name) for name in "abc"] == [False, False, True]


def test_a_hub_model_that_is_not_here_yet_has_no_known_size_and_a_broken_one_drops_nobody(
    demo_folder: Path, tmp_path: Path
) -> None:
    assert estimated_bytes("nobody/nothing", 4) is None
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    assert estimated_bytes(str(broken), 4) == 0
    demo_bytes = bytes_of(SdxlEngine.load(str(demo_folder), device="cpu"))
    residency = Residency({"demo": str(demo_folder), "broken": str(broken)}, "cpu", budget_bytes=demo_bytes)
    residency.engine("demo")
    with pytest.raises(ModelUnavailable, match="cut off"):
        residency.engine("broken")
    assert residency.is_loaded("demo")


def test_compiling_is_refused_where_there_is_no_cuda(demo_folder: Path) -> None:
    with pytest.raises(TuningRefused, match="on cuda alone, but this worker's device is cpu"):
        Residency({"demo": str(demo_folder)}, "cpu", tuning=Tuning(compiled=True))


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
    residency = Residency(models, "cpu", budget_bytes=1, hosted=HostedEngines(models, accounts))
    demo = residency.engine("demo")
    assert residency.engine("flux").model_revision == "fal:fal-ai/flux/schnell"
    assert residency.engine("flux") is residency.engine("flux")
    assert [residency.is_loaded(name) for name in models] == [True, True, True]
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
