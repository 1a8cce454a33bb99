"""Names of jobs, assets, prompts and files on the command line."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import typer

PROMPT_BYTES_MAX: Final = 1024 * 1024
"""Maximum bytes of a prompt from a file or stdin; the server's limit is much lower, and it reports that."""


@dataclass(frozen=True, slots=True)
class AssetName:
    """An asset, and its name on the command line."""

    id: str
    text: str


def job_named(text: str) -> str:
    """The id of a job, as the server writes it; for an asset JOB/INDEX its job. Raises `typer.BadParameter`."""
    job, slash, index = text.strip().partition("/")
    if slash and not (index.isascii() and index.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not the id of a job")
    try:
        return str(UUID(job.removeprefix("job:")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not the id of a job") from None


def asset_named(text: str) -> AssetName:
    """An asset: its id, or JOB/INDEX as in 3f2b…/0. Raises `typer.BadParameter`."""
    job, slash, index = text.strip().removeprefix("asset:").partition("/")
    try:
        named = UUID(job)
    except ValueError:
        named = None
    if named is None or (slash and not (index.isascii() and index.isdecimal() and len(index) <= 9)):
        raise typer.BadParameter(f"{text!r} is not an asset: give its id, or JOB/INDEX as in {UUID(int=7)}/0")
    if not slash:
        return AssetName(str(named), str(named))
    from domain.recipes.recipe import asset_id  # noqa: PLC0415 - brings pydantic; most commands start without

    return AssetName(str(asset_id(named, int(index))), f"{named}/{int(index)}")


def source_named(text: str) -> str:
    """A source of a job: media:ID, asset:ID with JOB/INDEX resolved, or the path of a local file.

    Raises `typer.BadParameter`.
    """
    return f"asset:{asset_named(text).id}" if text.startswith("asset:") else text


def prompt_named(text: str) -> str:
    """A prompt: the words, `-` for stdin, `@FILE` for a file's text; `@@` is one @ at the beginning.

    Raises `typer.BadParameter`.
    """
    if text.startswith("@@"):
        return _utf8(text[1:])
    if text == "-":
        return _text_of(sys.stdin.buffer.read(PROMPT_BYTES_MAX + 1), "stdin")
    if not text.startswith("@"):
        return _utf8(text)
    try:
        with Path(text[1:]).open("rb") as file:
            content = file.read(PROMPT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise typer.BadParameter(
            f"cannot read {text[1:]!r}: {reason}. A prompt that begins with @ is written with @@"
        ) from None
    return _text_of(content, text[1:])


def _text_of(content: bytes, place: str) -> str:
    if len(content) > PROMPT_BYTES_MAX:
        raise typer.BadParameter(f"{place} is too long for a prompt")
    try:
        prompt = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{place} is not UTF-8") from None
    if not prompt:
        raise typer.BadParameter(f"{place} is empty")
    return prompt


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("the prompt is not UTF-8") from None
    return text
