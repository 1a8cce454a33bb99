"""What an installation stores in addition to the ledger, held against it: the stream LEDGER, the views, the files."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nats
import psycopg
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from projections import ALL
from services.database import Database
from services.ledger import Ledger
from services.messaging.wire import LEDGER_STREAM
from services.views.rebuild import matches_ledger, rebuild, rebuild_as_of
from tests.afresh import scores_afresh, scores_shown
from tests.histories import Views
from tests.system.facts import Fact
from tests.system.folding import fold_all, shown
from tests.system.losses import Losses

READ_AT_ONCE: Final = 500
WAIT_S_MAX: Final = 60.0
RESERVED: Final = "asset.reserved"


async def ledger_stream(dsn: str, nats_url: str) -> list[str]:
    """The stream LEDGER is the ledger: at each sequence the event of that position, byte for byte."""
    query = "select notification_id, originator_id, originator_version, topic, state from ledger order by 1"
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await (await connection.execute(query)).fetchall()
    client = await nats.connect(nats_url)
    try:
        jetstream = client.jetstream()
        try:
            state = (await jetstream.stream_info(LEDGER_STREAM)).state
        except NotFoundError:
            return [f"there is no stream {LEDGER_STREAM}"] if rows else []
        if (state.messages, state.last_seq) != (len(rows), len(rows)):
            return [f"{LEDGER_STREAM} has {state.messages} events up to {state.last_seq}, the ledger {len(rows)}"]
        if not rows:
            return []
        from_first = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        reader = await jetstream.pull_subscribe("ledger.>", stream=LEDGER_STREAM, config=from_first)
        wrong: list[str] = []
        expected = iter(rows)
        left = len(rows)
        while left:
            for message in await reader.fetch(min(left, READ_AT_ONCE), timeout=WAIT_S_MAX):
                left -= 1
                await message.ack()
                row = next(expected)
                sequence = message.metadata.sequence.stream
                if sequence != row[0] or message.data != _broadcast(row):
                    wrong.append(f"{LEDGER_STREAM} has something else at {sequence} than the ledger at {row[0]}")
        await reader.unsubscribe()
        return wrong
    finally:
        await client.close()


def _broadcast(row: tuple[Any, ...]) -> bytes:
    position, stream, version, topic, state = row
    head = f'"position":{position},"stream":"{stream}","version":{version},"topic":"{topic}"'
    return b"{" + head.encode() + b',"state":' + bytes(state) + b"}"


def views(database: Database, ledger: Ledger, facts: Sequence[Fact]) -> Iterator[str]:
    """Live = folded again into other tables = rebuilt; and = folded in memory, in the plainest way."""
    with database.connection() as connection:
        parked = connection.execute("select view, position, reason from parked_events").fetchall()
        behind = connection.execute(
            "select view, slot, position from view_progress where position <> %s", (len(facts),)
        )
        yield from (f"the view {view} parked {position}: {reason}" for view, position, reason in parked)
        yield from (f"the view {row[0]} ({row[1]}) is at {row[2]} of {len(facts)}" for row in behind.fetchall())
    for view in ALL:
        if not matches_ledger(database, ledger, view).same:
            yield f"the live view {view.name} is not what the ledger gives"
        if not rebuild(database, ledger, view).same:
            yield f"the rebuilt view {view.name} is not the live one"
    yield from scores(database, ledger)
    with database.connection() as connection:
        for table, expected in fold_all(facts).items():
            there = shown(connection, table, expected)
            yield from differences(table, expected, there)


def as_of(database: Database, ledger: Ledger, facts: Sequence[Fact], moments: int) -> Iterator[str]:
    """At so many moments of the past: the views as of then = the events up to there, folded in memory."""
    with database.connection() as connection:
        ends = connection.execute("select last_position from ledger_commits order by 1").fetchall()
    for moment in range(moments):  # between two commits: the fold in memory knows none by half
        (position,) = ends[len(ends) * (moment + 1) // (moments + 1)]
        for view in ALL:
            rebuild_as_of(database, ledger, view, position)
        with database.connection() as connection:
            for table, expected in fold_all(facts[:position]).items():
                there = shown(connection, table, expected, schema="views_as_of")
                yield from (f"as of {position} {one}" for one in differences(table, expected, there))


def scores(database: Database, ledger: Ledger) -> Iterator[str]:
    """As `tests.afresh` computes them from all that was said."""
    expected, there = scores_afresh(ledger), scores_shown(Views(database, ledger))
    for key in sorted(expected.keys() | there.keys()):
        if expected.get(key) != there.get(key):
            yield f"views.scores has {there.get(key)} for {key}, computed afresh it is {expected.get(key)}"


def differences(table: str, expected: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """Rows of a live table that are not those of the fold in memory."""
    for key in sorted(expected.keys() | there.keys()):
        if expected.get(key) != there.get(key):
            yield f"views.{table} has {there.get(key)} for {key}, and the fold in memory {expected.get(key)}"


def files(folder: Path, facts: Sequence[Fact], excepted: Counter[str], losses: Losses | None = None) -> Iterator[str]:
    """What the ledger names is there with its hash, and nothing else is, but for the exceptions, each counted."""
    losses = losses or Losses()
    named = dict(_named(facts))
    undeleted = dict(_named([fact for fact in facts if fact.stream in losses.undeleted or fact.name == RESERVED]))
    paths = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    for path, sha256 in named.items():
        if path not in paths and path in undeleted:
            excepted["deleted, and its deletion is lost with the ledger"] += 1
        elif path not in paths:
            yield f"{path} is not there"
        elif hashlib.sha256(paths[path].read_bytes()).hexdigest() != sha256:
            yield f"{path} has another content than the ledger says"
    purged = {fact.stream for fact in facts if fact.name == "asset.purged"}
    completed = {fact.stream for fact in facts if fact.name == "asset.completed"} - purged
    uploaded = {fact.data["path"] for fact in facts if fact.name == "media.uploaded"}
    for path in sorted(paths.keys() - named.keys()):
        reason = _exception(path, paths[path], completed, uploaded)
        if path in losses.paths:
            excepted["named by lost events alone"] += 1
        elif reason is None:
            yield f"{path} belongs to nothing"
        else:
            excepted[reason] += 1


def _named(facts: Sequence[Fact]) -> Iterator[tuple[str, str]]:
    reserved = {fact.stream: fact.data["path"] for fact in facts if fact.name == RESERVED}
    purged = {fact.stream for fact in facts if fact.name == "asset.purged"}
    uploads: dict[str, tuple[str, str]] = {}
    for fact in facts:
        if fact.stream in purged:
            continue
        if fact.name == "asset.completed":
            yield reserved[fact.stream], fact.data["sha256"]
        elif fact.name == "asset.thumbnailed":
            yield fact.data["path"], fact.data["sha256"]
        elif fact.name == "media.uploaded":
            uploads[fact.stream] = (fact.data["path"], fact.data["sha256"])
        elif fact.name == "media.deleted":
            uploads.pop(fact.stream)
    yield from uploads.values()


def _exception(path: str, file: Path, completed: set[str], uploaded: set[str]) -> str | None:
    """The exceptions, one by one: docs/reliability.md says why each is bounded."""
    kind, *_ = path.split("/")
    if path in uploaded:
        return "a deleted upload whose API died between its event and its file"
    if kind == "uploads" and file.name.startswith(hashlib.sha256(file.read_bytes()).hexdigest()):
        return "an upload whose API died between its file and its event"
    if kind == "thumbnails" and file.stem in completed:
        return "a thumbnail whose maker died between its file and its event"
    return None
