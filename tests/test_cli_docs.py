"""docs/cli.md lists every command with its options, as the program itself describes them.

`python -m tests.test_cli_docs` writes that part of the page again.
"""

import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from api.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN = "<!-- From here on the page is written by `python -m tests.test_cli_docs`. -->\n"


def described() -> str:
    """Every command in Markdown, from the help that `darkroom COMMAND --help` prints."""
    command = typer.main.get_command(app)
    context = command.make_context("darkroom", [], resilient_parsing=True)
    pages = get_docs_for_click(obj=command, ctx=context, name="darkroom", title="Commands", indent=1)
    return "\n".join(line.rstrip() for line in pages.rstrip().splitlines()) + "\n"


def test_the_page_describes_every_command_as_the_program_does() -> None:
    written = PAGE.read_text("utf-8").partition(BEGIN)[2].strip()
    assert written == described().strip(), "run: python -m tests.test_cli_docs"


def test_every_command_says_what_it_does_in_one_line_of_help() -> None:
    command = typer.main.get_command(app)
    for name, each in command.commands.items():  # type: ignore[attr-defined]
        first = (each.help or "").splitlines()[0]
        assert first.endswith("."), name
        assert len(first) <= 80, name


if __name__ == "__main__":
    text = PAGE.read_text("utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{text}{BEGIN}\n{described()}", encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
