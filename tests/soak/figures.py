"""What a soak was made of, for programs and for people."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.soak.faults import Chaos
from tests.soak.fleet import Fleet
from tests.soak.listening import Listener
from tests.soak.traffic import Owner
from tests.soak.watching import Outages
from tests.system.facts import Fact
from tests.system.invariants import JOB_ENDINGS, Found, attempts_of

WRONG_BY_S_MIN: Final = 30.0

Figures = dict[str, Any]

LATE: Final = re.compile(r"discarded: another attempt|refused: ")
UNFORESEEN: Final = re.compile(r"^Traceback|failed and is started again|failed unexpectedly")


def figures_of(
    seconds: float,
    rest_s: float,
    found: Found,
    owners: Sequence[Owner],
    listeners: Sequence[Listener],
    outages: Outages,
    chaos: Chaos,
    fleet: Fleet,
) -> Figures:
    """All of it, as JSON takes it."""
    facts = found.facts
    names = Counter(fact.name for fact in facts)
    said = [submission for owner in owners for submission in owner.said]
    return {
        "cores": os.cpu_count(),
        "seconds": seconds,
        "events": len(facts),
        "jobs": {name.removeprefix("job."): names[name] for name in ("job.queued", *sorted(JOB_ENDINGS))},
        "assets_completed": names["asset.completed"],
        "thumbnails": names["asset.thumbnailed"],
        "batches": dict(Counter(fact.data["kind"] for fact in facts if fact.name == "batch.opened")),
        "preferences": names["batch.preferred"],
        "jobs_that_run_again": sum(fact.name == "job.queued" and bool(fact.data["parent_id"]) for fact in facts),
        "prompts": {
            name.removeprefix("prompt."): names[name] for name in ("prompt.saved", "prompt.edited", "prompt.deleted")
        },
        "uploads": names["media.uploaded"],
        "ratings": names["asset.rated"],
        "submits": dict(Counter(submission.answer for submission in said)),
        "other_calls": dict(Counter(call.answer for owner in owners for call in owner.made.calls)),
        "retries": dict(Counter(again.answer for owner in owners for again in owner.made.retries)),
        "refusals": dict(sum((owner.refusals for owner in owners), Counter())),
        "answers": dict(sum((owner.requests for owner in owners), Counter())),
        "attempts": {str(number): jobs for number, jobs in sorted(Counter(attempts_of(facts).values()).items())},
        "requeued": dict(Counter(fact.data["reason"] for fact in facts if fact.name == "job.requeued")),
        "workers_fenced_off": _count(LATE, [log for log in fleet.logs if log.name.startswith("worker-")]),
        "errors_of_the_wrong_clock": sum(map(_is_of_another_time, facts)),
        "faults": dict(Counter(f"{fault.kind}: {fault.target}" for fault in chaos.done)),
        "faults_that_met_nothing": len(chaos.missed),
        "restores": dict(chaos.restoring.ways),
        "events_taken_back": chaos.restoring.taken_back,
        "events_lost": len(chaos.restoring.losses.facts),
        "processes_started_again": fleet.ended,
        "outages": {
            "number": outages.number,
            "longest_s": round(outages.longest_s, 1),
            "total_s": round(outages.total_s, 1),
        },
        "rest_s": round(rest_s, 1),
        "stream_clients": {
            "clients": len(listeners),
            "connections": sum(one.connections for one in listeners),
            "events": sum(len(one.heard.events) for one in listeners),
            "restores_announced": sum(one.restores for one in listeners),
        },
        "files_by_exception": dict(found.excepted),
    }


def unforeseen(logs: Sequence[Path]) -> list[tuple[Path, str]]:
    """Lines that tell of an error which nobody foresaw, each with its log."""
    return [
        (log, line) for log in logs for line in log.read_text(errors="replace").splitlines() if UNFORESEEN.search(line)
    ]


def _is_of_another_time(fact: Fact) -> bool:
    """A worker's clock shows in its errors, and nowhere else in the ledger."""
    context = (fact.data.get("error") or {}).get("context") if fact.name == "asset.failed" else None
    if context is None:
        return False
    return abs((datetime.fromisoformat(context["at"]) - fact.at).total_seconds()) > WRONG_BY_S_MIN


def _count(pattern: re.Pattern[str], logs: Sequence[Path]) -> int:
    return sum(len(pattern.findall(log.read_text(errors="replace"))) for log in logs)


def table_of(figures: Figures) -> str:
    """The same as lines of a Markdown table."""
    rows = ["| figure | value |", "|---|---|"]
    for name, value in figures.items():
        text = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else str(value)
        rows.append(f"| {name.replace('_', ' ')} | {text or 'none'} |")
    return "\n".join(rows)
