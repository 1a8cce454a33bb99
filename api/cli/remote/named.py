"""What an id on the command line names: a job, an asset or a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from api.cli.names import asset_named
from api.cli.remote.failures import ClientError, NotThere
from domain.json_type import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.cli.remote.client import Client
    from api.cli.remote.server import Server

Kind = Literal["job", "asset", "batch"]


async def find_named(client: Client, named: str) -> tuple[Kind, Json]:
    """The job, asset or batch with this id, or the asset JOB/INDEX. Raises `NotThere`."""
    if "/" in named:
        name = asset_named(named)
        try:
            return "asset", await client.asset(name.id)
        except NotThere:
            raise NotThere(f"There is no asset {name.text}.") from None
    try:
        return "job", await client.job(named)
    except NotThere as error:
        missing = error
    try:
        return "asset", await client.asset(named)
    except NotThere:
        pass
    try:
        return "batch", await client.find_batch(named)
    except NotThere:
        raise missing from None


def assets_of(kind: Kind, document: Json) -> Sequence[Json]:
    """The assets of what `find_named` found."""
    match kind:
        case "job":
            found: list[Json] = document["assets"]
            return found
        case "asset":
            return [document]
        case "batch":
            return [asset for item in document["items"] for asset in item.get("assets") or []]


async def without_job(server: Server, client: Client, named: str, missing: NotThere) -> ClientError:
    """The error of a command that takes only jobs: of a batch it says how to list its jobs."""
    try:
        await client.find_batch(named)
    except NotThere:
        return missing
    return NotThere(f"{named} is a batch, and this takes a job. Its jobs: {server.command('jobs', '--batch', named)}")
