"""Commands that know a served API; the fixture `run` starts them."""

import json
import subprocess
from collections.abc import Awaitable, Callable

from domain.json_type import Json

Run = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]


async def lines(run: Run, *arguments: str) -> list[str]:
    """What a command prints on stdout."""
    return (await run(*arguments)).stdout.splitlines()


async def answer(run: Run, *arguments: str) -> Json:
    """The JSON that a command prints."""
    document: Json = json.loads((await run(*arguments, "--json")).stdout)
    return document
