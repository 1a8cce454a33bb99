"""Variables `DARKROOM_*` that nothing reads: a misspelled setting is named instead of ignored without a word."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "DARKROOM_"

OF_WORKERS: Final = frozenset({
    "DARKROOM_BLOBS_URL", "DARKROOM_CHANNELS_LAST", "DARKROOM_COMPILE", "DARKROOM_DATA_DIR", "DARKROOM_DEVICE",
    "DARKROOM_DTYPE", "DARKROOM_ENHANCER", "DARKROOM_FAL_URL", "DARKROOM_HEARTBEAT_S", "DARKROOM_JOBS_AT_ONCE",
    "DARKROOM_LOG_FORMAT", "DARKROOM_LOG_LEVEL", "DARKROOM_MEMORY_BUDGET_MB", "DARKROOM_MODELS", "DARKROOM_NATS_URL",
    "DARKROOM_FILE_RECIPE", "DARKROOM_POOLS", "DARKROOM_REPLICATE_URL", "DARKROOM_WORKER_NAME",
})  # fmt: skip
"""What a worker reads, whose settings this side cannot import; a test holds the two together."""

OF_TESTS: Final = frozenset({"DARKROOM_CRASH_AT"})
"""No setting; `services.crash_points` says what it is."""


def warning_about(names: Iterable[str]) -> str | None:
    """A sentence about variables that are no settings; None where there are none. Their values are not looked at."""
    given = sorted(name for name in names if name.startswith(PREFIX))
    if not given:
        return None
    from services.settings import Settings  # noqa: PLC0415 - takes a while; most people set nothing

    known = {PREFIX + field.upper() for field in Settings.model_fields} | OF_WORKERS | OF_TESTS
    unknown = [name for name in given if name not in known]
    if not unknown:
        return None
    named = ", ".join(_with_advice(name, known) for name in unknown)
    return f"no setting is called {named}; ignored. `darkroom settings` lists them."


def _with_advice(name: str, known: Iterable[str]) -> str:
    endings = sorted(each.removeprefix(PREFIX) for each in known)
    near = get_close_matches(name.removeprefix(PREFIX), endings, n=1)
    return f"{name} (did you mean {PREFIX}{near[0]}?)" if near else name
