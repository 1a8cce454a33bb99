"""Reads a JSON body: with a limit, completely, and with the path of every problem."""

from typing import Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from api.http.errors import BodyTooLarge, MalformedJson, UnsupportedMediaType
from domain.errors import FieldProblem, InvalidInput
from domain.json_type import Json
from domain.validation_words import words_for

BODY_BYTES_MAX: Final = 1024 * 1024
"""Maximum bytes of a body: a submission is a few kB; files are uploaded separately."""

MEMBERS_MAX: Final = 256
"""Maximum members of an object in a body. Each unknown one becomes a problem in the answer, and no call has a tenth as
many."""

ELEMENTS_MAX: Final = 1_000
"""Maximum elements of a list in a body: the items of a batch are the longest one."""

BodyT = TypeVar("BodyT", bound=BaseModel)


async def read_object(request: Request) -> Json:
    """The JSON object in the request's body.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `MalformedJson`, and `InvalidInput` if it is not an object or
    contains a NUL character, which Postgres cannot store.
    """
    raw = await _read(request, BODY_BYTES_MAX)
    return _without_nul(_parsed(request, raw), raw)


async def read_unchecked(request: Request, bytes_max: int) -> Json:
    """The same for a body of another size, which may contain NUL characters: `nul_problems` finds them part by part."""
    return _parsed(request, await _read(request, bytes_max))


def nul_problems(content: Json) -> list[FieldProblem]:
    """A problem for each NUL character in a body, which Postgres cannot store."""
    return [FieldProblem(path, "must not hold a NUL character") for path in _paths_with_nul(content)]


def require_few(content: Json, path: str = "body") -> None:
    """Refuse an object that has, or contains one with, more members or elements than any call can take.

    This runs before each of them is checked. Raises `InvalidInput`.
    """
    within = content.items() if len(content) <= MEMBERS_MAX else ()
    problems = []
    for name, value in ((path, content), *within):
        if isinstance(value, dict) and len(value) > MEMBERS_MAX:
            problems.append(FieldProblem(name, f"has {len(value)} members; at most {MEMBERS_MAX} are taken"))
        elif isinstance(value, list) and len(value) > ELEMENTS_MAX:
            problems.append(FieldProblem(name, f"has {len(value)} elements; at most {ELEMENTS_MAX} are taken"))
    if problems:
        raise InvalidInput(problems)


async def read_nothing(request: Request) -> None:
    """Refuse a body that would be ignored; an empty one or `{}` is fine."""
    raw = await _read(request, BODY_BYTES_MAX)
    if raw.strip() not in {b"", b"{}", b"null"}:
        raise InvalidInput([FieldProblem("body", "this call takes no body")])


async def read_body(request: Request, kind: type[BodyT]) -> BodyT:
    """The body as `kind`. Raises what `read_object` raises, and `InvalidInput` with every bad field."""
    return _validated(await read_object(request), kind)


async def read_optional(request: Request, kind: type[BodyT]) -> BodyT:
    """The same if the body is optional: without one every field has its default."""
    raw = await _read(request, BODY_BYTES_MAX)
    return _validated({} if not raw.strip() else _without_nul(_parsed(request, raw), raw), kind)


def problems_of(error: ValidationError) -> list[FieldProblem]:
    """Every bad field of a body, with its path in the body: `references.0.strength`."""
    return [
        FieldProblem(".".join(str(part) for part in one["loc"]) or "body", words_for(one))
        for one in error.errors(include_url=False, include_input=False)
    ]


def _validated(content: Json, kind: type[BodyT]) -> BodyT:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)) from None


def _parsed(request: Request, raw: bytes) -> Json:
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(media_type)
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(content, dict):
        raise InvalidInput([FieldProblem("body", "must be a JSON object")])
    require_few(content)
    return content


def _without_nul(content: Json, raw: bytes) -> Json:
    if b"\\u0000" in raw:  # the only way to write one in JSON
        problems = nul_problems(content)
        if problems:
            raise InvalidInput(problems)
    return content


async def _read(request: Request, bytes_max: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise BodyTooLarge(bytes_max)
    chunks: list[bytes] = []
    total = 0
    async for chunk in request.stream():  # counted too: a chunked body does not declare its length
        total += len(chunk)
        if total > bytes_max:
            raise BodyTooLarge(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def _paths_with_nul(content: Json) -> list[str]:
    """Paths of strings with a NUL. Not recursive: a body may nest deeper than Python's recursion limit."""
    found: list[str] = []
    left: list[tuple[str, object]] = [("", content)]
    while left:
        path, value = left.pop()
        if isinstance(value, str):
            found += [path] if "\0" in value else []
        elif isinstance(value, dict):
            left += [(f"{path}.{name}".lstrip("."), inner) for name, inner in value.items()]
            found += [f"{path}.{name}".lstrip(".") for name in value if "\0" in name]
        elif isinstance(value, list):
            left += [(f"{path}.{index}", inner) for index, inner in enumerate(value)]
    return [path.replace("\0", "\N{SYMBOL FOR NULL}") for path in found]
