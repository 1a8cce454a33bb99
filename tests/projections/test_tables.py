"""The columns of each table of the views are written once: the database, the folds and the statements agree on them."""

from collections import defaultdict

import pytest

from domain.envelope import Recorded
from projections import ALL, batches, fleet, history, jobs, library, performance, prompts, queue, workspace
from projections.projection import FoldedView, Rows
from projections.scores import rows as scores
from projections.sql import load
from projections.table import Table
from services.ledger import Ledger
from tests.histories import Story, Views
from tests.projections.test_rebuild import everything

TABLES = (
    batches.BATCH_TABLE,
    batches.ITEM_TABLE,
    batches.PREFERENCE_TABLE,
    fleet.HOLD_TABLE,
    history.HISTORY_TABLE,
    jobs.ASSET_TABLE,
    jobs.JOB_TABLE,
    library.LIBRARY_TABLE,
    performance.PERFORMANCE_TABLE,
    prompts.PROMPT_TABLE,
    queue.QUEUE_TABLE,
    queue.TURN_TABLE,
    scores.SCORE_JOB_TABLE,
    scores.SCORE_PREFERENCE_TABLE,
    scores.SCORE_RATING_TABLE,
    scores.SCORE_TABLE,
    scores.SCORE_WIN_TABLE,
    workspace.WORKSPACE_TABLE,
)

COMPUTED = {"batches": {"counts", "words"}}
"""Columns that statements of their own compute, by table."""

WRITTEN = """
select table_name, column_name from information_schema.columns
where table_schema = 'views' and is_generated = 'NEVER'
"""

KEYS = """
select t.relname, a.attname
from pg_index i join pg_class t on t.oid = i.indrelid
  join pg_attribute a on a.attrelid = t.oid and a.attnum = any(i.indkey)
where i.indisprimary and t.relnamespace = 'views'::regnamespace
"""

THINGS = Table("things", key=("id",), others=("owner", "index"))


def by_table(pairs: list[tuple[str, str]]) -> dict[str, set[str]]:
    """The second of each pair, by the first."""
    grouped: dict[str, set[str]] = defaultdict(set)
    for table, column in pairs:
        grouped[table].add(column)
    return dict(grouped)


def test_every_table_of_a_view_is_described() -> None:
    assert {table.name for table in TABLES} == {name for view in ALL for name in view.tables}


def test_a_description_has_the_columns_that_the_database_does_not_generate(views: Views) -> None:
    described = {table.name: set(table.columns) | COMPUTED.get(table.name, set()) for table in TABLES}
    assert described == by_table(views.ask(WRITTEN))


def test_the_key_of_a_description_is_the_primary_key(views: Views) -> None:
    assert {table.name: set(table.key) for table in TABLES} == by_table(views.ask(KEYS))


def test_no_description_names_a_column_twice() -> None:
    assert [table.name for table in TABLES if len(set(table.columns)) < len(table.columns)] == []


def test_a_fold_sets_described_columns_only(ledger: Ledger, story: Story) -> None:
    everything(story)
    for view in ALL:
        events = [event for event in ledger.read_of(view.kinds, 0, ledger.head()) if isinstance(event, Recorded)]
        for folded in view.folded if isinstance(view, FoldedView) else ():
            rows: Rows = {}
            for event in events:
                if folded.touched(event):
                    folded.fold(rows, event)
            names = {name for row in rows.values() if row is not None for name in row}
            assert names
            assert names <= set(folded.table.columns), folded.table.name


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            THINGS.load,
            'select "id", to_json(t)::text '
            'from (select "id", "owner", "index" from things where "id" = any (%s::uuid[])) t',
        ),
        (
            THINGS.insert,
            'insert into things ("id", "owner", "index") '
            'select "id", "owner", "index" from json_populate_recordset(null::things, %s::json)',
        ),
        (
            THINGS.store,
            'insert into things ("id", "owner", "index") '
            'select "id", "owner", "index" from json_populate_recordset(null::things, %s::json)\n'
            'on conflict ("id") do update set "owner" = excluded."owner", "index" = excluded."index"',
        ),
        (THINGS.remove, 'delete from things where "id" = any (%s::uuid[])'),
        (THINGS.copy, 'copy things ("id", "owner", "index") from stdin'),
    ],
    ids=["load", "insert", "store", "remove", "copy"],
)
def test_statements_name_the_columns_of_their_table(statement: str, text: str) -> None:
    assert statement == text


def test_a_key_of_several_columns_is_one_conflict_target() -> None:
    pairs = Table("pairs", key=("one", "other"), others=("winner",))
    assert pairs.store.endswith('on conflict ("one", "other") do update set "winner" = excluded."winner"')


def test_a_file_that_names_an_unknown_part_is_refused() -> None:
    with pytest.raises(KeyError, match="key"):
        load("table.sql", columns="id")
