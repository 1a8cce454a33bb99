"""`python -m gpu_worker.demo COMMAND`: train the demo models, measure them, draw the contact sheet.

Each command lists its options with `--help`.
"""

import sys
from collections.abc import Callable
from importlib import import_module

COMMANDS = {
    "train-sdxl": "gpu_worker.demo.images.train",
    "train-wan": "gpu_worker.demo.videos.train",
    "evaluate-sdxl": "gpu_worker.demo.images.evaluate",
    "evaluate-wan": "gpu_worker.demo.videos.evaluate",
    "contact-sheet": "gpu_worker.demo.contact_sheet",
}
"""Modules with `main(argv) -> exit status`, each imported only when used: most import torch."""
USAGE = f"usage: python -m gpu_worker.demo {{{','.join(COMMANDS)}}} [--help]\n"


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        sys.stderr.write(USAGE)
        return 2
    run: Callable[[list[str]], int] = import_module(COMMANDS[arguments[0]]).main
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
