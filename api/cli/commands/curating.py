"""Commands on existing assets: rate, save, title, tag, trash and purge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.names import AssetName, asset_named
from api.cli.options import AsJson, AssetNames, DataDir, Token, Url
from api.cli.options import AssetName as OneAsset
from api.cli.remote.failures import ClientError, NotThere
from api.cli.remote.server import Server, find_server, finish
from api.cli.terminal import DONE, FAILED, complain, print_json, printable, say
from domain.json_type import Json

if TYPE_CHECKING:
    from api.cli.remote.client import Client

Act = Callable[["Client", str], Awaitable[Json]]
"""Changes the asset with this id; returns the answer."""


def rate(
    asset: OneAsset,
    score: Annotated[int, typer.Argument(min=1, max=5, metavar="SCORE", help="1 to 5; 5 is the best.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Rate an asset; rating it again replaces the score."""

    async def act(client: Client, asset_id: str) -> Json:
        return await client.rate(asset_id, score)

    _run(find_server(url, token, data_dir), [asset], act, f"rated {score}", as_json=as_json)


def save(
    assets: AssetNames,
    undo: Annotated[bool, typer.Option("--undo", help="Remove them from the saved assets.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Save assets. `darkroom library --saved` lists them."""

    async def act(client: Client, asset_id: str) -> Json:
        return await client.set_saved(asset_id, saved=not undo)

    _run(find_server(url, token, data_dir), assets, act, "no longer saved" if undo else "saved", as_json=as_json)


def title(
    asset: OneAsset,
    text: Annotated[str | None, typer.Argument(metavar="TITLE", help="The title.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the title.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Give an asset a title."""
    if (text is None) != remove:
        raise typer.BadParameter("give a title, or --remove")

    async def act(client: Client, asset_id: str) -> Json:
        return await client.change_asset(asset_id, {"title": text})

    said = "has no title" if text is None else f"is called {printable(text)}"
    _run(find_server(url, token, data_dir), [asset], act, said, as_json=as_json)


def tag(
    asset: OneAsset,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="TAG…", help="Tags to add; without any, tags are listed.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove these tags.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Add tags to an asset, or remove tags."""
    if remove and not tags:
        raise typer.BadParameter("name the tags to take away")

    async def act(client: Client, asset_id: str) -> Json:
        if not tags:
            return await client.asset(asset_id)
        return await client.change_asset(asset_id, {"remove_tags" if remove else "add_tags": tags})

    def said(answer: Json) -> str:
        return f"tags: {printable(', '.join(answer['tags'])) or 'none'}"

    _run(find_server(url, token, data_dir), [asset], act, said, as_json=as_json)


def trash(
    assets: AssetNames, as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None
) -> None:
    """Move assets to the trash. `darkroom restore` restores them."""

    async def act(client: Client, asset_id: str) -> Json:
        await client.trash(asset_id)
        return {"id": asset_id, "trashed": True}

    _run(find_server(url, token, data_dir), assets, act, "in the trash", as_json=as_json)


def restore(
    assets: AssetNames, as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None
) -> None:
    """Restore assets from the trash."""

    async def act(client: Client, asset_id: str) -> Json:
        return await client.restore(asset_id)

    _run(find_server(url, token, data_dir), assets, act, "restored", as_json=as_json)


def purge(
    assets: Annotated[list[str] | None, typer.Argument(metavar="ASSET…", help="Assets in the trash.")] = None,
    everything: Annotated[bool, typer.Option("--trash", help="Everything in the trash.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
) -> None:
    """Delete assets in the trash permanently, with their files."""
    if bool(assets) == everything:
        raise typer.BadParameter("name assets that are in the trash, or give --trash for all of them")

    async def act(client: Client, asset_id: str) -> Json:
        await client.purge(asset_id)
        return {"id": asset_id, "purged": True}

    server = find_server(url, token, data_dir)
    if everything:
        finish(_empty_trash(server, as_json=as_json))
    _run(server, assets or [], act, "deleted for good", as_json=as_json)


async def _empty_trash(server: Server, *, as_json: bool) -> int:
    """Part by part, until nothing is left."""
    purged, size, more = 0, 0, True
    async with server.client() as client:
        while more:
            emptied = await client.empty_trash()
            purged, size, more = purged + emptied["purged"], size + emptied["bytes"], emptied["more"]
    if as_json:
        print_json({"purged": purged, "bytes": size})
    else:
        say(f"{purged} assets deleted for good, {size} bytes")
    return DONE


def _run(server: Server, texts: Sequence[str], act: Act, said: str | Callable[[Json], str], *, as_json: bool) -> None:
    names = [asset_named(text) for text in texts]
    finish(_each(server, names, act, said, as_json=as_json))


async def _each(
    server: Server, names: Sequence[AssetName], act: Act, said: str | Callable[[Json], str], *, as_json: bool
) -> int:
    """Change one asset after the other; a refusal does not stop the others. JSON is an object for one asset."""
    answers: list[Json] = []
    refused = 0
    async with server.client() as client:
        for name in names:
            try:
                answer = await act(client, name.id)
            except NotThere:
                complain(f"There is no asset {name.text}.")
                refused += 1
            except ClientError as error:
                if len(names) == 1:
                    raise
                complain(f"{name.text}: {error}")
                refused += 1
            else:
                answers.append(answer)
                if not as_json:
                    say(f"{name.text}  {said if isinstance(said, str) else said(answer)}")
    if as_json and (answers or len(names) > 1):
        print_json(answers[0] if len(names) == 1 else answers)
    return FAILED if refused else DONE
