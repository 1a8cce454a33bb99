"""`python -m benchmarks [ROW …] [--rounds N] [--quick]`: measure and print one table."""

import argparse
import sys

from benchmarks import appends, attacks, broadcast, decide, events, lists, noop, start, submit, views, worker
from benchmarks.contest import Result, Row, run
from benchmarks.stage import stage
from services.gc_tuning import collect_seldom

ROWS: list[Row] = [
    *appends.ROWS,
    *views.ROWS,
    *decide.ROWS,
    *submit.ROWS,
    *lists.ROWS,
    *noop.ROWS,
    *events.ROWS,
    *broadcast.ROWS,
    *start.ROWS,
    *worker.ROWS,
    *attacks.ROWS,
]


def main(arguments: list[str]) -> int:
    """Measure the rows asked for, one after the other. The exit status is 0 also where a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Darkroom compared with its peers, in ratios."
    )
    parser.add_argument("row", nargs="*", help="rows or beginnings of rows: " + ", ".join(row.name for row in ROWS))
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side; their median counts")
    parser.add_argument("--quick", action="store_true", help="short and rough: to see that everything runs")
    asked = parser.parse_args(arguments)
    for name in asked.row:
        if not any(row.name.startswith(name) for row in ROWS):
            parser.error(f"there is no row {name!r}; the rows are {', '.join(row.name for row in ROWS)}")
    collect_seldom()  # as every program of ours, and for both sides: they share this process
    rows = [row for row in ROWS if not asked.row or row.name.startswith(tuple(asked.row))]
    print(HEADER, flush=True)
    with stage(quick=asked.quick) as opened:
        for row in rows:
            print(line(run(row, opened, 1 if asked.quick else max(1, asked.rounds))), flush=True)
    print(FOOTER)
    return 0


HEADER = "| row | unit | ours | slowest … fastest | peer | its figure | ratio | target | met |\n" + "|---" * 9 + "|"

FOOTER = """
Medians; the two sides take turns. Both run with fsync and synchronous_commit on, on one embedded Postgres over its unix
socket. Left out: networks between machines, disks slower than this one, tables larger than memory, other work on the
machine. benchmarks/README.md says more about each row."""


def line(result: Result) -> str:
    """A row of the table, in Markdown."""
    row = result.row
    low, high = result.spread
    cells = (
        row.name,
        row.unit,
        figure(result.ours),
        f"{figure(low)} … {figure(high)}",
        row.peer,
        "—" if result.peer is None else figure(result.peer),
        "—" if result.ratio is None else f"{result.ratio:.2f}",
        str(row.target),
        "yes" if result.met else "NO",
    )
    return f"| {' | '.join(cells)} |"


def figure(value: float) -> str:
    """Three decimals for small figures, none for large ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
