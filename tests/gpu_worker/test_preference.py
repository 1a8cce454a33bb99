"""What is loaded is preferred, first come otherwise, and nobody is passed over more often than the bound says."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.model_affinity import LOOKED_AT_MAX, PASSED_OVER_MAX, WAITED_S_MAX, WaitingOrder, preferred

WAITING = st.builds(
    WaitingOrder,
    model=st.sampled_from("abc"),
    waited_s=st.floats(0, 2 * WAITED_S_MAX),
    passed_over=st.integers(0, PASSED_OVER_MAX + 1),
)


@given(orders=st.lists(WAITING, max_size=8), loaded=st.sets(st.sampled_from("abc")))
def test_the_first_that_is_due_or_loaded_is_taken(orders: list[WaitingOrder], loaded: set[str]) -> None:
    index = preferred(orders, loaded.__contains__)
    passed = orders if index is None else orders[:index]
    for order in passed:
        assert order.model not in loaded
        assert order.passed_over < PASSED_OVER_MAX
        assert order.waited_s < WAITED_S_MAX
    if index is not None:
        assert orders[index].is_due or orders[index].model in loaded


def drained(models: str, loaded: str, job_s: float) -> tuple[list[int], int]:
    """Work off a queue with one worker that holds one model. Returns the order of the jobs, and how often it loaded.

    What a worker does in gpu_worker.loop: it sees more orders only while all that it sees mean loading a model.
    """
    queue, passed, taken, loads, now_s = list(range(len(models))), Counter[int](), list[int](), 0, 0.0
    while queue:
        seen = [WaitingOrder(models[job], now_s, passed[job]) for job in queue[:LOOKED_AT_MAX]]
        index = preferred(seen, {loaded}.__contains__)
        for job in queue[:index]:
            passed[job] += 1
            assert passed[job] <= PASSED_OVER_MAX
        job = queue.pop(index or 0)
        loads += models[job] != loaded
        loaded = models[job]
        taken.append(job)
        now_s += job_s
    return taken, loads


@given(models=st.text("abc", max_size=40), loaded=st.sampled_from("abc"), job_s=st.floats(0.01, 60))
def test_nobody_is_passed_over_more_often_than_the_bound_and_a_model_keeps_its_order(
    models: str, loaded: str, job_s: float
) -> None:
    taken, loads = drained(models, loaded, job_s)
    assert sorted(taken) == list(range(len(models)))
    for model in "abc":
        of_model = [job for job in taken if models[job] == model]
        assert of_model == sorted(of_model)
    assert all(abs(place - job) <= PASSED_OVER_MAX * LOOKED_AT_MAX for place, job in enumerate(taken))
    alternations = sum(one != other for one, other in zip(loaded + models, models, strict=False))
    assert loads <= alternations


def test_two_models_that_take_turns_are_loaded_far_less_often_than_they_alternate() -> None:
    _, loads = drained("ab" * 20, "a", 0.1)
    assert loads <= 16
    assert drained("a" * 20, "a", 0.1) == (list(range(20)), 0)


def test_where_jobs_take_minutes_it_is_first_come_first_served() -> None:
    taken, _ = drained("abababab", "a", 2 * WAITED_S_MAX)
    assert taken[1:] == sorted(taken[1:])
