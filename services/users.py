"""Owners and their API keys. A key is random, shown once and stored as its SHA-256; an owner has one at a time."""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4, uuid5

from psycopg import Connection
from psycopg.rows import TupleRow, class_row

from domain.aggregates.fleet import OWNER
from domain.envelope import Envelope
from domain.events import UserEvent, UserKeyAdded, UserKeyRevoked
from projections.sql import load
from services.ledger import EventMapper
from services.ledger.commits import Commit, Conflict, append_group

SQL = load("users.sql", "services")

ADMIN: Final = OWNER
"""The owner of the administrator's token; no user can have this name."""

USERS: Final = UUID("5b0f7f1c-6f0e-4a55-9f0a-2f9d1c7a5e11")
"""UUID namespace of the streams of users."""

KEY_PREFIX: Final = "dk_"
KEY_BYTES: Final = 32
"""Bytes of a key: 256 random bits cannot be guessed, so a fast hash is sufficient."""

KEY: Final = re.compile(rf"{KEY_PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class UserError(Exception):
    """A change of a user that is not possible.

    UserError
    ├── NameInvalid    the text cannot be a user's name
    ├── UserExists     the name has a valid key
    └── UserUnknown    the name never had a key
    """

    code = "user_refused"


class NameInvalid(UserError):
    """The text cannot be a user's name."""

    code = "user_name_invalid"


class UserExists(UserError):
    """The name has a valid key."""

    code = "user_exists"


class UserUnknown(UserError):
    """The name never had a key."""

    code = "user_unknown"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key. `again`: the owner had one before and keeps everything it owns."""

    key: str
    again: bool


@dataclass(frozen=True, slots=True)
class User:
    """An owner with the dates of its last key."""

    owner: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """The time since which the owner has no key. `already`: it was revoked before."""

    at: datetime
    already: bool


def user_stream(owner: str) -> UUID:
    """The stream of events about an owner's keys."""
    return uuid5(USERS, owner)


def is_key(text: str) -> bool:
    """Whether the text has the form of a key; otherwise no query is needed."""
    return KEY.fullmatch(text) is not None


def fingerprint(token: str) -> bytes:
    """The SHA-256 under which a key is stored."""
    return hashlib.sha256(token.encode()).digest()


def add(connection: Connection[TupleRow], owner: str) -> NewKey:
    """Create a key; only this answer contains it. Raises `NameInvalid` and `UserExists`."""
    _check(owner)
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    sha256 = fingerprint(key)
    with connection.transaction():
        connection.execute(SQL["lock"])
        added = connection.execute(SQL["add"], {"owner": owner, "sha256": sha256}).fetchone()
        if added is None:
            raise UserExists(
                f"{owner} has an API key already, and it is shown once only; for a new one, "
                f"run `darkroom users revoke {owner}` first."
            )
        _append(connection, owner, UserKeyAdded(name=owner, key_id=added[1], sha256=sha256.hex()))
    return NewKey(key, again=added[0] > 0)


def revoke(connection: Connection[TupleRow], owner: str) -> Revoked:
    """Revoke the owner's key; its data stays. Safe to repeat. Raises `UserUnknown`."""
    with connection.transaction():
        connection.execute(SQL["lock"])
        revoked = connection.execute(SQL["revoke"], {"owner": owner}).fetchone()
        if revoked is not None:
            _append(connection, owner, UserKeyRevoked(name=owner, key_id=revoked[1]))
    if revoked is not None:
        return Revoked(revoked[0], already=False)
    last = _last_keys(connection, owner)
    if not last:
        raise UserUnknown(f"there is no user {owner!r}; `darkroom users list` shows who there is.")
    if last[0].revoked_at is None:  # the key was created just now
        return revoke(connection, owner)
    return Revoked(last[0].revoked_at, already=True)


def list_users(connection: Connection[TupleRow]) -> list[User]:
    """Every owner that ever had a key, by name."""
    return _last_keys(connection, None)


def owners_of(connection: Connection[TupleRow], fingerprints: Sequence[bytes]) -> Mapping[bytes, str]:
    """The owners of valid keys, by fingerprint; other fingerprints are left out."""
    found = connection.execute(SQL["owners_of"], {"sha256s": list(fingerprints)}).fetchall()
    return {bytes(sha256): owner for sha256, owner in found}


def working_keys(connection: Connection[TupleRow]) -> Mapping[bytes, str]:
    """The owner of every valid key, by its fingerprint."""
    return {bytes(sha256): owner for sha256, owner in connection.execute(SQL["working"]).fetchall()}


def _last_keys(connection: Connection[TupleRow], owner: str | None) -> list[User]:
    with connection.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(SQL["last_of"], {"owner": owner}).fetchall()


def _append(connection: Connection[TupleRow], owner: str, event: UserEvent) -> None:
    """Append to the ledger and so to LEDGER, which then knows changes that an older backup of the key table lacks."""
    stream = user_stream(owner)
    ((version,),) = connection.execute(SQL["version"], (stream,)).fetchall()
    envelope = Envelope(ADMIN, ADMIN, datetime.now(UTC), uuid4(), correlation_id=stream)
    new = EventMapper().encode(stream, version + 1, event, envelope)
    (verdict,) = append_group(connection, [Commit(envelope.command_id, [new])])
    if isinstance(verdict, Conflict):
        raise verdict


def _check(owner: str) -> None:
    if owner == ADMIN:
        raise NameInvalid(f"the name {ADMIN} is the administrator's; choose another.")
    if NAME.fullmatch(owner) is None:
        raise NameInvalid(
            f"{owner!r} is no name for a user: a to z, 0 to 9, - and _, 63 at most, and a letter or digit first."
        )
