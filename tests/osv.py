"""The vulnerability database OSV, as far as `tests.audit` asks it: https://google.github.io/osv.dev/api/."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

ANSWER_S_MAX: Final = 10.0

Pin = tuple[str, str]
"""Name and version."""

Shape = TypeVar("Shape", bound=BaseModel)


class CannotBeAsked(Exception):
    """The service gave no answer, or none that it documents."""


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a pin. It has an id in each database that knows it; they learn once, as one."""

    pin: Pin
    names: frozenset[str]
    summary: str
    fixed_in: frozenset[str]

    def __str__(self) -> str:
        """For the person who repairs it."""
        package, version = self.pin
        fixed = f"fixed in {', '.join(sorted(self.fixed_in))}" if self.fixed_in else "not fixed by any version yet"
        return f"{package} {version}: {', '.join(sorted(self.names))}: {self.summary or 'no summary'} ({fixed})"


class Brief(BaseModel):
    """A vulnerability in the answer about all pins."""

    id: str


class OfOnePin(BaseModel):
    """With a token, there is more to be asked for."""

    vulns: list[Brief] = []
    next_page_token: str = ""


class OfAllPins(BaseModel):
    """In the order of the questions."""

    results: list[OfOnePin]


class Range(BaseModel):
    """From where to where a package is affected; versions of it where the type is ECOSYSTEM, else commits."""

    type: str = ""
    events: list[dict[str, str]] = []


class Affected(BaseModel):
    """A package that has the vulnerability; it may be of another ecosystem."""

    package: dict[str, str] = {}
    ranges: list[Range] = []


class Advisory(BaseModel):
    """A vulnerability in full, as far as it is read here."""

    id: str
    aliases: list[str] = []
    summary: str = ""
    withdrawn: str | None = None
    affected: list[Affected] = []


def ids_of(service: str, pins: Sequence[Pin]) -> dict[Pin, list[str]]:
    """Of the vulnerabilities that each pin has. Raises `CannotBeAsked`."""
    ids: dict[Pin, list[str]] = {pin: [] for pin in pins}
    asking: dict[Pin, dict[str, object]] = {
        (name, version): {"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pins
    }
    while asking:
        results = ask("POST", f"{service}/v1/querybatch", OfAllPins, {"queries": list(asking.values())}).results
        if len(results) != len(asking):
            raise CannotBeAsked(f"{len(asking)} questions got {len(results)} answers")
        answered = dict(zip(asking, results, strict=True))
        for pin, of_pin in answered.items():
            ids[pin] += [one.id for one in of_pin.vulns]
        more = {pin: of_pin.next_page_token for pin, of_pin in answered.items() if of_pin.next_page_token}
        asking = {pin: {**asking[pin], "page_token": token} for pin, token in more.items()}
    return ids


def advisories(service: str, ids: Iterable[str]) -> dict[str, Advisory]:
    """Each in full. Raises `CannotBeAsked`."""
    return {each: ask("GET", f"{service}/v1/vulns/{each}", Advisory) for each in ids}


def as_one(pin: Pin, known: Iterable[Advisory]) -> list[Finding]:
    """Those that share an id are one finding; those that were withdrawn are none."""
    found: list[Finding] = []
    for one in known:
        if one.withdrawn is None:
            names, summary, fixed = {one.id, *one.aliases}, one.summary, fixed_in(one, pin[0])
            for same in [other for other in found if other.names & names]:
                found.remove(same)
                names, summary, fixed = names | same.names, same.summary or summary, fixed | same.fixed_in
            found.append(Finding(pin, frozenset(names), summary, frozenset(fixed)))
    return found


def fixed_in(advisory: Advisory, package: str) -> set[str]:
    """The first versions of the package, one for each of its lines, that do not have it any more."""
    ranges = [
        reach
        for one in advisory.affected
        if canonical(one.package.get("name", "")) == canonical(package)
        for reach in one.ranges
    ]
    return {
        event["fixed"] for reach in ranges if reach.type == "ECOSYSTEM" for event in reach.events if "fixed" in event
    }


def ask(method: str, url: str, shape: type[Shape], body: object = None) -> Shape:
    """One answer. Raises `CannotBeAsked`."""
    try:
        answer = httpx.request(method, url, json=body, timeout=ANSWER_S_MAX)
    except httpx.HTTPError as error:
        raise CannotBeAsked(str(error) or type(error).__name__) from None
    if answer.status_code != httpx.codes.OK:
        raise CannotBeAsked(f"it answered {answer.status_code}")
    try:
        return shape.model_validate_json(answer.content)
    except ValidationError:
        raise CannotBeAsked("it answered something that OSV does not document") from None


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
