"""Stable names for events. A released name and version decodes forever; `tests/golden` holds one of each."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from domain import events
from domain.events import Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

CURRENT: Final[Mapping[str, type[Event]]] = {
    "job.queued.v1": events.JobQueued,
    "job.started.v1": events.JobStarted,
    "job.prompt_enhanced.v1": events.JobPromptEnhanced,
    "job.memory_lowered.v1": events.JobMemoryLowered,
    "job.handed_over.v1": events.JobHandedOver,
    "job.warned.v1": events.JobWarned,
    "job.requeued.v1": events.JobRequeued,
    "job.cancel_requested.v1": events.JobCancelRequested,
    "job.reprioritized.v1": events.JobReprioritized,
    "job.succeeded.v1": events.JobSucceeded,
    "job.partially_succeeded.v1": events.JobPartiallySucceeded,
    "job.failed.v1": events.JobFailed,
    "job.canceled.v1": events.JobCanceled,
    "job.aborted.v1": events.JobAborted,
    "asset.reserved.v1": events.AssetReserved,
    "asset.completed.v1": events.AssetCompleted,
    "asset.failed.v1": events.AssetFailed,
    "asset.canceled.v1": events.AssetCanceled,
    "asset.thumbnailed.v1": events.AssetThumbnailed,
    "asset.rated.v1": events.AssetRated,
    "asset.titled.v1": events.AssetTitled,
    "asset.tagged.v1": events.AssetTagged,
    "asset.saved.v1": events.AssetSaved,
    "asset.unsaved.v1": events.AssetUnsaved,
    "asset.dismissed.v1": events.AssetDismissed,
    "asset.trashed.v1": events.AssetTrashed,
    "asset.restored.v1": events.AssetRestored,
    "asset.purged.v1": events.AssetPurged,
    "media.uploaded.v1": events.MediaUploaded,
    "media.used.v1": events.MediaUsed,
    "media.deleted.v1": events.MediaDeleted,
    "batch.opened.v1": events.BatchOpened,
    "batch.item_added.v1": events.BatchItemAdded,
    "batch.renamed.v1": events.BatchRenamed,
    "batch.preferred.v1": events.BatchPreferred,
    "prompt.saved.v1": events.PromptSaved,
    "prompt.edited.v1": events.PromptEdited,
    "prompt.deleted.v1": events.PromptDeleted,
    "pool.paused.v1": events.PoolPaused,
    "pool.drained.v1": events.PoolDrained,
    "pool.resumed.v1": events.PoolResumed,
    "worker.paused.v1": events.WorkerPaused,
    "worker.drained.v1": events.WorkerDrained,
    "worker.resumed.v1": events.WorkerResumed,
    "enhancement.made.v1": events.EnhancementMade,
    "user.key_added.v1": events.UserKeyAdded,
    "user.key_revoked.v1": events.UserKeyRevoked,
    "ledger.restored.v1": events.LedgerRestored,
}
"""The topic under which each class is written now."""

UPCASTERS: Final[Mapping[str, tuple[str, Upcaster]]] = {}
"""Old topic → (next topic, function that converts its data). Applied until the topic is current."""


class UnknownEvent(Exception):
    """The ledger holds an event that this version of Darkroom does not know. Install the version that wrote it."""

    code = "unknown_event"


class Codec:
    """Convert events to stable names and JSON, and back. Pure; a test can pass tables with another version."""

    def __init__(
        self,
        current: Mapping[str, type[Event]] = CURRENT,
        upcasters: Mapping[str, tuple[str, Upcaster]] = UPCASTERS,
    ) -> None:
        self._class_of = current
        self._topic_of = {event_class: topic for topic, event_class in current.items()}
        self._upcasters = upcasters

    def encode(self, event: Event) -> tuple[str, bytes]:
        """The stable topic (`job.queued.v1`) and the event's JSON."""
        return self._topic_of[type(event)], event.__pydantic_serializer__.to_json(event)

    def decode(self, topic: str, data: dict[str, Any]) -> tuple[str, Event, dict[str, Any]]:
        """The current topic, the event and its upcast data. Raises `UnknownEvent` for an unknown topic."""
        while topic in self._upcasters:
            topic, upcast = self._upcasters[topic]
            data = upcast(data)
        event_class = self._class_of.get(topic)
        if event_class is None:
            raise UnknownEvent(f"The ledger holds an event of type {topic!r}, which this version does not know.")
        return topic, event_class.__pydantic_validator__.validate_python(data), data


@lru_cache(maxsize=1_000)
def name_of(topic: str) -> str:
    """The stable name without its version: `asset.completed.v1` → `asset.completed`."""
    return topic.rpartition(".v")[0]


NAMES: Final[Mapping[type[Event], str]] = {event_class: name_of(topic) for topic, event_class in CURRENT.items()}


@lru_cache(maxsize=1_000)
def of_kinds(name: str, kinds: tuple[str, ...]) -> bool:
    """Whether an event name or topic is one of these kinds; works for unknown events too.

    A kind is an aggregate (`job`) or one event name (`asset.rated`). No kinds match everything.
    """
    aggregate, _, rest = name.partition(".")
    return not kinds or aggregate in kinds or f"{aggregate}.{rest.partition('.')[0]}" in kinds
