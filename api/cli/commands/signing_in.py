"""`darkroom sign-in`: a link that signs a browser in, once."""

from __future__ import annotations

import typer

from api.cli.options import AsJson, DataDir, Token, Url
from api.cli.remote.server import Server, find_server, finish
from api.cli.terminal import DONE, print_json


def sign_in(as_json: AsJson = False, url: Url = None, token: Token = None, data_dir: DataDir = None) -> None:
    """Print a link that signs a browser in, once, within a day.

    The browser is signed in as the owner of the token or API key. The session ends after 30 days, or with that token or
    key.
    """
    finish(_sign_in(find_server(url, token, data_dir), as_json=as_json))


async def _sign_in(server: Server, *, as_json: bool) -> int:
    async with server.client() as client:
        link = await client.sign_in_link()
    print_json(link) if as_json else typer.echo(link["url"])
    return DONE
