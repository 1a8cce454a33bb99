"""Unknown variables `DARKROOM_*`: a misspelled setting is reported instead of silently ignored."""

from collections.abc import Iterable
from typing import Final

from domain.setting_names import PREFIX, unread

OF_WORKERS: Final = frozenset({
    "DARKROOM_BLOBS_URL", "DARKROOM_CHANNELS_LAST", "DARKROOM_COMPILE", "DARKROOM_DATA_DIR", "DARKROOM_DEVICE",
    "DARKROOM_DTYPE", "DARKROOM_ENHANCER", "DARKROOM_FAL_URL", "DARKROOM_HEARTBEAT_S", "DARKROOM_JOBS_AT_ONCE",
    "DARKROOM_LOG_FORMAT", "DARKROOM_LOG_LEVEL", "DARKROOM_MEMORY_BUDGET_MB", "DARKROOM_MODELS", "DARKROOM_NATS_URL",
    "DARKROOM_FILE_RECIPE", "DARKROOM_POOLS", "DARKROOM_REPLICATE_URL", "DARKROOM_WORKER_NAME",
})  # fmt: skip
"""Settings of a worker, which cannot be imported here; a test compares both."""


def warning_about(names: Iterable[str]) -> str | None:
    """A sentence about variables that are not settings; None if there are none. Does not read their values."""
    given = [name for name in names if name.startswith(PREFIX)]
    if not given:
        return None
    from services.settings import Settings  # noqa: PLC0415 - takes a while; most people set nothing

    named = unread(given, {PREFIX + field.upper() for field in Settings.model_fields} | OF_WORKERS)
    return None if named is None else f"no setting is called {named}; ignored. `darkroom settings` lists them."
