"""Requests that come all at once leave turns to others."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from api.http.limits.turns import AT_ONCE_MAX, IN_TURN_MAX, Turns


class Begun:
    """An application that notes who began, in which order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.names.append(scope["name"])


async def nothing_comes() -> Message:
    raise AssertionError("nothing is received")


async def nothing_goes(_: Message) -> None:
    raise AssertionError("nothing is sent")


def sent(turns: Turns, name: str) -> "asyncio.Task[None]":
    return asyncio.create_task(turns({"type": "http", "name": name}, nothing_comes, nothing_goes))


async def test_who_comes_after_a_thousand_others_begins_soon() -> None:
    app = Begun()
    turns = Turns(app, lambda scope: scope["name"])
    flood = [sent(turns, "ada") for _ in range(1_000)]
    await asyncio.sleep(0)
    assert app.names == ["ada"] * AT_ONCE_MAX
    await asyncio.gather(*[sent(turns, "bob") for _ in range(3)])
    assert len(app.names) <= AT_ONCE_MAX + 6 * IN_TURN_MAX
    await asyncio.gather(*flood)
    assert app.names.count("ada") == 1_000


async def test_few_that_come_together_wait_for_nothing() -> None:
    app = Begun()
    turns = Turns(app, lambda _: "nobody is asked for")
    few = [sent(turns, str(number)) for number in range(AT_ONCE_MAX)]
    await asyncio.sleep(0)
    assert len(app.names) == AT_ONCE_MAX
    await asyncio.gather(*few)


async def test_a_request_that_is_given_up_takes_nobodys_turn() -> None:
    app = Begun()
    turns = Turns(app, lambda scope: scope["name"])
    flood = [sent(turns, "ada") for _ in range(AT_ONCE_MAX + 20)]
    await asyncio.sleep(0)
    for one in flood[AT_ONCE_MAX : AT_ONCE_MAX + 10]:
        one.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*flood[AT_ONCE_MAX + 10 :])
        await sent(turns, "bob")
    assert app.names.count("ada") == AT_ONCE_MAX + 10
