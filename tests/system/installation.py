"""A whole Darkroom in a subprocess, as `darkroom up` runs it, and what a test does with one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

READY_S_MAX = 240.0
DONE_S_MAX = 240.0  # a render takes seconds, on a machine full of other renders a minute


class Installation:
    """`darkroom up` on a folder of its own. Use with `with`; leaves nothing running."""

    def __init__(self, folder: Path, *, workers: str = "", **environment: str) -> None:
        """`workers`: as of `darkroom up`; its default without."""
        self.folder = folder
        self._workers = ["--workers", workers] if workers else []
        self.log = folder.with_name(f"{folder.name}.log")
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.token = ""

    def __enter__(self) -> "Installation":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                for process in self.tree():
                    process.kill()
                self._process.wait(10)
                raise

    def start(self) -> None:
        """Begin, and wait for the ready line."""
        command = [sys.executable, "-m", "api.cli", "up", "--data-dir", str(self.folder), "--port", "0", *self._workers]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        (self.folder / "url").unlink(missing_ok=True)
        self.wait_until((self.folder / "url").exists, READY_S_MAX)
        self.url = (self.folder / "url").read_text().strip()
        self.token = (self.folder / "admin.token").read_text().strip()

    def interrupt(self) -> int:
        """Ctrl-C, and wait for the end; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def kill(self) -> None:
        """As the kernel does when memory runs out; wait until what it started has ended with it."""
        assert self._process is not None
        others = self.tree()[1:]
        self._process.kill()
        self._process.wait(30)
        _, alive = psutil.wait_procs(others, 30)
        assert not alive

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        assert self._process is not None
        try:
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def process(self, needle: str) -> psutil.Process:
        """The one descendant whose command line contains this."""

        def found() -> list[psutil.Process]:
            return [one for one in self.tree()[1:] if needle in " ".join(_command_line(one))]

        self.wait_until(lambda: bool(found()), 20)
        return found()[0]

    def worker(self) -> psutil.Process:
        """The worker's process."""
        return self.process("gpu_worker")

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Ask the API as the administrator."""
        headers = {"Authorization": f"Bearer {self.token}", **kwargs.pop("headers", {})}
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=20, **kwargs)

    def submit(self, **body: Any) -> dict[str, Any]:
        """Submit a job; its document."""
        answer = self.request("POST", "/v1/jobs", json={"job_type": "sdxl_image_fast", "prompt": "a fox", **body})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """The job's document as it is now."""
        answer = self.request("GET", f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def job_when(self, job_id: str, *statuses: str, within_s: float = DONE_S_MAX) -> dict[str, Any]:
        """The job's document once it has one of these statuses."""
        self.wait_until(lambda: self.job(job_id)["status"] in statuses, within_s, every_s=0.1)
        return self.job(job_id)

    def done(self, job: dict[str, Any]) -> dict[str, Any]:
        """A submitted job's document once it has ended."""
        return self.job_when(job["id"], "succeeded", "partially_succeeded", "failed")

    def content(self, asset: dict[str, Any]) -> bytes:
        """The file of an asset."""
        answer = self.request("GET", asset["url"])
        assert answer.status_code == 200, answer.text
        return answer.content

    def history(self, job_id: str) -> list[dict[str, Any]]:
        """Every event of the job and its assets."""
        answer = self.request("GET", f"/v1/jobs/{job_id}/history")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def wait_until(self, holds: Callable[[], bool], within_s: float, every_s: float = 0.05) -> None:
        """Wait for a condition, with a bound and while it runs; a failure shows the log."""

        def holds_while_it_runs() -> bool:
            held = holds()
            assert held or self._process is None or self._process.poll() is None, f"it ended:\n{self._tail()}"
            return held

        eventually(holds_while_it_runs, within_s, self._tail, every_s)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask its Postgres."""
        dsn = (self.folder / "postgres.dsn").read_text().strip()
        with psycopg.connect(dsn) as connection:
            return connection.execute(statement.encode()).fetchall()


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def eventually(holds: Callable[[], bool], within_s: float, told: Callable[[], str], every_s: float = 0.05) -> None:
    """Wait for a condition, with a bound; a failure tells more."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s:\n{told()}"
        time.sleep(every_s)
