"""How Postgres answers every list where the views are large: by indexes that find what is asked for.

A view is never read from end to end, and rows that are read in vain are few, also through an index.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.errors import Diagnostic
from psycopg.rows import TupleRow

from benchmarks.crowd import LISTS, OLD
from projections import ALL
from projections.reads import jobs as reads
from services.views.owned_views import OwnedViews

IN_VAIN_MAX = 25_000
"""Rows that a plan's node may read and throw away. A word in names is looked for in all 20,000 batches of the owner; of
jobs there are three times as many, most of them of others."""

TABLES = {table for view in ALL for table in view.tables}

EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",  # what a function asks counts too
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",  # with the rows that were read in vain
    "auto_explain.log_timing": "off",
    "client_min_messages": "log",
}

Node = dict[str, Any]


class ExplainedViews(OwnedViews):
    """The views of an owner, and the plan of each statement that was run on them, also by functions."""

    def __init__(self, dsn: str) -> None:
        explaining = " ".join(f"-c {name}={value}" for name, value in EXPLAINING.items())
        super().__init__(make_conninfo(dsn, options=explaining))  # only a superuser may explain what others run
        self.plans: list[Node] = []

    @contextmanager
    def of(self, owner: str) -> Iterator[Connection[TupleRow]]:
        # It hears until the transaction has ended, when the plan of its last statement comes.
        with ExitStack() as hearing, super().of(owner) as connection:
            connection.add_notice_handler(self._hear)
            hearing.callback(connection.remove_notice_handler, self._hear)
            yield connection

    def _hear(self, said: Diagnostic) -> None:
        _, plan, text = (said.message_primary or "").partition("plan:")
        if plan:
            self.plans.append(json.loads(text)["Plan"])

    def taken(self) -> list[Node]:
        """Every node over a table of the views since the last call."""
        plans, self.plans = self.plans, []
        return [node for node in nodes(plans) if node.get("Relation Name") in TABLES]


def nodes(plans: Iterable[Node]) -> Iterator[Node]:
    """All nodes of these plans."""
    for plan in plans:
        yield plan
        yield from nodes(plan.get("Plans", ()))


def sequential(found: Iterable[Node]) -> list[str]:
    """The tables that are read from end to end."""
    return [node["Relation Name"] for node in found if "Seq Scan" in node["Node Type"]]


def in_vain(found: Iterable[Node]) -> dict[str, int]:
    """How many rows were read and thrown away, by index or table; only where they are many."""
    thrown: dict[str, int] = {}
    for node in found:
        rows = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        thrown[node.get("Index Name", node["Relation Name"])] = round(rows * node["Actual Loops"])
    return {name: rows for name, rows in thrown.items() if rows > IN_VAIN_MAX}


@pytest.fixture
def dsn(crowd_dsn: str) -> str:
    """Large views."""
    return crowd_dsn


@pytest.fixture
def owned_views(dsn: str) -> Iterator[ExplainedViews]:
    """As the API reads them."""
    with ExplainedViews(dsn) as opened:
        yield opened


@pytest.mark.parametrize("list_name", LISTS)
async def test_no_list_reads_a_view_from_end_to_end(
    http: httpx.AsyncClient, owned_views: ExplainedViews, list_name: str
) -> None:
    for name, path in LISTS[list_name]:
        response = await http.get(path)
        assert response.status_code == 200, (name, response.text)
        found = owned_views.taken()
        assert found, f"{name}: {path} asked no view"
        assert sequential(found) == [], f"{name}: {path}"
        assert in_vain(found) == {}, f"{name}: {path}"


async def test_rare_words_and_filters_are_found_by_their_index(
    http: httpx.AsyncClient, owned_views: ExplainedViews
) -> None:
    for name in ("word of three", "word of none", "rare tag", "rare score", "rare model", "what never comes together"):
        await http.get(dict(LISTS["library"])[name])
        assert "library_filters" in {node.get("Index Name") for node in nodes(owned_views.plans)}, name
        owned_views.plans.clear()


def test_what_a_stream_missed_is_read_by_its_index(owned_views: ExplainedViews) -> None:
    with owned_views.of("admin") as connection:
        assert len(reads.history_of_owner(connection, "admin", after=OLD, upto=2 * OLD, limit=500)) == 500
    assert {node.get("Index Name") for node in owned_views.taken()} == {"history_of_owner"}


def test_a_view_that_is_read_from_end_to_end_would_be_noticed(owned_views: ExplainedViews) -> None:
    with owned_views.of("admin") as connection:
        connection.execute("set local enable_seqscan = on")
        connection.execute("set local enable_indexscan = off")
        connection.execute("set local enable_bitmapscan = off")
        connection.execute("select count(*) from views.jobs where pool like '%x'")
    assert sequential(owned_views.taken()) == ["jobs"]
