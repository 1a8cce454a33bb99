"""The `darkroom` command. Exit status 0: success, 1: failure, 2: bad usage or settings, 130: interrupted."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer
from typer.exceptions import Abort, TyperException

from api.cli.commands import curating, fleet, installation, reading, signing_in, submitting, users
from api.cli.commands.installation import Service as Service
from api.cli.environment import warning_about
from api.cli.terminal import FAILED, INTERRUPTED, PIPE_CLOSED, PROGRAM, USAGE, complain, show_whatever_comes
from services.gc_tuning import collect_seldom

app = typer.Typer(
    name=PROGRAM,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: Sequence[Callable[..., None]] = (
    submitting.submit, submitting.batch, submitting.retry, submitting.enhance, submitting.upload,
    reading.jobs, reading.show, reading.watch, reading.history, reading.download, reading.cancel,
    reading.library, reading.types, reading.models, reading.params,
    curating.rate, curating.save, curating.title, curating.tag, curating.trash, curating.restore, curating.purge,
    fleet.workers, fleet.pause, fleet.drain, fleet.resume, fleet.priority,
    installation.up, installation.run, installation.rebuild, installation.verify, installation.migrate,
    installation.restored,
)  # fmt: skip
WRITING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a disk or a device that an output goes to."""

for command in COMMANDS:
    app.command()(command)
app.command(name="sign-in")(signing_in.sign_in)
app.command(name="export")(installation.export)
app.command(name="import")(installation.import_bundle)
app.command(name="doctor")(installation.find_faults)
app.command(name="settings")(installation.list_settings)
app.add_typer(users.app, name="users")


def main() -> None:
    """Run the command of `sys.argv` and exit with its status."""
    collect_seldom()
    show_whatever_comes()
    sys.exit(status_of(sys.argv[1:]))


def status_of(arguments: list[str]) -> int:
    """Run a command and return its exit status; errors are one line on stderr, never a traceback."""
    try:
        return _run(arguments)
    except TyperException as error:
        complain(usage_text(error))
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer caught it first
            return PIPE_CLOSED
        raise
    except BrokenPipeError:  # `darkroom jobs | head`: the reader has enough
        _write_no_more()
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get("DARKROOM_LOG_LEVEL", "").upper() == "DEBUG":
            raise
        return _explained(error)


def _explained(error: Exception) -> int:
    """Say in one line what is wrong; returns the exit status. Our errors have a stable code and a sentence."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        complain(str(error))
    elif isinstance(error, OSError) and error.errno in WRITING and error.filename is None:
        _write_no_more()
        complain(f"cannot write the output: {error.strerror}.")
    else:
        complain(f"unexpected {type(error).__name__}: {error}. DARKROOM_LOG_LEVEL=DEBUG shows where it came from.")
    return USAGE if code == "settings_invalid" else FAILED


def _write_no_more() -> None:
    """Discard what stdout still holds: Python would fail once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    status = int(app(arguments, standalone_mode=False, prog_name=PROGRAM) or 0)
    sys.stdout.flush()  # here, where a broken pipe is handled
    return status


def usage_text(error: TyperException) -> str:
    """The error of a command line, as one sentence."""
    _put_in_own_words(error)
    text = " ".join(error.format_message().split())
    for prefix in ("Invalid value: ", "Value error, "):
        text = text.removeprefix(prefix)
    return f"{text.rstrip('.?')}. See `darkroom --help`."


def _put_in_own_words(error: TyperException) -> None:
    """Replace pydantic's message about a bad value by our own."""
    from pydantic import ValidationError  # noqa: PLC0415 - where something is wrong it is loaded already

    from domain.validation_words import words_for  # noqa: PLC0415

    if isinstance(error.__cause__, ValidationError):
        error.message = words_for(error.__cause__.errors(include_url=False)[0])


@app.callback(invoke_without_command=True)
def darkroom(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A self-hosted ledger for AI image and video generation: every generation is accounted for."""
    if show_version:
        from importlib.metadata import version  # noqa: PLC0415 - takes longer than all of the help

        typer.echo(f"{PROGRAM} {version('darkroom')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif (warning := warning_about(os.environ)) is not None:
        complain(warning)
