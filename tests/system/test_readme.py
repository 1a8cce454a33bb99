"""README.md is right: its commands are run as they are written, in its order, on a running installation."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import demo
from tests.system.installation import Installation

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
MAKE = re.compile(r"^(?:\w+=\S+ )*make *([a-z-]*)")
COMMAND_S_MAX = 600

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # two videos, on any machine


class Reader:
    """A user in a clone, who types what the README says."""

    def __init__(self, running: Installation, clone: Path) -> None:
        self._running, self._clone = running, clone
        self._port = running.url.rpartition(":")[2]
        self.done = self._running.done(self._running.submit(prompt="a large red heart on a white background"))["id"]
        self.canceled = ""

    def type(self, commands: str) -> str:
        """Run commands in a shell that ends at the first one that fails; what they print."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        environment["XDG_DATA_HOME"] = str(self._running.folder.parent)
        done = subprocess.run(
            ["bash", "-euc", commands.replace(":8700", f":{self._port}")],
            cwd=self._clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def job_for(self, command: str) -> str:
        """The id that a user would put in the place of JOB."""
        if " cancel " in command:
            self.canceled = self._running.submit(prompt="a small blue star", quantity=6)["id"]
            return self.canceled
        if " retry " in command:
            self._running.job_when(self.canceled, "canceled", "partially_succeeded")
            return self.canceled
        return self.done


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """In a folder as `make demo` leaves it, with a Darkroom on the default data folder."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "darkroom").symlink_to(Path(sys.executable).with_name("darkroom"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        assert demo.main() == 0
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-") as home,  # a short path: that of a Unix socket is bounded
        Installation(Path(home) / "darkroom") as running,
    ):
        yield Reader(running, clone)


def test_every_command_of_the_readme_does_what_it_says(reader: Reader) -> None:
    token = next(line for block in BLOCKS for line in block.splitlines() if line.startswith("TOKEN="))
    for block in BLOCKS:
        if MAKE.match(block):
            continue
        if "JOB" in block or " ID " in block:
            for command in block.splitlines():
                reader.type(re.sub(r"\b(JOB…?|ID)(?=[ /]|$)", reader.job_for(command), with_file(command, reader)))
        else:
            reader.type(f"{token}\n{block}")


def with_file(command: str, reader: Reader) -> str:
    """FILE is one that the command before has downloaded."""
    return command.replace("FILE", f"{reader.done}_0.png")


def test_a_submission_with_the_same_key_answers_with_the_same_job(reader: Reader) -> None:
    (block,) = [block for block in BLOCKS if "my-first-job" in block]
    first, second = (json.loads(reader.type(block)) for _ in range(2))
    assert first["id"] == second["id"]


def test_every_target_of_make_in_the_readme_exists() -> None:
    named = {match[1] for block in BLOCKS for line in block.splitlines() if (match := MAKE.match(line)) and match[1]}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "up", "check", "test"} <= named <= targets
