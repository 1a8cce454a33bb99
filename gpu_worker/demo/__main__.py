"""`python -m gpu_worker.demo FOLDER` builds the demo model there; quick when it is there already."""

import sys
from pathlib import Path

from gpu_worker.demo import build_demo_sdxl


def main(arguments: list[str]) -> int:
    """Print one line and return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gpu_worker.demo FOLDER\n")
        return 2
    folder = Path(arguments[0])
    try:
        built = build_demo_sdxl(folder)
    except OSError as error:
        sys.stderr.write(f"The demo model cannot be built in {folder}: {error}\n")
        return 1
    sys.stdout.write(f"The demo model is {'built' if built else 'ready'} in {folder}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
