"""`make demo`: everything on a temporary data folder, with real images, a video and a history; then all of it stops."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from api.cli.terminal import program

PROMPT = "three small green triangles on a white background"
QUANTITY = 3

VIDEO_PROMPT = "a blue star moving left to right on a white background"
SHORT = ("--type", "video_fast", "--set", "frames=9", "--set", "steps=15")
"""One second of video, in a few seconds on two cores."""

OUTPUT = Path("demo-output")
"""The images stay here when the data folder is deleted."""

IMAGE, VIDEO = OUTPUT / "triangles.png", OUTPUT / "star.mp4"
"""Copies under fixed names: the README's next steps use them."""

READY_S_MAX = 180.0
JOB_S_MAX = 600.0
STOP_S_MAX = 60.0
LOOK_S = 0.1
LOG_LINES_SHOWN = 40


class DemoFailed(Exception):
    """A step of the demo failed."""


def main() -> int:
    """Run the demo and return its exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # a signal to end the demo shuts it down in order, as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    # Its path is short, since the path of a Unix socket in it is limited.
    folder = Path(tempfile.mkdtemp(prefix="darkroom-demo-"))
    try:
        with darkroom_up(folder):
            job_id = make_images(folder)
            make_video(folder)
            say(f"\nEvery step of it, from the ledger:\n$ darkroom history {job_id}")
            command(folder, "history", job_id)
            say("\nIs the ledger whole?\n$ darkroom verify")
            command(folder, "verify")
        say(f"\nStopped. What was made is in {OUTPUT.absolute()}:")
        for file in (*sorted(OUTPUT.glob(f"{job_id}_*")), IMAGE, VIDEO):
            say(f"  {file}")
        say(what_next())
    except DemoFailed as failure:
        sys.stderr.write(f"\ndarkroom: the demo failed: {failure}\n{log_tail(folder)}")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndarkroom: the demo was interrupted and stopped.\n")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


@contextmanager
def darkroom_up(folder: Path) -> Iterator[None]:
    """`darkroom up` on the folder, from its ready line until it has stopped. Raises `DemoFailed`."""
    say(f"Starting Postgres, NATS, the services and a worker on {folder} …")
    with (folder / "up.out").open("wb") as out, (folder / "up.log").open("wb") as log:
        # In its own session: Ctrl-C reaches this process, which then stops that one in order.
        process = subprocess.Popen(  # noqa: S603 - our own module
            darkroom("up", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", "0"),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            env=own_environment(),
            start_new_session=True,
        )
    try:
        wait_until_ready(process, folder)
        yield
    finally:
        stop(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Return once it has printed its ready line. Raises `DemoFailed` if it ends or prints nothing for too long."""
    deadline = time.monotonic() + READY_S_MAX
    while not re.search(r"^.*\bready\b.*\n", (folder / "up.out").read_text("utf-8", "replace"), re.MULTILINE):
        if process.poll() is not None:
            raise DemoFailed(f"`darkroom up` ended with status {process.returncode}.")
        if time.monotonic() > deadline:
            raise DemoFailed(f"`darkroom up` was not ready within {READY_S_MAX:g} s.")
        time.sleep(LOOK_S)


def make_images(folder: Path) -> str:
    """Submit a job, show its progress, keep its images; returns the job's id. Raises `DemoFailed`."""
    before = set(OUTPUT.glob("*_*.png"))
    say(f'\n$ darkroom submit "{PROMPT}" --quantity {QUANTITY} --watch --out {OUTPUT}')
    command(folder, "submit", PROMPT, "--quantity", str(QUANTITY), "--watch", "--out", str(OUTPUT))
    made = sorted(set(OUTPUT.glob("*_*.png")) - before)
    if len(made) != QUANTITY or not all(image.read_bytes().startswith(b"\x89PNG") for image in made):
        raise DemoFailed(f"{QUANTITY} PNGs were to be made, {len(made)} came.")
    shutil.copyfile(made[0], IMAGE)
    return made[0].stem.rpartition("_")[0]


def make_video(folder: Path) -> None:
    """Submit a short video, show its progress, keep it. Raises `DemoFailed`."""
    say(f'\n$ darkroom submit "{VIDEO_PROMPT}" {" ".join(SHORT)} --watch --out {OUTPUT}')
    before = set(OUTPUT.glob("*_*.mp4"))
    command(folder, "submit", VIDEO_PROMPT, *SHORT, "--watch", "--out", str(OUTPUT))
    made = set(OUTPUT.glob("*_*.mp4")) - before
    if len(made) != 1:
        raise DemoFailed(f"one video was to be made, {len(made)} came.")
    shutil.copyfile(made.pop(), VIDEO)


def what_next() -> str:
    """The next commands to try, ready to paste in this folder."""
    here = program()
    return (
        "\nNext, run Darkroom until you press Ctrl-C:\n"
        "  make up\n"
        "and in a second terminal, in this folder:\n"
        f'  {here} submit "a large red heart on a white background" --quantity 3 --seed 42 --watch\n'
        f'  {here} submit "three blue circles on a white background" --reference composition={IMAGE}@0.7 --watch\n'
        f'  {here} submit "{VIDEO_PROMPT}" --type video_fast --video {VIDEO} --watch\n'
        f"  {here} jobs"
    )


def command(folder: Path, *arguments: str) -> None:
    """Run a command against the demo's server. Raises `DemoFailed` if it fails or takes too long."""
    name = arguments[0]
    whole = darkroom(*arguments, "--data-dir", str(folder))
    try:
        status = subprocess.run(whole, env=own_environment(), timeout=JOB_S_MAX, check=False).returncode  # noqa: S603 - our own module
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"`darkroom {name}` did not end within {JOB_S_MAX:g} s.") from None
    if status:
        raise DemoFailed(f"`darkroom {name}` ended with status {status}.")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt it like Ctrl-C, and check that it ended well. Raises `DemoFailed` if it did not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        status = process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise DemoFailed(f"`darkroom up` did not stop within {STOP_S_MAX:g} s.") from None
    if status:
        raise DemoFailed(f"`darkroom up` ended with status {status}.")


def darkroom(*arguments: str) -> Sequence[str]:
    """The command of this installation, regardless of the PATH."""
    return [sys.executable, "-m", "api.cli", *arguments]


def own_environment() -> dict[str, str]:
    """This environment without variables that point to another Darkroom; the demo has its own servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}


def log_tail(folder: Path) -> str:
    """The last lines of all logs."""
    tails = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
        tails += [f"--- the end of {log.name}", *lines] if lines else []
    return "\n".join([*tails, ""])


def say(text: str) -> None:
    """Print a line to stdout immediately."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
