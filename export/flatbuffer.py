"""Tables, vectors and strings of an untrusted flatbuffer, each held against the bounds of the file.

The flatbuffer bindings in Python check nothing: a string that runs past the end is cut silently, and a negative
position counts from the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

# Far above any model that fits a microcontroller; they bound the work that a hostile file can ask for.
MAX_TABLES = 1 << 16
MAX_VTABLE_BYTES = 256

Span = tuple[int, int]
"""(start, size in bytes) in the file."""


class DamagedError(Exception):
    """The bytes contradict the flatbuffer format, the TFLite schema, or what this project accepts."""


@dataclass(frozen=True)
class Table:
    """One flatbuffer table (https://flatbuffers.dev/internals): `position` of the table, `fields` from its vtable."""

    data: bytes
    position: int
    fields: tuple[int, ...]
    size_bytes: int

    @staticmethod
    def at(data: bytes, position: int) -> Table:
        vtable = position - unpack(data, position, "<i")[0]
        vtable_bytes, table_bytes = unpack(data, vtable, "<HH")
        if not 4 <= vtable_bytes <= MAX_VTABLE_BYTES or vtable_bytes % 2 or table_bytes < 4:
            raise DamagedError("a table without a vtable")
        fields = unpack(data, vtable + 4, f"<{vtable_bytes // 2 - 2}H")
        check_span(data, position, table_bytes)
        if any(field >= table_bytes for field in fields):
            raise DamagedError("a field outside its table")
        return Table(data, position, fields, table_bytes)

    def scalar(self, field: IntEnum, kind: str, default: int) -> int:
        place = self._place(field)
        return default if place is None else int(unpack(self.data, place, kind)[0])

    def table(self, field: IntEnum) -> Table | None:
        place = self._place(field)
        return None if place is None else Table.at(self.data, follow(self.data, place))

    def tables(self, field: IntEnum) -> list[Table]:
        start, length = self._vector(field, item_bytes=4)
        if length > MAX_TABLES:
            raise DamagedError(f"{length} {field.name.lower()}")
        return [Table.at(self.data, follow(self.data, start + 4 * index)) for index in range(length)]

    def length(self, field: IntEnum, kind: str) -> int:
        return self._vector(field, item_bytes=struct.calcsize(f"<{kind}"))[1]

    def numbers(self, field: IntEnum, kind: str, limit: int) -> tuple[float, ...]:
        start, length = self._vector(field, item_bytes=struct.calcsize(f"<{kind}"))
        if length > limit:
            raise DamagedError(f"{field.name.lower()} of {length} numbers")
        return unpack(self.data, start, f"<{length}{kind}")

    def check_bytes(self, field: IntEnum, terminated: bool = False) -> None:
        """Check that the byte vector, or string with its terminating zero, lies in the file."""
        start, length = self._vector(field, item_bytes=1)
        if start:
            check_span(self.data, start, length + terminated)

    @property
    def span(self) -> Span:
        return self.position, self.size_bytes

    def vector_span(self, field: IntEnum, kind: str) -> Span:
        """Of the items, without the length in front of them; (0, 0) if the vector is absent."""
        start, length = self._vector(field, item_bytes=struct.calcsize(f"<{kind}"))
        return start, length * struct.calcsize(f"<{kind}")

    def _vector(self, field: IntEnum, item_bytes: int) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = follow(self.data, place)
        length = int(unpack(self.data, start, "<I")[0])
        check_span(self.data, start + 4, length * item_bytes)
        return start + 4, length

    def _place(self, field: IntEnum) -> int | None:
        offset = self.fields[field] if field < len(self.fields) else 0
        return self.position + offset if offset else None


def covered_bytes(spans: Iterable[Span]) -> int:
    """Bytes that lie in any of `spans`: what equal constants share counts once."""
    covered, end = 0, 0
    for start, size in sorted(spans):
        covered += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return covered


def follow(data: bytes, place: int) -> int:
    return place + int(unpack(data, place, "<I")[0])


def unpack(data: bytes, position: int, kind: str) -> tuple[int, ...]:
    check_span(data, position, struct.calcsize(kind))
    return struct.unpack_from(kind, data, position)


def check_span(data: bytes, start: int, size_bytes: int) -> None:
    if start < 0 or start + size_bytes > len(data):
        raise DamagedError("it runs past the end of the file")
