"""Where a model comes from, as DARKROOM_MODELS says: a folder or a file of this machine, a hub id, or a provider."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gpu_worker.engines import ModelUnavailable
from services.observability.redaction import one_line

HUB_ID: Final = re.compile(r"\w[\w.-]*/[\w.-]+")


def source_of(model_name: str, sources: Mapping[str, str]) -> str:
    """The source of a model. Raises ModelUnavailable for a model that this worker does not have."""
    if model_name not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise ModelUnavailable(
            f"This worker has no model called {model_name}; its models are: {known}. "
            f"Add {model_name}=FOLDER to DARKROOM_MODELS."
        )
    return sources[model_name]


def is_hub_id(source: str) -> bool:
    """Whether a source is an id of the hub; a path that exists on this machine is none."""
    return HUB_ID.fullmatch(source) is not None and not Path(source).expanduser().exists()


def snapshot_of(hub_id: str, download: Callable[[], str]) -> Path:
    """The folder of a hub model in the cache on this machine, after `download` of the files that are missing.

    Raises ModelUnavailable.
    """
    try:
        return Path(download())
    except Exception as error:  # the hub raises its own errors, and those of requests, httpx and the system
        raise ModelUnavailable(
            f"{hub_id} is no folder here, and as a hub id it cannot be fetched: {one_line(error)}"
        ) from None
