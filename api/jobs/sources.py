"""Resolves the sources in a body to files, with a problem for each that cannot be used."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain.aggregates.asset import Completed, Purged, job_of, status_of
from domain.errors import FieldProblem, InvalidInput, NotFound, Refused
from domain.events import MediaKind
from domain.json_type import Json
from domain.recipes.recipe import InputFile, Reference
from services.ledger import Ledger

SOURCE: Final = re.compile(
    r"(media|asset):([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.ASCII | re.IGNORECASE
)
ALLOWED: Final = "must be `media:ID` of an upload of yours or `asset:ID` of a completed asset of yours"

WORDS: Final[dict[MediaKind, str]] = {"image": "an image", "video": "a video", "audio": "a sound"}

REFERENCES_MAX: Final = 16
"""Maximum number of reference pictures of a job: each is read from the ledger, and no model takes as many."""

Source = tuple[str, object, Sequence[MediaKind]]
"""Its path in the body (`references.0.source`), its value, and the kinds of file that are allowed."""


def sources_of(references: Sequence[Reference], media: Mapping[str, str]) -> list[Source]:
    """The sources of a valid body or recipe."""
    return _sources([(place, each.source) for place, each in enumerate(references)], media)


def sources_in(content: Json) -> list[Source]:
    """The sources of a body or recipe that may be damaged: those that can be read."""
    references, media = content.get("references"), content.get("media")
    named = []
    if isinstance(references, list) and len(references) <= REFERENCES_MAX:
        named = [(place, each.get("source")) for place, each in enumerate(references) if isinstance(each, dict)]
    return _sources(named, media if isinstance(media, dict) else {})


def _sources(references: Iterable[tuple[int, object]], media: Mapping[str, object]) -> list[Source]:
    sources: list[Source] = [
        (f"references.{place}.source", source, ("image",)) for place, source in references if isinstance(source, str)
    ]
    sources += [(f"media.{kind}", media[kind], (kind,)) for kind in WORDS if isinstance(media.get(kind), str)]
    return sources


class Files:
    """Resolves the sources of an owner's requests; each is read from the ledger only once."""

    def __init__(self, owner: str, ledger: Ledger) -> None:
        self.owner = owner
        self.ledger = ledger
        self._known: dict[str, InputFile | _Unusable] = {}
        self._jobs: dict[UUID, UUID | None] = {}

    def resolve(self, sources: Iterable[Source]) -> dict[str, InputFile]:
        """The owner's files by source. Blocks.

        Raises `InvalidInput` with every problem (another owner's file looks like one that does not exist), and
        `Unavailable`.
        """
        files: dict[str, InputFile] = {}
        problems: list[FieldProblem] = []
        for path, source, kinds in sources:
            file = self._file_of(source)
            if isinstance(file, _Unusable):
                problems.append(FieldProblem(path, file.reason))
            elif file.kind not in kinds:
                problems.append(FieldProblem(path, f"must be {_any_of(kinds)}, and {source} is {_any_of([file.kind])}"))
            else:
                files[str(source)] = file
        if problems:
            raise InvalidInput(problems)
        return files

    def job_behind(self, source: object) -> UUID | None:
        """The job of the asset that a new job continues; None for an upload or no source. Blocks."""
        found = SOURCE.fullmatch(source) if isinstance(source, str) else None
        if found is None or found[1].lower() != "asset":
            return None
        asset = UUID(found[2])
        if asset not in self._jobs:
            self._jobs[asset] = job_of(self.ledger.asset(asset, owner=self.owner))
        return self._jobs[asset]

    def _file_of(self, source: object) -> "InputFile | _Unusable":
        found = SOURCE.fullmatch(source) if isinstance(source, str) else None
        if found is None or not isinstance(source, str):
            return _Unusable(f"{ALLOWED}; paths, URLs and bare ids are not taken")
        if source not in self._known:
            read = _upload if found[1].lower() == "media" else _asset
            try:
                self._known[source] = read(UUID(found[2]), self.owner, self.ledger)
            except NotFound:
                self._known[source] = _Unusable(f"{ALLOWED}; there is no {source}")
        return self._known[source]


def resolve(sources: Iterable[Source], owner: str, ledger: Ledger) -> dict[str, InputFile]:
    """The files that one request names. See `Files.resolve`."""
    return Files(owner, ledger).resolve(sources)


def gone(error: NotFound, sources: Iterable[Source]) -> Refused:
    """The error for an upload that was deleted between reading and using it, with its paths in the body."""
    source = f"media:{error.identifier}"
    problems = [
        FieldProblem(path, f"{ALLOWED}; there is no {source}")
        for path, named, _ in sources
        if error.kind == "media" and isinstance(named, str) and named.lower() == source
    ]
    return InvalidInput(problems) if problems else error


def require_job_of(owner: str, job_id: UUID, ledger: Ledger) -> None:
    """Refuse a `parent_id` that is not a job of the owner. Raises `InvalidInput`. Blocks."""
    try:
        ledger.generation(job_id, owner=owner)
    except NotFound:
        detail = f"must be the id of a job of yours; there is no job {job_id}"
        raise InvalidInput([FieldProblem("parent_id", detail)]) from None


def uploads_among(sources: Iterable[str]) -> tuple[UUID, ...]:
    """The uploads among these sources."""
    found = [SOURCE.fullmatch(source) for source in sources]
    return tuple(UUID(each[2]) for each in found if each is not None and each[1].lower() == "media")


@dataclass(frozen=True, slots=True)
class _Unusable:
    """Why a source cannot be used, as the end of a sentence about its field."""

    reason: str


def _upload(identifier: UUID, owner: str, ledger: Ledger) -> InputFile | _Unusable:
    uploaded = ledger.media(identifier, owner=owner).uploaded
    return InputFile(
        kind=uploaded.kind,
        media_type=uploaded.media_type,
        sha256=uploaded.sha256,
        path=uploaded.path,
        width=uploaded.width,
        height=uploaded.height,
        frames=uploaded.frames,
        fps=uploaded.fps,
    )


def _asset(identifier: UUID, owner: str, ledger: Ledger) -> InputFile | _Unusable:
    asset = ledger.asset(identifier, owner=owner)
    if isinstance(asset, Purged):
        return _Unusable(f"{ALLOWED}; asset:{identifier} was deleted for good")
    if not isinstance(asset, Completed):
        return _Unusable(f"{ALLOWED}; asset:{identifier} is {status_of(asset)}")
    return InputFile(
        kind=asset.reservation.kind.value,
        media_type=asset.completed.media_type,
        sha256=asset.completed.sha256,
        path=asset.reservation.path,
        width=asset.completed.width,
        height=asset.completed.height,
        frames=asset.completed.frames,
        fps=asset.completed.fps,
    )


def _any_of(kinds: Sequence[MediaKind]) -> str:
    return " or ".join(WORDS[kind] for kind in kinds)
