"""How browsers sign in: a link that works once becomes a session that ends. Both are random, and kept as SHA-256."""

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
"""A link that is printed at start may be opened after lunch, and not by whoever finds a log of last week."""

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
    """Whether the text could be a session at all; what could not needs no question to the database."""
    return SESSION.fullmatch(text) is not None


def new_link(connection: Connection[TupleRow], owner: str, credential: bytes) -> NewLink:
    """Make a link for the holder of a credential, by the fingerprint of which it is known; this answer alone has it."""
    code = secrets.token_urlsafe(SECRET_BYTES)
    connection.execute(SQL["forget_links"])
    arguments = {"sha256": fingerprint(code), "owner": owner, "credential": credential, "lasts": LINK_LASTS}
    ((expires_at,),) = connection.execute(SQL["add_link"], arguments).fetchall()
    return NewLink(code, expires_at)


def sign_in(connection: Connection[TupleRow], code: str) -> str | None:
    """Use up a link: the session that begins; None for a link that is unknown, was used before, or has expired."""
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
    """The owner of each session that works, by its fingerprint; `admin` is that of the administrator's token."""
    found = connection.execute(SQL["owners_of"], {"sha256s": list(fingerprints), "admin": admin}).fetchall()
    return {bytes(sha256): owner for sha256, owner in found}


def working(connection: Connection[TupleRow], admin: bytes) -> Mapping[bytes, str]:
    """The owner of every session that works, by its fingerprint; `admin` as in `owners_of`."""
    return {bytes(sha256): owner for sha256, owner in connection.execute(SQL["working"], {"admin": admin}).fetchall()}
