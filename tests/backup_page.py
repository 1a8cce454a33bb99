"""The commands of docs/backup.md, taken from the page and run as they stand there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from services.embedded.postgres import _postgres_bin

PAGE: Final = Path(__file__).parents[1] / "docs" / "backup.md"
BLOCK_S_MAX: Final = 100.0


def commands(name: str) -> str:
    """The block of the page that is marked with this name."""
    block = PAGE.read_text("utf-8").partition(f"<!-- {name} -->\n```sh\n")[2].partition("```\n<!-- end -->")[0]
    assert block, name
    return block


def run(block: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a block in a shell that stops at the first command that fails."""
    programs = [str(_postgres_bin()), str(Path(sys.executable).parent), os.environ["PATH"]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "PG"))}
    return subprocess.run(
        ["sh", "-euc", block],
        env={**kept, "PATH": os.pathsep.join(programs), **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=BLOCK_S_MAX,
    )
