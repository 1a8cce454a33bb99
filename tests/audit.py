"""Asks OSV whether a known vulnerability lies in a version that requirements.lock pins; a part of `make check`.

OSV (https://osv.dev) has the advisories of PyPI and of GitHub, and one question to it is about all pins
(https://google.github.io/osv.dev/post-v1-querybatch/). pip-audit asks about one package after the other, takes "no such
package" of an index without advisories for "no vulnerability", brings fourteen packages along that had to be audited
too, and ends alike when a vulnerability is found and when nobody answers.

What is found fails. What cannot be asked is said in a line and passes: a check does not depend on the network. What
cannot be fixed stands with its reason in pyproject.toml, under `tool.darkroom.accepted-vulnerabilities`.
"""

import argparse
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

from tests.osv import Advisory, CannotBeAsked, Finding, Pin, advisories, as_one, ids_of

ROOT: Final = Path(__file__).parents[1]
SERVICE: Final = "https://api.osv.dev"

PATIENCE_S: Final = 10.0
"""For what is found, and again for what it is; OSV answers in less than one."""

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!_-]+)")

T = TypeVar("T")


class Misused(Exception):
    """What is to be audited cannot be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing is found, or nothing can be asked; 1: something is found; 2: the lock or pyproject.toml is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--pyproject", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--service", default=SERVICE)
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="SECONDS")
    given = parser.parse_args(arguments)
    try:
        pins = pins_in(given.lock.read_text("utf-8"))
        accepted = accepted_in(given.pyproject.read_text("utf-8"))
        found = findings(given.service, pins, given.patience)
    except Misused as wrong:
        print(f"audit: {wrong}")
        return 2
    except CannotBeAsked as why:
        print(f"audit: skipped, {given.service} cannot be asked about known vulnerabilities: {why}")
        return 0
    return tell(pins, found, accepted)


def findings(service: str, pins: Sequence[Pin], patience_s: float) -> list[Finding]:
    """What the service knows of these pins, by the ids alone where it says no more. Raises `CannotBeAsked`."""
    ids = within(patience_s, lambda: ids_of(service, pins))
    each = {one for some in ids.values() for one in some}
    try:
        known = within(patience_s, lambda: advisories(service, each))
    except CannotBeAsked:
        known = {one: Advisory(id=one) for one in each}
    return [finding for pin, some in ids.items() for finding in as_one(pin, [known[one] for one in some])]


def tell(pins: Sequence[Pin], found: Sequence[Finding], accepted: Mapping[str, str]) -> int:
    """Say what was found; whether anything counts."""
    counting = [finding for finding in found if not finding.names & accepted.keys()]
    for finding in found:
        for name in sorted(finding.names & accepted.keys()):
            print(f"audit: accepted, {accepted[name]}: {finding}")
    for name in sorted(accepted.keys() - {name for finding in found for name in finding.names}):
        print(f"audit: {name} is accepted in pyproject.toml and found no more; take it out")
    for finding in counting:
        print(f"audit: VULNERABLE: {finding}")
    if counting:
        print(
            "audit: raise the bounds in pyproject.toml and run `make lock`; what cannot be fixed, accept with a "
            "reason in pyproject.toml under tool.darkroom.accepted-vulnerabilities"
        )
        return 1
    print(f"audit: no known vulnerability in {len(pins)} pinned versions")
    return 0


def pins_in(lock: str) -> list[Pin]:
    """Every line's. Raises `Misused` for one that is no pin: nobody would ever ask about it."""
    pins = []
    for line in lock.splitlines():
        if line.strip() and not line.startswith("#"):
            found = PIN.fullmatch(line.strip())
            if found is None:
                raise Misused(f"requirements.lock: {line!r} is not NAME==VERSION; write it again with `make lock`")
            pins.append((found[1], found[2]))
    return pins


def accepted_in(pyproject: str) -> dict[str, str]:
    """Ids and the reasons. Raises `Misused` for one without."""
    accepted = tomllib.loads(pyproject).get("tool", {}).get("darkroom", {}).get("accepted-vulnerabilities", {})
    for name, reason in accepted.items():
        if not isinstance(reason, str) or not reason.strip():
            raise Misused(f'pyproject.toml: accepted-vulnerabilities: say why: {name} = "the reason"')
    return dict(accepted)


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What it returns or raises; `CannotBeAsked` if that takes longer, be it that no name server answers."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="audit", daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise CannotBeAsked(f"no answer within {seconds:g} s") from None


if __name__ == "__main__":
    sys.exit(main())
