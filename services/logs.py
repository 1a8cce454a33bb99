"""Logs: one entry a line on stderr, for people or, as JSON, for programs. What an entry is about travels with the work.

`about(job_id=…, attempt=…)` names it once; every entry written inside has it, also in threads of `asyncio.to_thread`.
No secret gets through: what looks like one is taken out last, after the entry is written. Prompts are never logged.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID

import orjson

from services.redaction import secrets_of, without_secrets

FORMAT_VARIABLE: Final = "DARKROOM_LOG_FORMAT"

LogFormat = Literal["text", "json"]

_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("darkroom_about", default=MappingProxyType({}))


class about:  # noqa: N801 - reads as a word: `with about(job_id=…):`
    """Every entry in this block, and in what it starts, has these fields beside those from around it."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _ABOUT.set({**_ABOUT.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _ABOUT.reset(self._token)


def about_job(job_id: UUID, attempt: int | None = None, **fields: object) -> about:
    """The same for a job, whose id is also the correlation id of its events."""
    known = {} if attempt is None else {"attempt": attempt}
    return about(job_id=job_id, correlation_id=job_id, **known, **fields)


def log_to_stderr(level: str, log_format: LogFormat, logger: logging.Logger | None = None) -> None:
    """Write what `logger` hears, by default everything; in place of what an earlier call arranged."""
    heard = logger or logging.getLogger()
    secrets = secrets_of(os.environ)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(secrets) if log_format == "json" else TextLines(secrets))
    for before in [one for one in heard.handlers if isinstance(one.formatter, TextLines | JsonLines)]:
        heard.removeHandler(before)
    heard.addHandler(handler)
    heard.setLevel(level)
    heard.propagate = False


class TextLines(logging.Formatter):
    """Time in UTC, level, where from, words, and what it is about. Further lines of an entry are indented."""

    converter = time.gmtime  # type: ignore[assignment]  # as the library itself says to do

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        """`secrets` never appear, whatever an entry says."""
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        head, *rest = super().format(record).replace("\r", "\\r").split("\n")
        known = _ABOUT.get()
        told = [name for name in known if name != "correlation_id" or known[name] != known.get("job_id")]
        fields = " ".join(f"{name}={known[name]}" for name in told)
        # An entry begins at the margin: what a client sent cannot look like one.
        return without_secrets("\n    ".join([f"{head} [{fields}]" if fields else head, *rest]), self._secrets)


class JsonLines(logging.Formatter):
    """An object a line: time, level, logger, message, what it is about, and the stack of an exception."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        """`secrets` never appear, whatever an entry says."""
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage(), self._secrets),
            **_ABOUT.get(),
        }
        if record.exc_info:
            entry["exception"] = without_secrets(self.formatException(record.exc_info), self._secrets)
        return orjson.dumps(entry, default=str).decode()
