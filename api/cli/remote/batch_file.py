"""The file of `darkroom batch`: a CSV with a row for each job, or a TOML with `[[items]]`; see docs/cli.md."""

import csv
import io
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import typer

from api.cli.commands.submitting import value_of
from api.cli.remote.files import references_of
from domain.json_type import Json

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Maximum bytes: the server accepts no larger batch."""

COLUMNS: Final = (
    "prompt", "template", "type", "quantity", "seed", "negative", "priority", "tags", "reference", "image", "video",
)  # fmt: skip
"""Columns of a CSV file, in addition to the parameters; named like the options of `darkroom submit`."""

PARAMETER: Final = "set."
"""Prefix of a column with a parameter, as in `set.steps`."""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """The body of a batch, the place of each item in the file, and by its index why an item cannot be sent."""

    body: Json
    places: list[str]
    problems: dict[int, str] = field(default_factory=dict)


def read_batch(file: Path, job_type: str) -> BatchFile:
    """Read the file; items without a job type get `job_type`. Raises `typer.BadParameter` with the place."""
    text = _text_of(file)
    match file.suffix.lower():
        case ".csv":
            read = _of_csv(file, text)
        case ".toml":
            read = _of_toml(file, text)
        case _:
            raise typer.BadParameter(f"{file} is neither a .csv nor a .toml file")
    if not read.body["items"]:
        raise typer.BadParameter(f"{file} has no items")
    for item in read.body["items"]:
        if "job_type" not in item and "model" not in item:
            item["job_type"] = job_type
    return read


def _text_of(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise typer.BadParameter(f"{file} is larger than {FILE_BYTES_MAX:,} bytes; split it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise typer.BadParameter(f"{file} is not UTF-8 (line {line})") from None


def _of_csv(file: Path, text: str) -> BatchFile:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restkey="", restval="")
    items: list[Json] = []
    places: list[str] = []
    problems: dict[int, str] = {}
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        _require_columns(file, names)
        reader.fieldnames = names
        for row in reader:
            place = f"line {reader.line_num}"
            if "" in row:
                raise typer.BadParameter(f"{file}, {place}: more cells than columns; quote cells that hold a comma")
            if any(cell.strip() for cell in row.values()):
                try:
                    item = _item_of(row)
                except typer.BadParameter as error:  # the other rows are sent
                    item, problems[len(items)] = {}, error.message
                items.append(item)
                places.append(_place(place, row.get("template")))
    except csv.Error as error:
        reason = "a quote is not closed" if "unexpected end" in str(error) else error
        raise typer.BadParameter(f"{file}, after line {reader.line_num}: {reason}") from None
    return BatchFile({"name": file.stem, "items": items}, places, problems)


def _require_columns(file: Path, names: Sequence[str]) -> None:
    for name in names:
        if name in COLUMNS or (name.startswith(PARAMETER) and name != PARAMETER):
            continue
        near = get_close_matches(name, COLUMNS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}, and set.NAME for a parameter"
        raise typer.BadParameter(f"{file}, line 1: there is no column {name!r}; {advice}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise typer.BadParameter(f"{file}, line 1: the column {twice} is there twice")
    if "prompt" not in names:
        raise typer.BadParameter(f"{file}, line 1: the column prompt is missing; the first line names the columns")


def _item_of(row: Mapping[str, str]) -> Json:
    """The submission of a row; empty cells are ignored. Raises `typer.BadParameter`."""
    cells = {name: cell.strip() for name, cell in row.items() if cell.strip()}
    media = {name: cells[name] for name in ("image", "video") if name in cells}
    params = {name.removeprefix(PARAMETER): value_of(cells[name]) for name in cells if name.startswith(PARAMETER)}
    references = references_of([cells["reference"]] if "reference" in cells else [])
    item = {
        "prompt": cells.get("prompt", ""),
        "template": cells.get("template"),
        "job_type": cells.get("type"),
        "quantity": _number(cells.get("quantity")),
        "seed": _number(cells.get("seed")),
        "negative_prompt": cells.get("negative"),
        "priority": _number(cells.get("priority")),
        "tags": [tag.strip() for tag in cells["tags"].split(",") if tag.strip()] if "tags" in cells else None,
        "references": references or None,
        "media": media or None,
        "params": params or None,
    }
    return {name: value for name, value in item.items() if value is not None}


def _number(cell: str | None) -> Any:
    """A number; other text goes to the server unchanged, which rejects only that item and says what is allowed."""
    return None if cell is None else value_of(cell)


def _of_toml(file: Path, text: str) -> BatchFile:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not TOML: {error}") from None
    items = content.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise typer.BadParameter(f"{file}: write each job under a heading [[items]]")
    places = [_place(f"item {number}", item.get("template")) for number, item in enumerate(items, 1)]
    return BatchFile({"name": file.stem} | content, places)


def _place(where: str, template: object) -> str:
    return f"{where} ({template})" if isinstance(template, str) and template else where
