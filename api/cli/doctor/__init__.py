"""`darkroom doctor`: looks for the likeliest faults, and says how to repair each. Changes nothing.

Each check is a function that takes the scene and raises `Fault`, or `CheckSkipped` where it has nothing to look at.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import typer

from api.cli.doctor import databases, machine, servers
from api.cli.doctor.scene import CheckResult, CheckSkipped, Examination, Fault
from api.cli.terminal import pasteable, say
from services.observability.redaction import secrets_of, without_values

CHECKS: Final[Sequence[tuple[str, Callable[[Examination], None]]]] = (
    ("settings", machine.settings_valid),
    ("catalog", machine.catalog_valid),
    ("data folder", machine.folder_usable),
    ("disk", machine.disk_free),
    ("bundled servers", machine.bundled_installed),
    ("left over", machine.tidy),
    ("worker", machine.worker_able),
    ("postgres", databases.postgres_reachable),
    ("schema", databases.schema_fits),
    ("ledger", databases.ledger_writable),
    ("clock", databases.clocks_agree),
    ("api role", databases.api_role_fits),
    ("views", databases.views_follow),
    ("queue", databases.queue_moves),
    ("services", databases.services_go_on),
    ("nats", servers.nats_usable),
    ("object store", servers.store_usable),
    ("api", servers.api_answers),
)
"""In this order: what comes first explains what comes later."""


def doctor(data_dir: Path | None, *, as_json: bool) -> int:
    """Make every check and say what was found; 1 when something is wrong."""
    found = examine(Examination.of_environment(data_dir))
    faults = [finding for finding in found if finding.status == "fault"]
    if as_json:
        typer.echo(json.dumps([finding.document() for finding in found], indent=2))
    else:
        for line in lines_of(found):
            say(pasteable(line))
        typer.echo(f"\n{len(faults)} of {len(found)} checks found a fault." if faults else "\nNothing is wrong.")
    return 1 if faults else 0


def lines_of(found: Sequence[CheckResult]) -> list[str]:
    """For a person: a line for each check that is ok, and one for each cause with all the checks that it explains."""
    causes: dict[tuple[object, ...], list[CheckResult]] = {}
    for finding in found:
        own = finding.check if finding.status == "ok" else ""
        causes.setdefault((finding.status, finding.what, finding.remedy, own), []).append(finding)
    return [replace(same[0], check=", ".join(each.check for each in same)).line() for same in causes.values()]


def examine(scene: Examination) -> list[CheckResult]:
    """Make every check; none holds up another, and no secret is in what they say."""
    return [finding_of(name, check, scene) for name, check in CHECKS]


def finding_of(name: str, check: Callable[[Examination], None], scene: Examination) -> CheckResult:
    """Make one check."""
    try:
        check(scene)
    except Fault as fault:
        return CheckResult(name, "fault", _clean(fault.what), fault.remedy)
    except CheckSkipped as skipped:
        return CheckResult(name, "skipped", str(skipped))
    except Exception as error:  # a check that breaks is a finding as well: something is as nobody foresaw
        what = f"The check broke off: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return CheckResult(name, "fault", _clean(what), "Fix what the other checks found first, and run it again.")
    return CheckResult(name, "ok")


def _clean(what: str) -> str:
    return without_values(what, secrets_of(os.environ))
