"""Browser sign-in: a link that works once starts a session with an end. Both are random and stored as SHA-256."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import Connection
from psycopg.rows import TupleRow

from projections.sql import load
from services.users import fingerprint

SQL = load("sessions.sql", "services")

LINK_LASTS: Final = timedelta(hours=24)
"""Lifetime of a link: long enough to open one later in the day, too short for a reader of last week's log."""

SESSION_LASTS: Final = timedelta(days=30)

SESSION_PREFIX: Final = "ds_"
SECRET_BYTES: Final = 32
SESSION: Final = re.compile(rf"{SESSION_PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
CODE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewLink:
    """The code of a link that signs in once, until `expires_at`."""

    code: str
    expires_at: datetime


def is_session(text: str) -> bool:
    """Whether the text has the form of a session; otherwise no query is needed."""
    return SESSION.fullmatch(text) is not None


def new_link(connection: Connection[TupleRow], owner: str, credential: bytes) -> NewLink:
    """Create a link for the holder of a credential, identified by its fingerprint.

    Only this answer contains the code.
    """
    code = secrets.token_urlsafe(SECRET_BYTES)
    connection.execute(SQL["forget_links"])
    arguments = {"sha256": fingerprint(code), "owner": owner, "credential": credential, "lasts": LINK_LASTS}
    ((expires_at,),) = connection.execute(SQL["add_link"], arguments).fetchall()
    return NewLink(code, expires_at)


def sign_in(connection: Connection[TupleRow], code: str) -> str | None:
    """Use up a link; returns the new session, or None if the link is unknown, used or expired."""
    if CODE.fullmatch(code) is None:
        return None
    with connection.transaction():
        used = connection.execute(SQL["use_link"], {"sha256": fingerprint(code)}).fetchone()
        if used is None:
            return None
        owner, credential = used
        session = SESSION_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        connection.execute(SQL["forget_sessions"])
        arguments = {
            "sha256": fingerprint(session),
            "owner": owner,
            "credential": credential,
            "lasts": SESSION_LASTS,
        }
        connection.execute(SQL["add_session"], arguments)
    return session


def sign_out(connection: Connection[TupleRow], session: str) -> None:
    """End a session. Safe to repeat."""
    connection.execute(SQL["end_session"], {"sha256": fingerprint(session)})


def owners_of(connection: Connection[TupleRow], fingerprints: Sequence[bytes], admin: bytes) -> Mapping[bytes, str]:
    """The owner of each valid session, by its fingerprint; `admin` is that of the administrator's token."""
    found = connection.execute(SQL["owners_of"], {"sha256s": list(fingerprints), "admin": admin}).fetchall()
    return {bytes(sha256): owner for sha256, owner in found}


def working(connection: Connection[TupleRow], admin: bytes) -> Mapping[bytes, str]:
    """The owner of every valid session, by its fingerprint; `admin` as in `owners_of`."""
    return {bytes(sha256): owner for sha256, owner in connection.execute(SQL["working"], {"admin": admin}).fetchall()}
