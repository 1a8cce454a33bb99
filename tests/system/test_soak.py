"""A minute of the chaos soak: see tests/soak. `make soak SEED=1 MINUTES=5` is the long one."""

from collections import Counter

import pytest

from tests.soak.faults import BACK_UP, EVERY_KIND, RESTORE, schedule
from tests.soak.restoring import RESTORE_S_MAX
from tests.soak.running import REST_S_MAX, soak

SEED = 20
SECONDS = 60.0


def test_a_seed_has_one_schedule_with_every_kind_of_fault() -> None:
    faults = schedule(SEED, SECONDS)
    assert faults == schedule(SEED, SECONDS)
    assert [fault.kind for fault in faults] != [fault.kind for fault in schedule(SEED + 1, SECONDS)]
    assert {(fault.kind, fault.target) for fault in faults} == set(EVERY_KIND)
    named = [(fault.kind, fault.target) for fault in faults]
    assert named.index(BACK_UP) < named.index(RESTORE)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    assert faults[-1].at_s < SECONDS
    longer = schedule(SEED, 10 * SECONDS)
    assert min(Counter((fault.kind, fault.target) for fault in longer).values()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + RESTORE_S_MAX + 2 * REST_S_MAX + 200)
def test_every_promise_holds_after_a_minute_of_chaos() -> None:
    soaked = soak(SEED, SECONDS)
    last = "\n".join(map(str, soaked.faults[-12:]))
    broken = "\n".join(soaked.wrong)
    assert not soaked.wrong, f"seed {SEED} broke a promise:\n{broken}\nthe last faults:\n{last}\n{soaked.folder}"
    figures = soaked.figures
    assert figures["jobs"]["queued"] >= 5  # on a busy machine
    assert {"batch", "comparison"} == figures["batches"].keys()
    assert figures["preferences"] + figures["ratings"] + figures["jobs_that_run_again"] >= 1
    assert figures["prompts"]["saved"] + figures["prompts"]["edited"] >= 4
    assert sum(figures["faults"].values()) >= len(EVERY_KIND) - 4  # what is gone already cannot be killed
    assert {": ".join(RESTORE), "oversize report: recorder"} <= figures["faults"].keys()
