"""The ledger: load, decide, append. The only package that imports the eventsourcing library.

The library stores and reads events; the rules are the domain's deciders, and writes go through the group commit of
`services/ledger/flusher.py`. Both recorders, Postgres and in memory, accept the same commits and pass the same tests.
"""

from services.ledger.aggregates import (
    ASSET,
    BATCH,
    JOB,
    MEDIA,
    POOL,
    PROMPT,
    WORKER,
    AssetExecuted,
    BatchExecuted,
    Executed,
    JobExecuted,
    MediaExecuted,
    PoolExecuted,
    PromptExecuted,
    WorkerExecuted,
)
from services.ledger.application import Ledger
from services.ledger.mapper import EventMapper
from services.ledger.planning import Context, Instruction
from services.ledger.recorders import InMemoryRecorder, PostgresRecorder, RawEvent

__all__ = [
    "ASSET",
    "BATCH",
    "JOB",
    "MEDIA",
    "POOL",
    "PROMPT",
    "WORKER",
    "AssetExecuted",
    "BatchExecuted",
    "Context",
    "EventMapper",
    "Executed",
    "InMemoryRecorder",
    "Instruction",
    "JobExecuted",
    "Ledger",
    "MediaExecuted",
    "PoolExecuted",
    "PostgresRecorder",
    "PromptExecuted",
    "RawEvent",
    "WorkerExecuted",
]
