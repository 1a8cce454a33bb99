"""Whatever becomes of a file, it is read or refused with a sentence: no crash, no other file, and within its limits.

A few hundred mutants each time; `make fuzz` takes as many as asked for.
"""

import logging
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from services.files.decoders import bounded
from services.files.decoders.bounded import DecodingUnavailable
from services.files.media.kinds import Media, UnreadableMedia
from tests.services.mutants import mutants, seeds

COUNT = int(os.environ.get("DARKROOM_FUZZ_MUTANTS", "400"))
SEED = int(os.environ.get("DARKROOM_FUZZ_SEED", "1"))

pytestmark = pytest.mark.timeout(600 + COUNT // 2)

TOO_MUCH = (" s to be decoded", "decoding it failed")
"""Sentences of those that take long, or took their decoder down. One that asks for much memory is just refused."""

SLOW_S = 20.0
"""Of one small file, on a machine that does other things as well."""


@pytest.fixture(autouse=True)
def tight_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few kilobytes need little."""
    tight = {
        weight: replace(limits, memory_bytes=512 * bounded.MIB, cpu_s=10.0) for weight, limits in bounded.LIMITS.items()
    }
    monkeypatch.setattr(bounded, "LIMITS", tight)


def outcome_of(content: bytes) -> str:
    """`read`, or the sentence."""
    began = time.monotonic()
    try:
        found = bounded.probe(content)
        assert isinstance(found, Media)
        said = "read"
    except UnreadableMedia as refused:
        said = str(refused)
        assert said.endswith("."), said
        assert "\n" not in said
    except DecodingUnavailable as stopped:
        raise AssertionError(f"a mutant of {len(content)} bytes is never done: {content[:64]!r}") from stopped
    assert time.monotonic() - began < SLOW_S, content[:64]
    return said


def test_every_whole_file_is_read(tmp_path: Path) -> None:
    outcomes = {name: outcome_of(content) for name, content in seeds(tmp_path).items()}
    assert outcomes == dict.fromkeys(outcomes, "read")


def test_every_mutant_is_read_or_refused_with_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    made = list(islice(mutants(list(seeds(tmp_path).values()), SEED), COUNT))
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(outcome_of, made))
    crashed = [one for one, said in zip(made, outcomes, strict=True) if any(part in said for part in TOO_MUCH)]
    for number, one in enumerate(crashed):
        (tmp_path / f"mutant-{number}").write_bytes(one)
    assert not crashed, f"{len(crashed)} of {COUNT} took their decoder down or long; they are in {tmp_path}"
    assert not [record for record in caplog.records if "decoder failed" in record.getMessage()]
    read = Counter(said == "read" for said in outcomes)
    assert min(read[True], read[False]) > COUNT // 20  # the mutants are neither too wild nor too tame
