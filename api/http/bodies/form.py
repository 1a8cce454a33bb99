"""Reads the single file of a form: with a limit, buffered on disk, and with everything else in the form refused.

`python-multipart` parses; this module decides what happens to the parts. Starlette's `MultiPartParser` stands on the
same library and is as fast, but takes a form without its last boundary for whole, stores the files of all parts before
it refuses any, and looks up the charset that a client names, and Python keeps every unknown name until it ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from api.http.errors import BodyTooLarge, UnsupportedMediaType
from domain.errors import FieldProblem, InvalidInput

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM: Final = "multipart/form-data"

PARTS_MAX: Final = 8
"""Maximum parts of a form. One is expected; the names of a few more are reported."""

NAME_CHARACTERS_MAX: Final = 100

MEMORY_BYTES_MAX: Final = 256 * 1024
"""Bytes of a file kept in memory; a larger one goes to disk as it arrives: a slow client must not hold memory."""

Spool = SpooledTemporaryFile[bytes]


def bytes_of(request: Request, bytes_max: int) -> int:
    """The disk space that the body may need: its declared length, or the maximum without one."""
    length = request.headers.get("content-length", "")
    return min(int(length), bytes_max) if length.isdecimal() and len(length) < 20 else bytes_max


@asynccontextmanager
async def file_of(request: Request, field: str, bytes_max: int) -> AsyncIterator[Spool]:
    """The file in the form's only field. Its name and declared type are ignored.

    Raises `UnsupportedMediaType` if it is not a form, `BodyTooLarge` above `bytes_max` for the whole body, and
    `InvalidInput` with every bad field.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != FORM.encode():
        raise UnsupportedMediaType(request.headers.get("content-type", ""), wanted=FORM)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise BodyTooLarge(bytes_max)
    form = _Form(field)
    with SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX) as spool:
        try:
            parser = MultipartParser(options.get(b"boundary", b""), form.callbacks())
            await _read(request, parser, form, spool, bytes_max)
        except FormParserError as error:
            raise InvalidInput([FieldProblem("body", f"cannot be read as a form: {error}")]) from None
        form.refuse_all_but_one_file()
        spool.seek(0)
        yield spool


async def _read(request: Request, parser: MultipartParser, form: "_Form", spool: Spool, bytes_max: int) -> None:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > bytes_max:  # counted: a chunked body does not declare its length
            raise BodyTooLarge(bytes_max)
        parser.write(chunk)
        await asyncio.to_thread(spool.write, form.take())
    parser.finalize()


class _Form:
    """The form so far: the content of the expected file, and the name and kind of every part."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._parts: list[tuple[str, bool]] = []
        self._header = ("", b"")
        self._disposition = b""
        self._taken = bytearray()
        self._ended = False

    def callbacks(self) -> "MultipartCallbacks":
        """The callbacks for the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def take(self) -> bytes:
        """The file's bytes that arrived since the last call."""
        taken = bytes(self._taken)
        self._taken.clear()
        return taken

    def refuse_all_but_one_file(self) -> None:
        """Raises `InvalidInput` unless the form is complete and has exactly the one file."""
        problems = [
            FieldProblem(name or "body", f"unknown field; the form has the one field `{self._field}`")
            for name in dict.fromkeys(name for name, _ in self._parts)
            if name != self._field
        ]
        wanted = [is_file for name, is_file in self._parts if name == self._field]
        if not self._ended:
            problems.append(FieldProblem("body", "is no whole form: its last boundary is missing"))
        elif not any(wanted):
            given = "as a text" if wanted else "nowhere"
            problems.append(FieldProblem(self._field, f"must be in the form as a file, and is there {given}"))
        elif len(wanted) > 1:
            problems.append(FieldProblem(self._field, f"is there {len(wanted)} times; upload one file at a time"))
        if problems:
            raise InvalidInput(problems)

    def _begin(self) -> None:
        if len(self._parts) == PARTS_MAX:
            raise InvalidInput([FieldProblem("body", f"has more than {PARTS_MAX} parts; upload one file at a time")])
        self._disposition = b""
        self._header = ("", b"")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name + data[start:end].decode("latin-1").lower(), value)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        name, value = self._header
        self._header = (name, value + data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        if name == "content-disposition":
            self._disposition = value
        self._header = ("", b"")

    def _named(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")[:NAME_CHARACTERS_MAX]
        self._parts.append((name, b"filename" in options))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._parts == [(self._field, True)]:
            self._taken += data[start:end]

    def _end(self) -> None:
        self._ended = True
