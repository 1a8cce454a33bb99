"""The ledger: load, decide, append. The only package that imports the eventsourcing library.

The library stores and reads events; the rules are the domain's deciders, and writes go through the group commit of
`services/ledger/flusher.py`. Both recorders, Postgres and in memory, accept the same commits and pass the same tests.
"""

from services.ledger.application import (
    AssetExecuted,
    BatchExecuted,
    Context,
    FleetExecuted,
    Instruction,
    JobExecuted,
    Ledger,
    MediaExecuted,
    PromptExecuted,
)
from services.ledger.mapper import EventMapper
from services.ledger.recorders import InMemoryRecorder, PostgresRecorder, RawEvent

__all__ = [
    "AssetExecuted",
    "BatchExecuted",
    "Context",
    "EventMapper",
    "FleetExecuted",
    "InMemoryRecorder",
    "Instruction",
    "JobExecuted",
    "Ledger",
    "MediaExecuted",
    "PostgresRecorder",
    "PromptExecuted",
    "RawEvent",
]
