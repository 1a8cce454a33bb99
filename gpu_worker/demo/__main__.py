"""`python -m gpu_worker.demo COMMAND`: train the demo models, evaluate them, draw the contact sheet.

Each command says its options with `--help`. Given a folder instead, the model of random weights is built there.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gpu_worker.demo import build_demo_sdxl

COMMANDS = {
    "train-sdxl": "gpu_worker.demo.train_images",
    "train-wan": "gpu_worker.demo.train_videos",
    "evaluate": "gpu_worker.demo.evaluate",
    "evaluate-wan": "gpu_worker.demo.evaluate_motion",
    "contact-sheet": "gpu_worker.demo.contact_sheet",
}
"""Each is a module with `main(argv) -> exit status`, imported when it is asked for: most bring torch."""
USAGE = f"usage: python -m gpu_worker.demo {{{','.join(COMMANDS)}}} [--help]\n       python -m gpu_worker.demo FOLDER\n"


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    if not arguments:
        sys.stderr.write(USAGE)
        return 2
    if arguments[0] in COMMANDS:
        run: Callable[[list[str]], int] = import_module(COMMANDS[arguments[0]]).main
        return run(arguments[1:])
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 2
    return build(Path(arguments[0]))


def build(folder: Path) -> int:
    """Build the random-weights model; quick when it is there already. Prints one line."""
    try:
        built = build_demo_sdxl(folder)
    except OSError as error:
        sys.stderr.write(f"The demo model cannot be built in {folder}: {error}\n")
        return 1
    sys.stdout.write(f"The demo model is {'built' if built else 'ready'} in {folder}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
