"""ARCHITECTURE.md lists every folder with the sentence of its package.

`python -m tests.test_folders` writes that table again.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- The table is written by `python -m tests.test_folders` from the packages' own descriptions. -->\n"
END = "<!-- end of the table -->\n"
TOPS = ("api", "gpu_worker", "services", "projections", "domain", "migrations")


def table() -> str:
    """A row for each package; a folder in another one is indented."""
    rows = []
    for top in TOPS:
        for file in sorted((ROOT / top).rglob("__init__.py"), key=lambda one: one.parent.parts):
            folder = file.parent.relative_to(ROOT)
            indent = "&nbsp;&nbsp;" * (len(folder.parts) - 1)
            rows.append(f"| {indent}`{folder.as_posix()}/` | {_first_paragraph(file)} |\n")
    return "\n| folder | content |\n|---|---|\n" + "".join(rows) + "\n"


def _first_paragraph(file: Path) -> str:
    described = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(described.partition("\n\n")[0].split())


def test_the_page_lists_every_folder_as_it_describes_itself() -> None:
    written = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert written == table(), "run: python -m tests.test_folders"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
