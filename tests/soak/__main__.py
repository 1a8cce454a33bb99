"""`python -m tests.soak --seed 1 --minutes 5`: exit status 1 when a promise was broken."""

import argparse
import logging
import sys
from pathlib import Path

import orjson

from tests.soak.faults import schedule
from tests.soak.figures import table_of
from tests.soak.running import soak

FAULTS_SHOWN = 12


def main() -> int:
    """Soak, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="The chaos soak: see tests/soak.")
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and their order")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long it rains; rest and checks come on top")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--plan", action="store_true", help="show the faults of the seed and do nothing")
    asked = parser.parse_args()
    logging.basicConfig(handlers=[logging.NullHandler()])  # what the supervised servers say is in their own logs
    seconds = 60 * asked.minutes
    if asked.plan:
        print(*schedule(asked.seed, seconds), sep="\n")
        return 0
    soaked = soak(asked.seed, seconds)
    figures = {"seed": soaked.seed, **soaked.figures}
    if asked.json is not None:
        asked.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    print(table_of(figures))
    if soaked.wrong:
        last = "\n".join(map(str, soaked.faults[-FAULTS_SHOWN:]))
        broken = "\n".join(soaked.wrong)
        print(f"\nseed {soaked.seed} broke a promise:\n{broken}\n\nthe last faults:\n{last}\n\n{soaked.folder}")
        return 1
    print(f"\nseed {soaked.seed}: every promise held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
