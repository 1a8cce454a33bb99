"""Convert rendering errors to what the ledger records."""

import logging
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import FrameType

from domain.events import ErrorClass, ErrorContext, Failure
from gpu_worker.engines import (
    InvalidRequest,
    ModelUnavailable,
    OutOfMemory,
    PredictionFailed,
    ProviderUnavailable,
    UnusableOutput,
)
from services.files.blobs import BlobMissing, BlobStoreUnavailable
from services.files.decoders.bounded import DecodingUnavailable
from services.observability.redaction import one_line, redacted

MESSAGE_CHARS_MAX = 500
"""Maximum characters of an error's message in the ledger; libraries append pages to theirs."""

STACK_CHARS_MAX = 4_000
"""Maximum characters of a stack, about forty frames: the innermost ones, and the engine that called them."""

CAUSES_MAX = 4
LINE_CHARS_MAX = 300


def failure_of(error: BaseException, log: logging.Logger, *, worker: str, versions: Mapping[str, str]) -> Failure:
    """Error class, message and context for the ledger, without secrets.

    Logs a line, with the stack if the error was unexpected.
    """
    context = ErrorContext(
        exception=name_of(error),
        stack=stack_of(error),
        worker=worker,
        versions=dict(versions),
        at=datetime.now(UTC),
    )
    error_class, message = class_of(error), one_line(error, MESSAGE_CHARS_MAX)
    if error_class is ErrorClass.INTERNAL and not isinstance(error, UnusableOutput | PredictionFailed):
        message = f"{type(error).__name__}: {message}"
        log.error("unforeseen %s:\n%s", context.exception, context.stack)
    log.error("%s: %s", error_class, message)
    return Failure(error_class=error_class, message=message, context=context)


def class_of(error: BaseException) -> ErrorClass:
    """The error class for the retry policy."""
    match error:
        case ModelUnavailable():
            return ErrorClass.MODEL_UNAVAILABLE
        case OutOfMemory():
            return ErrorClass.OUT_OF_MEMORY
        case InvalidRequest():
            return ErrorClass.INVALID_INPUT
        case BlobStoreUnavailable() | BlobMissing() | ProviderUnavailable() | DecodingUnavailable():
            return ErrorClass.TRANSIENT
        case _:
            return ErrorClass.INTERNAL


def name_of(error: BaseException) -> str:
    """The exception's class with its module."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def stack_of(error: BaseException) -> str:
    """The frames of the error, innermost last, its cause's first; outer frames are dropped beyond the limit.

    File names start at their package: the installation path says more about the machine than about the error.
    """
    lines = [without_home(redacted(line))[:LINE_CHARS_MAX] for line in lines_of(error)]
    chars = 0
    for kept, line in enumerate(reversed(lines)):
        chars += len(line) + 1
        if chars > STACK_CHARS_MAX:
            return "\n".join(["…", *lines[len(lines) - kept :]])
    return "\n".join(lines)


def without_home(line: str) -> str:
    """The line with `~` for the home folder of the worker's user."""
    home = str(Path.home())
    return line if home == "/" else line.replace(home, "~")


def lines_of(error: BaseException, causes_left: int = CAUSES_MAX) -> Iterator[str]:
    """A line for each frame and each cause, and the error's own text."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and causes_left:
        yield from lines_of(cause, causes_left - 1)
        yield "which led to:" if error.__cause__ else "in handling which:"
    for frame, line_number in traceback.walk_tb(error.__traceback__):
        yield f"{file_of(frame)}:{line_number} in {frame.f_code.co_name}"
    yield f"{name_of(error)}: {one_line(error, MESSAGE_CHARS_MAX)}"


def file_of(frame: FrameType) -> str:
    """The frame's file from its package on, as in `gpu_worker/engines/diffusers/sdxl.py`."""
    path = PurePath(frame.f_code.co_filename)
    module = str(frame.f_globals.get("__name__", ""))
    depth = module.count(".") + (2 if path.name == "__init__.py" else 1)
    return "/".join(path.parts[-depth:])
