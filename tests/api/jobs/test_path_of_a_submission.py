"""How far it is from the server to the commit: a newcomer reads every step of it."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from services.ledger.flusher import Flusher
from tests.api.serving import Site, body

STEPS_MAX = 30


async def test_a_submission_is_few_calls_deep(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    append, paths = Flusher.append, []

    def watched(flusher: Flusher, *commit: Any) -> Any:
        paths.append([f"{frame.f_code.co_filename} {frame.f_code.co_qualname}" for frame in callers()])
        return append(flusher, *commit)

    monkeypatch.setattr(Flusher, "append", watched)
    assert (await site.http.post("/v1/jobs", json=body())).status_code == 202
    ((*path,),) = paths
    server = next(place for place, step in enumerate(path) if step.endswith("ASGITransport.handle_async_request"))
    assert any("/api/jobs/routes.py" in step for step in path[:server])
    assert server <= STEPS_MAX, "\n".join(path[:server])


def callers() -> Iterator[FrameType]:
    """The calls that led here, the last one first; without this function and its caller."""
    frame: FrameType | None = sys._getframe(2).f_back
    while frame is not None:
        yield frame
        frame = frame.f_back
