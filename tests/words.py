"""`python -m tests.words`: no page, docstring, comment, message or test name has a word of docs/contributing.md's list.

Exit status 1 if one has; prints each with its place. Released migrations cannot change and are left out.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
WORDS: Final = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|anew|whom|besides?|told|nobody (?:\w+ ){1,4}but|how manieth)\b", re.IGNORECASE
)
LEFT_OUT: Final = (
    "domain/wording/",  # words of prompts
    "migrations/",
    "tests/golden/",
    "tests/words.py",
    "docs/contributing.md",
    "api/web/vendor/",
    "CHANGELOG.md",
)
PROSE: Final = frozenset({tokenize.COMMENT, tokenize.STRING})
PLACEHOLDER: Final = re.compile(r"`[^`]*`|\{[^{}]*\}")
"""Code in a text, and values that are put into it."""


def prose_of(file: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and texts: all of a Markdown file; the strings, comments and test names of a Python file."""
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in PROSE or (token.type == tokenize.NAME and token.string.startswith("test_")):
            said = PLACEHOLDER.sub("", token.string)
            if re.search(r"[ _]", said):  # a single word is an identifier
                for offset, line in enumerate(said.replace("_", " ").splitlines()):
                    yield token.start[0] + offset, line


def findings() -> Iterator[str]:
    """Each place with the word that is there."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if not name.startswith(LEFT_OUT):
            for line, text in prose_of(ROOT / name):
                yield from (f"{name}:{line}: {found[0]}" for found in WORDS.finditer(text))


if __name__ == "__main__":
    found = list(findings())
    sys.stdout.write("".join(f"{one}\n" for one in found))
    sys.exit(bool(found))
