"""`python -m gpu_worker` as a process of its own: settings, signals, exit status, and what it must not import."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from gpu_worker.settings import WorkerSettings
from tests.gpu_worker.peers import PATIENCE_S, Broker, an_order, peer_of

WORKER = (sys.executable, "-m", "gpu_worker")
ROOT = Path(__file__).parents[2]
LONG = 1000
"""Steps of a job that does not end by itself while a test watches it."""


def environment(**settings: str) -> dict[str, str]:
    """Ours without any of Darkroom's, plus these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return clean | {f"DARKROOM_{name.upper()}": value for name, value in settings.items()}


def finished(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A worker that ends by itself."""
    command = [*WORKER, *arguments]
    return subprocess.run(
        command, env=environment(**settings), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


class Process:
    """A running worker; its log goes to a file."""

    def __init__(self, log: Path, settings: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(WORKER, env=environment(**settings), cwd=ROOT, stderr=stderr)

    def log(self) -> str:
        return self._log.read_text()

    def until_it_says(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.log():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_status(self) -> int:
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def process(broker: Broker, demo_folder: Path, tmp_path: Path) -> Iterator[Process]:
    settings = {
        "nats_url": broker.url.replace("//", "//ada:s3cret@"),
        "blobs_url": (tmp_path / "blobs").as_uri(),
        "models": f"sdxl-demo={demo_folder}",
        "pools": "sdxl",
        "device": "cpu",
    }
    process = Process(tmp_path / "worker.log", settings)
    yield process
    process.end()


async def test_sigterm_in_mid_job_gives_the_job_back(broker: Broker, process: Process) -> None:
    async with peer_of(broker) as peer:
        await peer.make_queue()
        order = an_order(steps=LONG)
        await peer.dispatch(order)
        await peer.until(lambda peer: bool(peer.progress))
        process.tell(signal.SIGTERM)
        assert await asyncio.to_thread(process.exit_status) == 0
        await peer.until(lambda peer: peer.kinds() == ["started", "attempt_released"])
        await peer.until_acked()
    assert f"attempt_released accepted [job_id={order.job_id} attempt=1" in process.log()
    assert "s3cret" not in process.log()


async def test_a_log_for_programs_says_of_each_entry_what_it_is_about(
    broker: Broker, demo_folder: Path, tmp_path: Path
) -> None:
    settings = {
        "nats_url": broker.url,
        "blobs_url": (tmp_path / "blobs").as_uri(),
        "models": f"sdxl-demo={demo_folder}",
        "pools": "sdxl",
        "device": "cpu",
        "worker_name": "gpu-1",
        "log_format": "json",
    }
    process = Process(tmp_path / "worker.log", settings)
    try:
        async with peer_of(broker) as peer:
            await peer.make_queue()
            order = an_order(quantity=1)
            await peer.dispatch(order)
            await peer.until_acked()
        process.tell(signal.SIGTERM)
        assert await asyncio.to_thread(process.exit_status) == 0
    finally:
        process.end()
    entries = [json.loads(line) for line in process.log().splitlines()]
    assert {entry["logger"] for entry in entries} == {"darkroom.worker"}
    of_job = [entry for entry in entries if "job_id" in entry]
    assert [entry["message"].split(" ")[0] for entry in of_job] == ["started:", "asset", "done"]
    for entry in of_job:
        about = (entry["job_id"], entry["correlation_id"], entry["attempt"], entry["owner"])
        assert about == (str(order.job_id), str(order.job_id), 1, "ada")
        assert entry["worker"].endswith("gpu-1")
    assert order.recipe.prompt not in process.log()


async def test_a_second_signal_ends_a_worker_that_cannot_give_its_job_back(broker: Broker, process: Process) -> None:
    async with peer_of(broker) as peer:
        await peer.make_queue()
        process.until_it_says("ready")
        peer.verdict = lambda _report: None  # a recorder that never answers
        await peer.dispatch(an_order())
        await peer.until(lambda peer: bool(peer.reports))
        process.tell(signal.SIGINT)
        process.until_it_says("stopping on SIGINT")
        process.tell(signal.SIGINT)
        assert process.exit_status() == 1


def test_a_worker_without_nats_says_so_and_leaves_when_asked_to(demo_folder: Path, tmp_path: Path) -> None:
    nowhere = Broker(tmp_path)
    settings = {"nats_url": nowhere.url, "blobs_url": (tmp_path / "blobs").as_uri(), "models": f"m={tmp_path}/nowhere"}
    settings["modles"] = "misspelled"
    process = Process(tmp_path / "worker.log", settings)
    try:
        process.until_it_says("called DARKROOM_MODLES (did you mean DARKROOM_MODELS?); ignored")
        process.until_it_says("NATS is away")
        process.until_it_says("jobs of the model m will fail: There is no model at")
        process.tell(signal.SIGTERM)
        assert process.exit_status() == 0
        assert process.log().count("NATS is away") == 1
    finally:
        process.end()


def test_variables_that_a_worker_reads_and_those_of_others_are_not_named() -> None:
    read = [WorkerSettings.variable(field) for field in WorkerSettings.model_fields]
    assert WorkerSettings.warning_about([*read, "PATH", "DARKROOM_CRASH_AT", "REPLICATE_API_TOKEN"]) is None
    said = WorkerSettings.warning_about(["DARKROOM_POOL", "DARKROOM_QUITE_ANOTHER"])
    assert said is not None
    assert "DARKROOM_POOL (did you mean DARKROOM_POOLS?), DARKROOM_QUITE_ANOTHER; ignored" in said


@pytest.mark.parametrize(
    ("nats_url", "user"),
    [
        ("nats://gpu-1:s3cret@host", "gpu-1"),
        ("nats://one,nats://gpu%2D1:s3cret@two", "gpu-1"),
        ("nats://host:4222", "worker"),
        ("nats://t0ken@host", "worker"),  # a token is nobody's name
    ],
)
def test_a_worker_goes_by_its_nats_user_and_its_own_name(nats_url: str, user: str) -> None:
    settings = WorkerSettings(nats_url=SecretStr(nats_url), worker_name="host.example-7")
    assert settings.worker == f"{user}.host.example-7"


def test_each_job_at_once_has_a_worker_of_its_own() -> None:
    hosted = WorkerSettings(worker_name="gpu-1", models={"flux": "fal:fal-ai/flux"}, jobs_at_once=2)
    assert hosted.workers == ["worker.gpu-1.1", "worker.gpu-1.2"]
    assert WorkerSettings(worker_name="gpu-1").workers == ["worker.gpu-1"]
    with pytest.raises(ValueError, match="the language model of DARKROOM_ENHANCER runs on this machine"):
        WorkerSettings(models={"flux": "fal:fal-ai/flux"}, enhancer="/models/qwen", jobs_at_once=2)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("heartbeat_s", "60", "must be at most 15"),
        ("models", "sdxl", "'sdxl' is not name=source"),
        ("models", "a=/x,a=/y", "the model a is there twice"),
        ("nats_url", "http://ada:s3cret@host", "nats://host:4222"),
        ("nats_url", "nats://ada:s3cret@host:99999", "from 0 to 65535"),
        ("nats_url", "nats://ada:s3cret/s3cret@host", "from 0 to 65535"),
        ("nats_url", "nats://ada.b:s3cret@host", "a worker's user is named by letters"),
        ("worker_name", "gpu..1", "must match"),
        ("pools", "SDXL", "'SDXL' is not the name of a pool"),
        ("jobs_at_once", "2", "for hosted models alone, and the model sdxl-demo runs on this machine"),
        ("jobs_at_once", "257", "must be at most 256"),
        ("device", "gpu", "must match"),
        ("dtype", "int8", "auto, bf16, fp16 or fp32"),
        ("memory_budget_mb", "0", "must be at least 1"),
        ("replicate_url", "http://api.replicate.com", "must begin with https://"),
        ("fal_url", "https://ada:s3cret@queue.fal.run", "must look like https://host"),
        ("blobs_url", "ftp://ada:s3cret@/@host/x", "ftp://***@host/x"),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(name: str, value: str, words: str) -> None:
    worker = finished(**{name: value})
    assert worker.returncode == 2
    assert worker.stderr.startswith(f"DARKROOM_{name.upper()}: ")
    assert words in worker.stderr
    assert "s3cret" not in worker.stderr
    assert worker.stderr.count("\n") == 1


def test_compiling_without_cuda_is_one_line_and_status_2(tmp_path: Path) -> None:
    worker = finished(compile="true", device="cpu", data_dir=str(tmp_path))
    assert worker.returncode == 2
    assert worker.stderr.startswith("DARKROOM_COMPILE: models are compiled on cuda alone")
    assert worker.stderr.count("\n") == 1


def test_settings_are_listed_without_credentials_and_without_torch() -> None:
    code = "import sys; from gpu_worker.__main__ import main; main(['--settings']); print('torch' in sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **environment(nats_url="nats://ada:s3cret@host:4222", models="sdxl=/models/sdxl"),
            "FAL_KEY": "s3cret",
            "REPLICATE_API_TOKEN": "",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout
    lines = [line.split("\t") for line in listed.splitlines()]
    assert lines.pop() == ["False"]
    assert all(len(line) == 4 for line in lines)
    values = {name: value for name, value, _, _ in lines}
    assert values["DARKROOM_NATS_URL"] == "nats://***@host:4222"
    assert values["DARKROOM_MODELS"] == "sdxl=/models/sdxl"
    assert values["FAL_KEY"] == "***"
    assert values["REPLICATE_API_TOKEN"] == ""


def test_a_worker_imports_nothing_of_the_ledger_or_the_database() -> None:
    code = (
        "import sys, pkgutil, importlib, gpu_worker\n"
        "for module in pkgutil.walk_packages(gpu_worker.__path__, 'gpu_worker.'):\n"
        "    if not module.name.endswith('demo.__main__'): importlib.import_module(module.name)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'eventsourcing', 'psycopg', 'torch'}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "['torch']"
