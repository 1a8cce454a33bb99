"""Named SQL: the `.sql` file of a module has blocks that begin with `-- name: something`."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import LiteralString, cast

BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str, package: str = "projections") -> Mapping[str, LiteralString]:
    """The blocks of a packaged `.sql` file by name. Text before the first block is a comment."""
    text = resources.files(package).joinpath(file).read_text("utf-8")
    parts = BLOCK.split(text)[1:]
    return {name: cast("LiteralString", sql.strip()) for name, sql in zip(parts[::2], parts[1::2], strict=True)}
