"""A service that runs alone: its figures on a port of their own, its log for programs, and no secret in either."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.system.installation import eventually


def test_a_service_alone_answers_scrapes_and_logs_for_programs(dsn: str, nats_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {
        **os.environ,
        "DARKROOM_POSTGRES_DSN": dsn,
        "DARKROOM_NATS_URL": nats_url,
        "DARKROOM_DATA_DIR": str(tmp_path),
        "DARKROOM_METRICS_PORT": str(port),
        "DARKROOM_LOG_FORMAT": "json",
        "DARKROOM_LOG_LEVEL": "DEBUG",
    }
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "run", "relay", "reaper"], stdout=file, stderr=file, env=environment
        )

    def scraped() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
        except httpx.TransportError:
            return ""

    try:
        eventually(lambda: "\ndarkroom_relay_position 0.0\n" in scraped(), 30, log.read_text)
        assert "\nprocess_resident_memory_bytes " in scraped()
        eventually(lambda: "ready relay,reaper" in log.read_text(), 30, log.read_text)
        if sys.platform == "linux":  # see services.scheduling
            assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
    entries = [json.loads(line) for line in log.read_text().splitlines() if not line.startswith("ready ")]
    assert entries
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
    assert nats_url.split("@", maxsplit=1)[0].rpartition(":")[2] not in log.read_text()


def test_a_port_that_is_taken_is_said(dsn: str, nats_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            **os.environ,
            "DARKROOM_POSTGRES_DSN": dsn,
            "DARKROOM_NATS_URL": nats_url,
            "DARKROOM_DATA_DIR": str(tmp_path),
            "DARKROOM_METRICS_PORT": str(taken.getsockname()[1]),
        }
        command = [sys.executable, "-m", "api.cli", "run", "reaper"]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("darkroom: Metrics cannot be served on 127.0.0.1:")
    assert "DARKROOM_METRICS_PORT" in ended.stderr
