"""Read the catalog files: the shipped one, and the user's own on top of it. Errors name the line."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from domain.recipes.catalog import Catalog, EntryProblem
from domain.validation_words import words_for

HEADER = re.compile(r"^\s*\[(?P<table>[^\[\]]+)\]\s*(#.*)?$")
NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
KEY = re.compile(rf"^\s*(?P<key>{NAME}(?:\s*\.\s*{NAME})*)\s*=")
PIECE = re.compile(NAME)


class CatalogError(Exception):
    """The catalog is invalid; the message names file, line and entry."""

    code = "catalog_invalid"


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """The name of a file as users know it, and its text."""

    name: str
    text: str

    def place_of(self, path: Sequence[str]) -> tuple[int, int]:
        """How many parts of the path the file contains, and the line (from 1) of the deepest; (0, 1) for none."""
        table: tuple[str, ...] = ()
        best = (0, 1)
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := HEADER.match(line):
                table = _pieces(header["table"])
                here = table
            elif key := KEY.match(line):
                here = (*table, *_pieces(key["key"]))
            else:
                continue
            if len(here) > best[0] and tuple(path[: len(here)]) == here:
                best = (len(here), number)
        return best


def read_catalog(*files: CatalogFile) -> Catalog:
    """Merge files in order: a later file adds entries or changes single keys of earlier ones.

    Raises `CatalogError` naming the first invalid entry and its line.
    """
    content: dict[str, Any] = {}
    for file in files:
        try:
            content = _on_top(content, tomllib.loads(file.text))
        except tomllib.TOMLDecodeError as error:
            raise CatalogError(f"{file.name} is not TOML: {error}") from None
    try:
        return Catalog.model_validate(content)
    except ValidationError as error:
        path, detail = _first_problem(error)
    raise CatalogError(f"{_place(files, path)}: {'.'.join((*path, ''))[:-1] or 'the catalog'}: {detail}")


def _first_problem(error: ValidationError) -> tuple[tuple[str, ...], str]:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, EntryProblem):
        return cause.path, str(cause)
    # Pydantic adds the names of unions and constrained types to the location; they are not keys of the file.
    path = tuple(str(part) for part in first["loc"] if "[" not in str(part))
    return path, words_for(first)


def _place(files: Sequence[CatalogFile], path: tuple[str, ...]) -> str:
    """The file that contains most of the path, the later one if equal, and the line."""
    depth, place = -1, ""
    for file in files:
        found, line = file.place_of(path)
        if found >= depth:
            depth, place = found, f"{file.name}, line {line}"
    return place


def _on_top(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _on_top(merged[key], value) if both else value
    return merged


def _pieces(dotted: str) -> tuple[str, ...]:
    return tuple(piece.strip("\"'") for piece in PIECE.findall(dotted))
