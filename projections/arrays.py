"""Postgres arrays in binary form. psycopg encodes the same bytes element by element in Python, three times slower."""

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

INT4_OID: Final = 23
INT8_OID: Final = 20
BYTEA_OID: Final = 17
TEXT_OID: Final = 25
UUID_OID: Final = 2950
"""Postgres type ids (pg_type) of the array elements."""

UUID_LENGTH: Final = struct.pack(">i", 16)


class PackedArray(bytes):
    """A complete array with its dimensions. The statement casts the parameter to its type."""

    __slots__ = ()


class PackedArrayDumper(Dumper):
    """Passes the bytes on unchanged."""

    format = Format.BINARY

    def dump(self, obj: PackedArray) -> PackedArray:
        """See `Dumper`."""
        return obj


psycopg.adapters.register_dumper(PackedArray, PackedArrayDumper)


def int4s(values: Sequence[int]) -> PackedArray:
    """An `int[]`."""
    return _array(INT4_OID, len(values), struct.pack(">" + "ii" * len(values), *_with_length(4, values)))


def int8s(values: Sequence[int]) -> PackedArray:
    """A `bigint[]`."""
    return _array(INT8_OID, len(values), struct.pack(">" + "iq" * len(values), *_with_length(8, values)))


def uuids(values: Collection[UUID]) -> PackedArray:
    """A `uuid[]`."""
    return _array(UUID_OID, len(values), b"".join([UUID_LENGTH + value.bytes for value in values]))


def texts(values: Sequence[str]) -> PackedArray:
    """A `text[]`."""
    return _array(TEXT_OID, len(values), _joined(value.encode() for value in values))


def byteas(values: Sequence[bytes]) -> PackedArray:
    """A `bytea[]`."""
    return _array(BYTEA_OID, len(values), _joined(values))


def _with_length(length: int, values: Sequence[int]) -> list[int]:
    paired = [length] * (2 * len(values))
    paired[1::2] = values
    return paired


def _joined(values: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        parts += (len(value).to_bytes(4), value)
    return b"".join(parts)


def _array(oid: int, length: int, elements: bytes) -> PackedArray:
    if not length:
        return PackedArray(struct.pack(">iii", 0, 0, oid))
    return PackedArray(struct.pack(">iiiii", 1, 0, oid, length, 1) + elements)
