"""What a projector remembers of the rows that it stored."""

from projections.rows import Memory


def test_only_the_rows_that_were_touched_last_are_remembered() -> None:
    memory = Memory(rows_max=2)
    memory.keep({"a": {"n": 1}, "b": {"n": 2}})
    memory.keep({"a": {"n": 3}})
    memory.keep({"c": None})
    assert memory.known(["a", "b", "c", "d"]) == {"a": {"n": 3}, "c": None}
    memory.forget()
    assert memory.known(["a", "c"]) == {}
