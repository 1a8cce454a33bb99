"""Who asks, when, under which key, and until when: what the headers of a submission say.

A submission without an Idempotency-Key is given one, which every answer to it names: who hears that the outcome is
unknown, or nothing, sends the request again with that key, and it is carried out once.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request

from api.errors import IDEMPOTENCY_KEY, IdempotencyKeyInvalid, ViewBehind
from api.identity import identity_of
from api.parts import running
from domain.errors import FieldProblem, InvalidInput
from services.blobs import BlobStoreUnavailable
from services.database import Unavailable
from services.flusher import OutcomeUnknown

WAIT_S_MAX: Final = 60
CANCEL_AFTER_MAX: Final = timedelta(days=30)

KEY_BYTES: Final = 18
"""Of a key that is made here: nobody sends the same one for another request."""

OWNERS: Final = UUID("0b0a7f4e-6c53-4c5c-9b0e-0d6b6f2f6a11")
"""Namespace of the owners, whose namespaces hold the jobs that an Idempotency-Key names. Never changes."""

VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s?)?", re.ASCII)
WAIT: Final = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d{1,6})\"?)?\s*(?:$|[,;])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, when, and what the headers say. `key` is the Idempotency-Key, `deadline` from Cancel-After.

    `key_is_new`: it was made here, so that nothing can stand under it yet. No key: a part of a request that has one.
    """

    owner: str
    now: datetime
    key: str | None
    deadline: datetime | None
    key_is_new: bool = False


def key_of(asked: Asked) -> str:
    """The key of a whole request."""
    if asked.key is None:
        raise AssertionError("only a part of a request has no key")
    return asked.key


def asked_in(request: Request) -> Asked:
    """What a request asks. Whatever it is answered, the answer names its key. Raises as `asked_by` does."""
    asked = asked_by(identity_of(request).owner, request.headers, running(request).parts.clock())
    request.scope[IDEMPOTENCY_KEY] = asked.key
    return asked


@contextmanager
def after_the_commit() -> Iterator[None]:
    """Around what follows a commit: where that fails, the answer must not sound as if nothing had been changed."""
    try:
        yield
    except OutcomeUnknown:
        raise
    except (Unavailable, ViewBehind, BlobStoreUnavailable) as error:
        raise OutcomeUnknown(f"The change was made, but what came of it cannot be shown now. {error}") from error


def asked_by(owner: str, headers: Headers, now: datetime) -> Asked:
    """Read the headers. Raises `InvalidInput` and `IdempotencyKeyInvalid`."""
    key = headers.get("idempotency-key")
    if key is not None and not VISIBLE_ASCII.fullmatch(key):
        raise IdempotencyKeyInvalid([FieldProblem("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    after = headers.get("cancel-after")
    deadline = None if after is None else now + _duration(after)
    return Asked(owner, now, key or secrets.token_urlsafe(KEY_BYTES), deadline, key_is_new=key is None)


def wait_s(headers: Headers) -> int | None:
    """Seconds of `Prefer: wait=N`, at most 60; bare `wait` is 60. None when it is not asked for."""
    found = WAIT.search(headers.get("prefer", ""))
    if found is None:
        return None
    return WAIT_S_MAX if found[1] is None else min(int(found[1]), WAIT_S_MAX)


def id_under_key(owner: str, key: str) -> UUID:
    """The id of the job that the owner's key names."""
    return uuid5(uuid5(OWNERS, owner), key)


def retry_id(owner: str, job_id: UUID) -> UUID:
    """The id of the one job that runs the lost outputs of a job again, whoever asks for it and however often.

    The name has spaces, so no Idempotency-Key is like it. It never changes: it is in ledgers.
    """
    return id_under_key(owner, f"retry of {job_id} by hand")


def retry_sha256(job_id: UUID) -> str:
    """The hash that recognises a request to retry this job."""
    return sha256_of({"retry": str(job_id)})


def identified(asked: Asked, request: Mapping[str, Any]) -> tuple[UUID, str | None]:
    """The job's id, and the hash that recognises the same request under the same key; random without a key."""
    if asked.key is None:
        return uuid4(), None
    return id_under_key(asked.owner, asked.key), sha256_of(request)


def sha256_of(request: Mapping[str, Any]) -> str:
    """The hash by which a request is recognised, whatever the order of its fields.

    Raises `InvalidInput` for one that nests deeper than can be written again.
    """
    return hashlib.sha256(_canonical(request)).hexdigest()


def sha256_in_parts(request: Mapping[str, Any], listed: str) -> str:
    """The same hash of a request with a long list under `listed`, whose items are written one by one.

    An item that nests too deeply counts as any other one that does: it is rejected by itself.
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
