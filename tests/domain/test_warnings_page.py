"""docs/warnings.md explains every warning that there is, and none that there is not."""

import ast
import re
from pathlib import Path

from domain.warning_codes import WarningCode

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", (ROOT / "docs" / "warnings.md").read_text("utf-8"), re.MULTILINE)


def test_the_page_explains_each_code_once_and_says_what_to_do() -> None:
    assert sorted(code for code, _, _ in ROWS) == sorted(WarningCode)
    assert all(meaning.endswith(".") and remedy.endswith(".") for _, meaning, remedy in ROWS)


def test_every_code_is_one_that_something_says() -> None:
    sources = [
        source
        for folder in ("domain", "services", "gpu_worker")
        for source in (ROOT / folder).rglob("*.py")
        if source.name != "warning_codes.py"
    ]
    said = {
        node.attr
        for source in sources
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "WarningCode"
    }
    assert said == {code.name for code in WarningCode}
