"""How many workers `darkroom up` runs, of which pools, on which GPU, under which names."""

import os
from pathlib import Path

import pytest

from api.local_workers import WorkerGroup, WorkersInvalid, gpus_here, groups_of, planned
from api.up import worker_environment
from services.settings import Settings

POOLS = ("sdxl", "wan")


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("none", []),
        (" none ", []),
        ("sdxl", [WorkerGroup(("sdxl",))]),
        ("sdxl,wan", [WorkerGroup(("sdxl", "wan"))]),
        ("wan, sdxl,wan,", [WorkerGroup(("wan", "sdxl"))]),
        ("sdxl*2", [WorkerGroup(("sdxl",), 2)]),
        ("sdxl,wan * 3", [WorkerGroup(("sdxl", "wan"), 3)]),
        ("sdxl*2+wan", [WorkerGroup(("sdxl",), 2), WorkerGroup(("wan",))]),
    ],
)
def test_a_value_names_groups_of_workers(text: str, groups: list[WorkerGroup]) -> None:
    assert groups_of(text, POOLS) == groups


@pytest.mark.parametrize(
    "text", ["", "tape", "sdxl,none", "sdxl*0", "sdxl*65", "sdxl*x", "*2", "sdxl*2*2", "sdxl*40+wan*40", "sdxl+"]
)
def test_what_cannot_be_understood_is_refused_with_what_can_be(text: str) -> None:
    with pytest.raises(WorkersInvalid, match=r"the pools are sdxl, wan|workers"):
        groups_of(text, POOLS)


def test_one_worker_sees_every_gpu_and_keeps_the_name_it_was_given() -> None:
    (worker,) = planned([WorkerGroup(("sdxl", "wan"))], [], "studio")
    assert (worker.name, worker.pools, worker.gpu, worker.log) == ("studio", "sdxl,wan", None, "worker.log")
    assert worker.environment() == {"DARKROOM_POOLS": "sdxl,wan", "DARKROOM_WORKER_NAME": "studio"}
    (alone,) = planned([WorkerGroup(("sdxl",))], ["GPU-a"])
    assert alone.gpu is None
    assert alone.name == planned([WorkerGroup(("sdxl",))], [])[0].name  # as after a restart


def test_with_several_gpus_each_has_a_worker_of_its_own() -> None:
    plan = planned([WorkerGroup(("sdxl", "wan"))], ["GPU-a", "GPU-b", "GPU-c"], "studio")
    assert [(one.name, one.gpu, one.log) for one in plan] == [
        ("studio-1", "GPU-a", "worker.log"),
        ("studio-2", "GPU-b", "worker-2.log"),
        ("studio-3", "GPU-c", "worker-3.log"),
    ]
    assert plan[1].environment()["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_a_number_is_exact_and_its_workers_take_gpus_in_turn() -> None:
    plan = planned([WorkerGroup(("sdxl",), 3), WorkerGroup(("wan",), 1)], ["0", "1"])
    assert [(one.pools, one.gpu) for one in plan] == [("sdxl", "0"), ("sdxl", "1"), ("sdxl", "0"), ("wan", "1")]
    assert len({one.name for one in plan}) == 4
    assert [one.gpu for one in planned([WorkerGroup(("sdxl",), 2)], [])] == [None, None]


def test_gpus_are_those_that_may_be_seen() -> None:
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "2, GPU-a"}) == ["2", "GPU-a"]
    assert gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert gpus_here({"DARKROOM_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "0,1"}) == []


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0a-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-0b-2)'",
            ["GPU-0a-1", "GPU-0b-2"],
        ),
        ("echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9", []),
    ],
)
def test_the_driver_says_which_gpus_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus_here({}) == found


def test_workers_get_the_settings_that_they_read_and_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    for name in ("DARKROOM_POSTGRES_DSN", "DARKROOM_ADMIN_TOKEN", "DARKROOM_PORT", "DARKROOM_MODLES", "PGPASSWORD"):
        monkeypatch.setenv(name, "hidden")
    for name in ("DARKROOM_MODELS", "DARKROOM_CRASH_AT", "REPLICATE_API_TOKEN", "PATH"):
        monkeypatch.setenv(name, "shown")
    told = worker_environment(settings)
    assert "hidden" not in told.values()
    assert [told[name] for name in ("DARKROOM_MODELS", "DARKROOM_CRASH_AT", "REPLICATE_API_TOKEN")] == ["shown"] * 3
    assert told["DARKROOM_DATA_DIR"] == str(tmp_path)
