"""How values become bytes and come back: msgpack with a few more types, and nothing that can run.

What was written by another version, or by anybody else, is no value: it raises `Unreadable`, which
the cache counts as a miss.
"""

import zlib
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack

# The first bytes of everything that is written; another version begins otherwise.
VERSION = b"PSC\x01"
PLAIN, PACKED = b"\x00", b"\x01"
# The most bytes that come out of a compressed value: a few could become very many.
LARGEST = 256 * 1024 * 1024


class Unreadable(Exception):  # noqa: N818 - what the bytes are
    """Bytes that are no value of this version."""


# Beside what msgpack knows: the number of a type, how it is written, and how it is read.
EXTRA: dict[type, tuple[int, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    tuple: (1, lambda it: _pack(list(it)), lambda data: tuple(_unpack(data))),
    set: (2, lambda it: _pack(list(it)), lambda data: set(_unpack(data))),
    frozenset: (3, lambda it: _pack(list(it)), lambda data: frozenset(_unpack(data))),
    datetime: (4, lambda it: it.isoformat().encode(), lambda b: datetime.fromisoformat(b.decode())),
    date: (5, lambda it: it.isoformat().encode(), lambda data: date.fromisoformat(data.decode())),
    time: (6, lambda it: it.isoformat().encode(), lambda data: time.fromisoformat(data.decode())),
    timedelta: (
        7,
        lambda it: _pack([it.days, it.seconds, it.microseconds]),
        lambda data: timedelta(*_unpack(data)),
    ),
    Decimal: (8, lambda it: str(it).encode(), lambda data: Decimal(data.decode())),
    UUID: (9, lambda it: it.bytes, lambda data: UUID(bytes=data)),
    # msgpack's own end at 64 bits. In hexadecimal, which takes linear time at any length.
    int: (10, lambda it: f"{it:x}".encode(), lambda data: int(data, 16)),
}
READ = {number: read for number, _, read in EXTRA.values()}


def _extra(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind not in EXTRA:
        raise TypeError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be cached")
    number, write, _ = EXTRA[kind]
    return msgpack.ExtType(number, write(value))


def _read_extra(number: int, data: bytes) -> Any:
    return READ[number](data)


def _pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, default=_extra, strict_types=True)
    return data


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_read_extra, strict_map_key=False, use_list=True)


def dumps(value: Any, compress_above: int = 0) -> bytes:
    """Return `value` as bytes, compressed where they are more than `compress_above` (0: never).

    Carries None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, datetime, date,
    time, timedelta, Decimal and UUID, nested as you like, and raises TypeError that names the type
    of anything else, subclasses included: what comes back would not be what was put in. Raises
    ValueError where values are nested too deeply or hold themselves.
    """
    data = _pack(value)
    if compress_above and len(data) > compress_above:
        return VERSION + PACKED + zlib.compress(data, 1)
    return VERSION + PLAIN + data


def loads(data: bytes) -> Any:
    """Return the value that `dumps` made these bytes of; raises Unreadable for any other bytes."""
    head, body = data[: len(VERSION) + 1], data[len(VERSION) + 1 :]
    try:
        if head == VERSION + PACKED:
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(body, LARGEST)
            if not unpacker.eof:
                raise Unreadable("cut off, or larger than any value")
        elif head != VERSION + PLAIN:
            raise Unreadable("not of this version")
        return _unpack(body)
    except Unreadable:
        raise
    except Exception as error:  # the bytes are anybody's, and each library has errors of its own
        raise Unreadable(str(error)) from None
