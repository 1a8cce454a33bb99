"""Output: data on stdout, messages for people on stderr; safe for any terminal, file or pipe."""

import codecs
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import typer

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""Exit statuses, documented in docs/cli.md. The last one is that of a program that SIGPIPE ended."""

PROGRAM: Final = "darkroom"

WIDTH_MIN: Final = 20
"""Minimum width in columns; a narrower terminal breaks the lines itself."""

_IN_ASCII: Final = {"…": "...", "━": "-", "\N{MULTIPLICATION SIGN}": "x", "\N{REPLACEMENT CHARACTER}": "?"}
"""Replacements of our own characters, for an output that has only ASCII."""

_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_FLAG: Final = re.compile("\N{WAVING BLACK FLAG}[\U000e0020-\U000e007e]{1,16}\U000e007f")
"""Flags such as Scotland's are spelled with invisible characters."""

_OF_OURS: Final = re.compile(r"(`|: )darkroom (?=[a-z])")


def show_whatever_comes() -> None:
    """Replace characters that an output cannot show instead of failing. Call once, when the program starts.

    What goes to a closed output, as with `>&-`, is discarded.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the program ends
    codecs.register_error("darkroom.shown", _replaced)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="darkroom.shown")


def say(text: str) -> None:
    """Print a line of data to stdout."""
    typer.echo(text)


def complain(sentence: str) -> None:
    """Print a sentence to stderr; commands in it are ready to paste."""
    typer.echo(f"{PROGRAM}: {pasteable(sentence)}", err=True)


def print_json(value: object) -> None:
    """Print JSON to stdout, escaped if the output has no Unicode."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=not unicode))


def printable(text: object) -> str:
    """The text on one line without control characters: a prompt must not control the terminal.

    Joined emoji and letters stay joined. Invisible characters, and those that change the order of surrounding text,
    become �; every kind of space becomes a space.
    """
    said = str(text)
    kept = {at for flag in _FLAG.finditer(said) for at in range(*flag.span())}
    return "".join(letter if at in kept else _shown(said, at) for at, letter in enumerate(said))


def _shown(said: str, at: int) -> str:
    letter = said[at]
    if letter.isprintable():
        return letter
    if letter in _JOINERS and 0 < at < len(said) - 1 and _joins(said[at - 1]) and _joins(said[at + 1]):
        return letter
    if letter.isspace() and letter not in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        return " "
    return "\N{REPLACEMENT CHARACTER}"


def _joins(letter: str) -> bool:
    return letter.isprintable() and not letter.isspace()


def width_of_stdout() -> int | None:
    """The width of the terminal, or COLUMNS; None for a file or a pipe."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(WIDTH_MIN, int(columns))
    if not sys.stdout.isatty():
        return None
    return max(WIDTH_MIN, shutil.get_terminal_size().columns)


def program() -> str:
    """The name of this program: `darkroom` if the shell finds this one under that name, else its path."""
    typed = Path(sys.argv[0])
    if typed.name != PROGRAM:  # python -m api.cli: the command of that Python
        typed = Path(sys.executable).with_name(PROGRAM)
    on_path = shutil.which(PROGRAM)
    if not typed.is_file() or (on_path is not None and os.path.samefile(on_path, typed)):
        return PROGRAM
    if typed.is_absolute() and typed.is_relative_to(Path.cwd()):
        typed = typed.relative_to(Path.cwd())
    return shlex.quote(str(typed))


def command(*words: str) -> str:
    """A command of this program, ready to paste into a shell."""
    return f"{program()} {shlex.join(words)}"


def pasteable(sentence: str) -> str:
    """The sentence with its commands, such as `darkroom up`, under the program's name here."""
    return _OF_OURS.sub(lambda found: f"{found[1]}{program()} ", sentence)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(letter, "?") for letter in text), error.end
