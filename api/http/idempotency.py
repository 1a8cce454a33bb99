"""Reads the headers of a submission: owner, time, Idempotency-Key and deadline.

A submission without an Idempotency-Key gets a generated one, which every answer to it contains. A client that gets no
answer, or one with an unknown outcome, repeats the request with that key, and it is executed only once.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request

from api.http.errors import IDEMPOTENCY_KEY, IdempotencyKeyInvalid, ViewBehind
from api.http.identity import identity_of
from api.state import state_of
from domain.errors import FieldProblem, InvalidInput
from domain.owned_ids import owned_id
from services.database import Unavailable
from services.files.blobs import BlobStoreUnavailable
from services.ledger.flusher import OutcomeUnknown

WAIT_S_MAX: Final = 60
CANCEL_AFTER_MAX: Final = timedelta(days=30)

KEY_BYTES: Final = 18
"""Random bytes of a generated key: no client sends the same one by chance."""

OWNERS: Final = UUID("0b0a7f4e-6c53-4c5c-9b0e-0d6b6f2f6a11")
"""Namespace of the owners, whose namespaces hold the jobs that an Idempotency-Key names. Never changes."""

VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s?)?", re.ASCII)
WAIT: Final = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d{1,6})\"?)?\s*(?:$|[,;])", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The owner, the time and the headers of a request.

    `key` is the Idempotency-Key, `deadline` comes from Cancel-After.

    `key_is_new`: it was generated here, so nothing can exist under it yet. No key: a part of a request that has one.
    """

    owner: str
    now: datetime
    key: str | None
    deadline: datetime | None
    key_is_new: bool = False

    def of_a_part(self) -> "RequestContext":
        """The same for a part of the request, which the key does not name."""
        return RequestContext(self.owner, self.now, None, self.deadline)


@dataclass(frozen=True, slots=True)
class KeyedContext(RequestContext):
    """The context of a whole request, which always has a key."""

    key: str


def asked_in(request: Request) -> KeyedContext:
    """Read a request's headers. Every answer to it will contain its key. Raises as `asked_by` does."""
    asked = asked_by(identity_of(request).owner, request.headers, state_of(request).parts.clock())
    request.scope[IDEMPOTENCY_KEY] = asked.key
    return asked


@contextmanager
def after_the_commit() -> Iterator[None]:
    """For work after a commit: if it fails, the answer must not suggest that nothing was changed."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except (Unavailable, ViewBehind, BlobStoreUnavailable) as error:
        raise OutcomeUnknown(f"The change was made, but what came of it cannot be shown now. {error}") from error


def asked_by(owner: str, headers: Headers, now: datetime) -> KeyedContext:
    """Read the headers. Raises `InvalidInput` and `IdempotencyKeyInvalid`."""
    key = headers.get("idempotency-key")
    if key is not None and not VISIBLE_ASCII.fullmatch(key):
        raise IdempotencyKeyInvalid([FieldProblem("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    after = headers.get("cancel-after")
    deadline = None if after is None else now + _duration(after)
    return KeyedContext(owner, now, key or secrets.token_urlsafe(KEY_BYTES), deadline, key_is_new=key is None)


def wait_s(headers: Headers) -> int | None:
    """Seconds of `Prefer: wait=N`, at most 60; bare `wait` is 60. None if it is not requested."""
    found = WAIT.search(headers.get("prefer", ""))
    if found is None:
        return None
    return WAIT_S_MAX if found[1] is None else min(int(found[1]), WAIT_S_MAX)


def id_under_key(owner: str, key: str) -> UUID:
    """The id of the job that the owner's key names."""
    return owned_id(OWNERS, owner, key)


def retry_id(owner: str, job_id: UUID) -> UUID:
    """The id of the one job that runs the lost outputs of a job again, for every caller and every repeat.

    The name has spaces, so it differs from every Idempotency-Key. It never changes: it is in ledgers.
    """
    return id_under_key(owner, f"retry of {job_id} by hand")


def retry_sha256(job_id: UUID) -> str:
    """The hash that recognises a request to retry this job."""
    return sha256_of({"retry": str(job_id)})


def identified(asked: RequestContext, request: Mapping[str, Any]) -> tuple[UUID, str | None]:
    """The job's id, and the hash that recognises the same request under the same key.

    Without a key, a random id and no hash.
    """
    if asked.key is None:
        return uuid4(), None
    return id_under_key(asked.owner, asked.key), sha256_of(request)


def sha256_of(request: Mapping[str, Any]) -> str:
    """The hash that recognises a request, regardless of the order of its fields.

    Raises `InvalidInput` if it is nested too deeply to encode.
    """
    return hashlib.sha256(_canonical(request)).hexdigest()


def sha256_in_parts(request: Mapping[str, Any], listed: str) -> str:
    """The same hash for a request with a long list under `listed`, encoded item by item.

    All items that are nested too deeply hash alike: each is rejected later, by itself.
    """
    digest = hashlib.sha256()
    for place, name in enumerate(sorted(request)):
        digest.update(b"%s%s:" % (b"," if place else b"{", orjson.dumps(name)))
        items = request[name]
        if name != listed or not isinstance(items, list):
            digest.update(_canonical(items))
            continue
        digest.update(b"[")
        for index, item in enumerate(items):
            digest.update(b"," if index else b"")
            try:
                digest.update(_canonical(item))
            except InvalidInput:
                digest.update(b"nested too deeply")
        digest.update(b"]")
    digest.update(b"}" if request else b"{}")
    return digest.hexdigest()


def _canonical(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise InvalidInput([FieldProblem("body", "is nested too deeply")]) from None


def _duration(text: str) -> timedelta:
    found = DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    duration = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < duration <= CANCEL_AFTER_MAX:
        raise InvalidInput([FieldProblem("Cancel-After", "must be a duration like 90s, 5m or 1h30m, 30 days at most")])
    return duration
