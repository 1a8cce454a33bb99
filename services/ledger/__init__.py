"""The ledger: load, decide, append. The one package that imports the eventsourcing library.

The library keeps events and hands them out; the rules are the domain's deciders, and writing is the group commit of
`services/flusher.py`. Both recorders, Postgres and in memory, take the same commits and pass the same tests.
"""

from services.ledger.application import (
    Asked,
    AssetExecuted,
    BatchExecuted,
    Context,
    FleetExecuted,
    JobExecuted,
    Ledger,
    MediaExecuted,
    PromptExecuted,
)
from services.ledger.mapper import EventMapper
from services.ledger.recorders import InMemoryRecorder, PostgresRecorder, RawEvent

__all__ = [
    "Asked",
    "AssetExecuted",
    "BatchExecuted",
    "Context",
    "EventMapper",
    "FleetExecuted",
    "InMemoryRecorder",
    "JobExecuted",
    "Ledger",
    "MediaExecuted",
    "PostgresRecorder",
    "PromptExecuted",
    "RawEvent",
]
