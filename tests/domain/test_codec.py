"""Stable names: what was once released decodes for ever. `tests/golden` holds one of each, written when it was new."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from domain.codec import CURRENT, UPCASTERS, Codec, UnknownEvent, name_of, of_kinds
from domain.events import (
    AssetEvent,
    AssetTitled,
    BatchEvent,
    EnhancementMade,
    ErrorClass,
    Event,
    JobEvent,
    JobQueued,
    JobRequeued,
    JobStarted,
    LedgerRestored,
    MediaEvent,
    PoolEvent,
    PromptEvent,
    RequeueReason,
    UserEvent,
    WorkerEvent,
)
from tests.spec import NOW, recipe

GOLDEN = {path.name.removesuffix(".json"): path for path in (Path(__file__).parents[1] / "golden").glob("*.json")}
RELEASED = {*CURRENT, *UPCASTERS}
UNIONS = (JobEvent, AssetEvent, MediaEvent, BatchEvent, PromptEvent, UserEvent, PoolEvent, WorkerEvent)
CODEC = Codec()


def _golden(topic: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(GOLDEN[topic].read_bytes())
    return data


def test_every_released_event_has_a_golden_file_and_every_golden_file_is_of_a_released_event() -> None:
    assert set(GOLDEN) == RELEASED


def test_every_event_class_has_exactly_one_current_name() -> None:
    classes = list(CURRENT.values())
    assert len(classes) == len(set(classes))
    assert set(classes) == {event for union in UNIONS for event in get_args(union)} | {
        EnhancementMade,
        LedgerRestored,
    }


@pytest.mark.parametrize("topic", sorted(GOLDEN))
def test_golden_json_decodes_for_ever(topic: str) -> None:
    current, event, data = CODEC.decode(topic, _golden(topic))
    assert type(event) is CURRENT[current]
    encoded_topic, encoded = CODEC.encode(event)
    assert encoded_topic == current
    assert json.loads(encoded) == data


@pytest.mark.parametrize("topic", sorted(CURRENT))
def test_a_golden_file_sets_every_field(topic: str) -> None:
    assert _unset(CODEC.decode(topic, _golden(topic))[1]) == []


@pytest.mark.parametrize("topic", sorted(CURRENT))
def test_an_unknown_field_is_damage_and_not_ignored(topic: str) -> None:
    with pytest.raises(ValidationError, match="colour"):
        CODEC.decode(topic, {**_golden(topic), "colour": "red"})


@pytest.mark.parametrize("topic", ["job.queued.v2", "job.queued", "job.vanished.v1", "", "asset.completed.v10"])
def test_an_event_that_was_never_released_is_unknown(topic: str) -> None:
    with pytest.raises(UnknownEvent) as caught:
        CODEC.decode(topic, {})
    assert repr(topic) in str(caught.value)


def test_what_may_be_missing_may_be_missing_for_ever() -> None:
    queued = {"owner": "ada", "recipe": recipe().model_dump(mode="json"), "pool": "sdxl"}
    _, event, _ = CODEC.decode("job.queued.v1", queued)
    assert event == JobQueued(owner="ada", recipe=recipe(), pool="sdxl")
    stopping = {"attempt": 1, "reason": "worker_stopping", "not_before": NOW.isoformat()}
    _, event, _ = CODEC.decode("job.requeued.v1", stopping)
    assert event == JobRequeued(attempt=1, reason=RequeueReason.WORKER_STOPPING, not_before=NOW)


def test_null_survives() -> None:
    topic, encoded = CODEC.encode(AssetTitled(title=None))
    assert CODEC.decode(topic, json.loads(encoded))[1] == AssetTitled(title=None)


def test_the_words_inside_events_are_released_too() -> None:
    assert set(ErrorClass) == {
        "out_of_memory", "transient", "invalid_input", "model_unavailable", "worker_lost", "internal",
    }  # fmt: skip
    assert set(RequeueReason) == {"failed", "worker_lost", "worker_stopping"}


# Upcasting: a history of versions that never was, to show that such a history would be read.


class WorkerTookJob(Event):
    """How `job.started` might look in its third version."""

    attempt: int
    worker: str
    gpu: str


def _named(data: dict[str, Any]) -> dict[str, Any]:
    return {"attempt": data["number"], "worker": data["worker"]}


def _with_gpu(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "gpu": "unknown"}


THIRD_VERSION = Codec(
    current={"job.started.v3": WorkerTookJob},
    upcasters={"job.started.v1": ("job.started.v2", _named), "job.started.v2": ("job.started.v3", _with_gpu)},
)


@pytest.mark.parametrize(
    ("topic", "data"),
    [
        ("job.started.v1", {"number": 2, "worker": "gpu-1"}),
        ("job.started.v2", {"attempt": 2, "worker": "gpu-1"}),
        ("job.started.v3", {"attempt": 2, "worker": "gpu-1", "gpu": "unknown"}),
    ],
)
def test_every_version_is_read_as_the_current_one(topic: str, data: dict[str, Any]) -> None:
    written = dict(data)
    current, event, upcast = THIRD_VERSION.decode(topic, data)
    assert current == "job.started.v3"
    assert event == WorkerTookJob(attempt=2, worker="gpu-1", gpu="unknown")
    assert upcast == {"attempt": 2, "worker": "gpu-1", "gpu": "unknown"}
    assert data == written


def test_only_the_current_version_is_written() -> None:
    topic, encoded = THIRD_VERSION.encode(WorkerTookJob(attempt=1, worker="gpu-1", gpu="H100"))
    assert (topic, json.loads(encoded)) == ("job.started.v3", {"attempt": 1, "worker": "gpu-1", "gpu": "H100"})
    with pytest.raises(KeyError):
        THIRD_VERSION.encode(JobStarted(attempt=1, worker="gpu-1"))


def test_every_upcaster_leads_to_a_current_event() -> None:
    for old in UPCASTERS:
        assert CODEC.decode(old, _golden(old))[0] in CURRENT


@pytest.mark.parametrize(
    ("topic", "name"),
    [("job.queued.v1", "job.queued"), ("asset.completed.v12", "asset.completed"), ("a.very.v1", "a.very")],
)
def test_the_name_is_the_topic_without_its_version(topic: str, name: str) -> None:
    assert name_of(topic) == name


@pytest.mark.parametrize(
    ("name", "kinds", "wanted"),
    [
        ("asset.rated", ("asset.rated",), True),
        ("asset.rated.v7", ("job", "asset.rated"), True),
        ("asset.rated", ("asset",), True),
        ("asset.flagged.v1", ("asset",), True),
        ("asset.rated_twice.v1", ("asset.rated",), False),
        ("assets.rated.v1", ("asset", "asset.rated"), False),
        ("job.started", ("asset", "job.queued"), False),
        ("flagged", ("asset",), False),
        ("flagged", (), True),
    ],
)
def test_a_kind_is_all_of_an_aggregate_or_one_event_of_any_version(
    name: str, kinds: tuple[str, ...], *, wanted: bool
) -> None:
    assert of_kinds(name, kinds) is wanted


def test_all_versions_of_an_event_share_its_name() -> None:
    for old, (new, _) in UPCASTERS.items():
        assert name_of(old) == name_of(new)


def _unset(model: BaseModel, path: str = "") -> list[str]:
    unset = [f"{path}{name}" for name in model.__class__.model_fields if name not in model.model_fields_set]
    for name, value in model:
        if value is None or value in ((), {}):
            unset.append(f"{path}{name}")
        if isinstance(value, BaseModel):
            unset += _unset(value, f"{path}{name}.")
    return unset
