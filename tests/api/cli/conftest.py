"""The command line against the served API of a test."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.api.cli.running import Run
from tests.api.cli.test_cli import darkroom
from tests.api.serving import TOKEN, AServer


@pytest.fixture
def run(server: AServer, tmp_path: Path) -> Run:
    """A command that knows the server, expected to end with `status`."""

    async def command(
        name: str, *arguments: str, status: int = 0, environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        where = ("--url", server.url, "--token", TOKEN)
        done = await asyncio.to_thread(
            darkroom, name, *arguments, *where, data_dir=tmp_path / "none", environment=environment
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return command
