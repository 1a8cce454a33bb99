"""Arrays packed by hand arrive as what they hold."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.arrays import PackedArray, byteas, int4s, int8s, texts, uuids

Packs = Callable[[Sequence[Any]], PackedArray]

KINDS: list[tuple[str, Packs, st.SearchStrategy[Any]]] = [
    ("int", int4s, st.integers(-(2**31), 2**31 - 1)),
    ("bigint", int8s, st.integers(-(2**63), 2**63 - 1)),
    ("uuid", uuids, st.uuids()),
    ("text", texts, st.text(st.characters(codec="utf-8", exclude_characters="\0"))),
    ("bytea", byteas, st.binary()),
]


@pytest.mark.parametrize(("element", "pack", "values"), KINDS, ids=[kind[0] for kind in KINDS])
def test_an_array_arrives_as_it_was(servers: Any, element: str, pack: Packs, values: st.SearchStrategy[Any]) -> None:
    with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:

        @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(values, max_size=20))
        def arrives(given_values: list[Any]) -> None:
            query = f"select %b::{element}[], pg_typeof(%b::{element}[])::text"
            packed = pack(given_values)
            row = connection.execute(query.encode(), (packed, packed), binary=True).fetchone()
            assert row is not None
            assert list(row[0]) == given_values

        arrives()


def test_an_array_of_another_type_is_refused_by_postgres(servers: Any) -> None:
    with (
        psycopg.connect(servers.postgres_dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.DatatypeMismatch),
    ):
        connection.execute("select %b::bigint[]", (uuids([uuid4(), UUID(int=0)]),))
