"""Makes the items of a batch ready to be sent: each on its own, so that a bad one does not hold up the others."""

from dataclasses import dataclass, field
from pathlib import Path

import typer

from api.cli.remote.batch_file import BatchFile
from api.cli.remote.client import Client
from api.cli.remote.failures import NoFile, NotThere, Rejected
from api.cli.remote.files import with_uploads
from api.cli.remote.sendable import require_sendable
from domain.json_type import Json


@dataclass(slots=True)
class ReadyItems:
    """Items whose files are uploaded, by their index in the file, and why others cannot be sent."""

    items: dict[int, Json] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


async def made_ready(client: Client, read: BatchFile, folder: Path) -> ReadyItems:
    """Upload the files of each item. Raises the client's errors that concern all of them, such as `Unreachable`."""
    ready = ReadyItems(problems=dict(read.problems))
    for index, item in enumerate(read.body["items"]):
        if index in read.problems:
            continue
        try:
            require_sendable(item)
            ready.items[index] = await with_uploads(client, item, folder)
        except typer.BadParameter as error:
            ready.problems[index] = error.message
        except (NoFile, NotThere, Rejected) as error:
            ready.problems[index] = str(error)
    return ready
