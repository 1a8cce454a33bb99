"""Logs: one entry per line on stderr, as text or JSON. The context of an entry follows the work.

`about(job_id=…, attempt=…)` sets fields for every entry inside it, also in threads of `asyncio.to_thread`. Secrets are
removed last, from the finished entry. Prompts are never logged.
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

from services.observability.redaction import secrets_of, without_secrets

FORMAT_VARIABLE: Final = "DARKROOM_LOG_FORMAT"

LogFormat = Literal["text", "json"]

_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("darkroom_about", default=MappingProxyType({}))


class about:  # noqa: N801 - reads as a word: `with about(job_id=…):`
    """Adds these fields to the outer ones for every entry in this block and in tasks that it starts."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _ABOUT.set({**_ABOUT.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _ABOUT.reset(self._token)


def about_job(job_id: UUID, attempt: int | None = None, **fields: object) -> about:
    """`about` for a job, with its id as correlation id of its events."""
    known = {} if attempt is None else {"attempt": attempt}
    return about(job_id=job_id, correlation_id=job_id, **known, **fields)


def log_to_stderr(level: str, log_format: LogFormat, logger: logging.Logger | None = None) -> None:
    """Write the entries of `logger`, by default all, to stderr; replaces an earlier call."""
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
    """Time in UTC, level, logger, message and fields. Further lines of an entry are indented."""

    converter = time.gmtime  # type: ignore[assignment]  # as the library itself says to do

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        """`secrets` are removed from every entry."""
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        head, *rest = super().format(record).replace("\r", "\\r").split("\n")
        known = _ABOUT.get()
        told = [name for name in known if name != "correlation_id" or known[name] != known.get("job_id")]
        fields = " ".join(f"{name}={known[name]}" for name in told)
        # Only entries begin at the margin, so that input from a client cannot look like one.
        return without_secrets("\n    ".join([f"{head} [{fields}]" if fields else head, *rest]), self._secrets)


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, fields, and the stack of an exception."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        """`secrets` are removed from every entry."""
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
