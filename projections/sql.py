"""Named SQL: the `.sql` file of a module has blocks that begin with `-- name: something`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import resources
from typing import Any, LiteralString, cast

BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str, package: str = "projections", **parts: LiteralString) -> Mapping[str, LiteralString]:
    """The blocks of a packaged `.sql` file by name. Text before the first block is a comment.

    With parts, `{name}` in a block stands for the part of that name; without, braces are left as they are.
    """
    text = resources.files(package).joinpath(file).read_text("utf-8")
    named = BLOCK.split(text)[1:]
    blocks = {name: cast("LiteralString", sql.strip()) for name, sql in zip(named[::2], named[1::2], strict=True)}
    return {name: sql.format(**parts) for name, sql in blocks.items()} if parts else blocks


def names_of(rows: type[Any]) -> tuple[str, ...]:
    """The columns of a dataclass of rows: the names of its fields."""
    return tuple(field.name for field in fields(rows))


def column_list(names: Iterable[str], of: str = "") -> LiteralString:
    """Columns separated by commas, in quotes; `of` is the alias of their table, if they need one."""
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)


def assignments(names: Iterable[str], source: str) -> LiteralString:
    """The part after `set` of an update that takes each of these columns from `source`."""
    return ", ".join(f'"{name}" = {source}."{name}"' for name in names)
