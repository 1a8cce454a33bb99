"""`darkroom rebuild --as-of`: a view as of a position answers as the live one did when it stood there."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from api.app import Parts
from api.cli import status_of
from domain.json_type import Json
from projections import ALL
from services import users
from services.database import Database
from tests.conftest import Clock
from tests.histories import Story, Views
from tests.projections.test_random_histories import WORDS, project_in_cuts, tell
from tests.spec import OWNER

OTHER: Final = "zoe"
MOMENTS: Final = 6
CUTS: Final = (7, 2, 11, 1)

LISTS: Final = (
    "/v1/library",
    "/v1/library?q=fog",
    "/v1/library?saved=true",
    "/v1/library?min_score=3",
    "/v1/library?tag=sea",
    "/v1/workspace",
    "/v1/batches",
    "/v1/batches?kind=comparison",
    "/v1/scores?by=prompt",
    "/v1/scores?by=model",
    "/v1/scores?by=job_type",
    "/v1/prompts",
    "/v1/jobs",
)

Darkroom = Callable[..., str]


@pytest.fixture
def darkroom(dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Darkroom:
    """The command on this database: what it says, once it has the status that is expected."""
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", dsn)

    def run(*arguments: str, status: int = 0) -> str:
        assert status_of(list(arguments)) == status
        said = capsys.readouterr()
        return said.err if status else said.out

    return run


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_view_as_of_a_random_position_answers_as_it_did_when_it_stood_there(
    http: httpx.AsyncClient, parts: Parts, database: Database, clock: Clock, dsn: str, darkroom: Darkroom, seed: int
) -> None:
    """The ledger has the whole history from the first answer on: what differs is where the views stand."""
    chance = random.Random(seed)
    story = Story(parts.ledger, clock.tick)
    steps = [(chance.choice(WORDS), chance.randint(0, 6), chance.randint(0, 5)) for _ in range(60)]
    tell(story, (3, 1), steps[:40])
    story.compared("sdxl-demo", "flux", owner=OTHER)
    story.finished(2, owner=OTHER)
    story.save_prompt(owner=OTHER)
    tell(story, (1,), steps[40:])
    keys = {owner: _key(database, owner) for owner in (OWNER, OTHER)}
    views, head = Views(database, parts.ledger), parts.ledger.head()
    moments: dict[int, tuple[Json, str]] = {}
    for position in [*sorted(chance.sample(range(1, head), MOMENTS)), head]:
        project_in_cuts(views, CUTS, position)
        moments[position] = (await _answers(http, keys), darkroom("rebuild", "--all"))
    assert len({repr(answers) for answers, _ in moments.values()}) > MOMENTS // 2  # else nothing happened between them
    for position in chance.sample(list(moments), len(moments)):
        then, rebuilt = moments[position]
        again = darkroom("rebuild", "--all", "--as-of", str(position))
        assert _checksums(again) == _checksums(rebuilt)
        _show_as_of(dsn)
        assert await _answers(http, keys) == then
    darkroom("rebuild", "--all")
    assert (await _answers(http, keys), darkroom("verify")[:12]) == (moments[head][0], "ledger: fits")


async def test_before_the_first_event_there_is_nothing(
    http: httpx.AsyncClient, parts: Parts, database: Database, clock: Clock, dsn: str, darkroom: Darkroom
) -> None:
    Story(parts.ledger, clock.tick).compared("sdxl-demo", "flux")
    Views(database, parts.ledger).catch_up()
    keys = {OWNER: _key(database, OWNER)}
    assert any((await _answers(http, keys)).values())
    said = darkroom("rebuild", "--all", "--as-of", "0")
    assert len(re.findall(r": 0 rows from 0 events", said)) == len(ALL)
    _show_as_of(dsn)
    assert not any((await _answers(http, keys)).values())


@pytest.mark.parametrize(
    ("position", "status", "words"),
    [
        ("7", 1, "The ledger holds positions 1 to 6; there is no position 7."),
        (str(2**63), 1, f"there is no position {2**63}"),
        (str(10**30), 1, f"there is no position {10**30}"),
        ("-1", 2, "--as-of"),
        ("x", 2, "must be a whole number"),
        ("1.5", 2, "must be a whole number"),
        ("", 2, "must be a whole number"),
    ],
)
def test_a_position_that_there_is_not_is_one_clear_line(
    parts: Parts, database: Database, clock: Clock, darkroom: Darkroom, position: str, status: int, words: str
) -> None:
    story = Story(parts.ledger, clock.tick)
    for _ in range(3):
        story.submit(1)
    said = darkroom("rebuild", "library", "--as-of", position, status=status)
    assert words in said
    assert said.count("\n") == 1


def _key(database: Database, owner: str) -> str:
    with database.connection() as connection:
        return users.add(connection, owner).key


async def _answers(http: httpx.AsyncClient, keys: Mapping[str, str]) -> Json:
    """What each owner learns: of every list all that is in it, and of each batch in the list all of it."""
    found: Json = {}
    for owner, key in keys.items():
        headers = {"Authorization": f"Bearer {key}"}
        for path in LISTS:
            whole = await _told(http, f"{path}{'&' if '?' in path else '?'}limit=200", headers)
            assert whole["next"] is None
            found[f"{owner} {path}"] = whole["results"]
        for batch in found[f"{owner} /v1/batches"]:
            path = f"/v1/batches/{batch['id']}"
            found[f"{owner} {path}"] = await _told(http, path, headers)
    return found


async def _told(http: httpx.AsyncClient, path: str, headers: Mapping[str, str]) -> Any:
    answer = await http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _checksums(said: str) -> Sequence[tuple[str, str]]:
    """Of each view what a rebuild says of its rows."""
    found = re.findall(r"^(\w+): .* checksum ([-:\d]+)", said, re.MULTILINE)
    assert [view for view, _ in found] == [view.name for view in ALL]
    return found


def _show_as_of(dsn: str) -> None:
    """Let the API read what was built as of a position: its tables take the place of the live ones."""
    with psycopg.connect(dsn) as connection:
        for table in (table for view in ALL for table in view.tables):
            connection.execute(SQL("drop table {}").format(Identifier("views", table)))
            connection.execute(SQL("alter table {} set schema views").format(Identifier("views_as_of", table)))
            connection.execute("select views_secure(%s::regclass)", (f"views.{table}",))
