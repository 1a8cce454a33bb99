"""The statuses of jobs, items and assets. Imports nothing of ours: the command line reads them at its start."""

from typing import Final, Literal, get_args

JobStatus = Literal["queued", "processing", "succeeded", "partially_succeeded", "failed", "canceled", "aborted"]

ItemStatus = Literal[JobStatus, "rejected"]
"""Of an item of a batch: that of its job; rejected: it has none."""

AssetStatus = Literal["reserved", "completed", "failed", "canceled", "purged"]

OutputKind = Literal["image", "video"]
"""What a job makes."""

ITEM_STATUSES: Final[tuple[str, ...]] = get_args(ItemStatus)

ENDED: Final = frozenset(get_args(JobStatus)) - {"queued", "processing"}
"""The final statuses of a job."""
