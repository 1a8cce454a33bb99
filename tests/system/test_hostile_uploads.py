"""Files that are made to cost much: others go on, and Ctrl-C ends the installation as quickly as ever."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import psutil

from tests.services.hostile_files import jpeg_with_scans
from tests.services.media_files import encoded, picture
from tests.system.installation import Installation

Make = Callable[..., Installation]

STOP_S_MAX = 10.0
"""However much is decoded."""


def send(running: Installation, content: bytes, token: str) -> httpx.Response | None:
    """Upload it; None when the connection ended without an answer."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        return httpx.post(
            f"{running.url}/v1/uploads", files={"file": content}, headers=headers, timeout=200, trust_env=False
        )
    except httpx.TransportError:
        return None


def test_files_that_decode_for_minutes_hold_up_neither_others_nor_ctrl_c(make_installation: Make):
    slow = [jpeg_with_scans(79 - place) for place in range(4)]  # each just below what is refused at once
    running = make_installation()
    with running:
        answers: list[httpx.Response | None] = []
        threads = [
            threading.Thread(target=lambda content=content: answers.append(send(running, content, running.token)))
            for content in slow
        ]
        for thread in threads:
            thread.start()
        running.wait_until(lambda: len(decoders(running)) >= 2, 60)
        other = send(running, encoded(picture(8, 8)), key_of(running, "bob"))
        assert other is not None
        assert other.status_code == 201
        tree = running.tree()
        began = time.monotonic()
        assert running.interrupt() == 0
        took_s = time.monotonic() - began
        for thread in threads:
            thread.join(60)
        assert took_s < STOP_S_MAX
        assert len(answers) == 4
        assert not [process for process in tree if process.is_running() and process.status() != "zombie"]


def key_of(running: Installation, name: str) -> str:
    """A new user's key."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "users", "add", name, "--data-dir", str(running.folder)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return done.stdout.split()[-1]


def decoders(running: Installation) -> list[psutil.Process]:
    """The processes that decode."""
    found = []
    for process in running.tree():
        with suppress(psutil.NoSuchProcess):
            if "services.files.decoders.child" in process.cmdline():
                found.append(process)
    return found
