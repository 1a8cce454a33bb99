"""Third-party libraries for the pages: listed in `vendor/manifest.json` with versions, licences and hashes.

`make vendor` fetches each from npm, in the version of the manifest, and writes the hashes: change a version there, run
it, read the difference, commit both.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("vendor")
MANIFEST: Final = FOLDER / "manifest.json"
FETCH_S_MAX: Final = 300.0


def manifest() -> dict[str, Any]:
    """The libraries by name: `version`, `licence`, and the SHA-256 of each file."""
    content: dict[str, Any] = json.loads(MANIFEST.read_text("utf-8"))
    return content


def renew() -> None:
    """Fetch every library of the manifest, replace its files, and write their hashes. Raises `CalledProcessError`."""
    libraries = manifest()
    for name, library in libraries.items():
        with tempfile.TemporaryDirectory() as folder:
            _fetch(f"{name}@{library['version']}", Path(folder))
            for file in library["files"]:
                content = (Path(folder) / "package" / file).read_bytes()
                (FOLDER / name).mkdir(exist_ok=True)
                (FOLDER / name / file).write_bytes(content)
                library["files"][file] = hashlib.sha256(content).hexdigest()
    MANIFEST.write_text(json.dumps(libraries, indent=2) + "\n", "utf-8")


def _fetch(package: str, folder: Path) -> None:
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    subprocess.run(command, check=True, timeout=FETCH_S_MAX, stdout=subprocess.DEVNULL)  # noqa: S603
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")


if __name__ == "__main__":
    renew()
    sys.exit(0)
