"""What processes send and keep, taken as it is at one moment, the same under every host.

The codec has the last word: what it refuses is refused here with its own error, and what
it would change on the way is so here too (a ``defaultdict`` arrives as a ``dict``). Most
messages are numbers and text in a frozen dataclass; they are looked at part by part and
passed on as they are. Only lists, dicts and sets are copied, and what holds them.
"""

from collections.abc import Sequence
from dataclasses import is_dataclass
from enum import Enum, Flag
from typing import Any, Final, cast

import msgspec

from perseus.algo.codec import DEPTH_MAXIMUM, PLAIN, SIZE_MAXIMUM_BYTES, Codec, Record
from perseus.algo.kept import Kept

# Parts of values that were looked at and are met again, as the entries of a log that go to
# every follower: so many are kept in mind, none of which is larger than that.
KNOWN_MAXIMUM = 10_000
KNOWN_MAXIMUM_BYTES = 1000
# Bytes that the codec adds at most to each part of a value, besides two names: of its field,
# and of its class or member.
_ADDED_BYTES = 32

# There is but one.
_EMPTY: Final = ()
_bytes_of = msgspec.msgpack.Encoder().encode

# The value itself or a copy, how large it is without names, and how deep it goes.
_Weighed = tuple[Any, int, int]


class _UnknownError(Exception):
    """It cannot be said here; the codec says."""


# What msgspec raises for what it has no bytes for.
_UNSURE = (_UnknownError, OverflowError, TypeError, UnicodeEncodeError)


class Values:
    """Takes the values of one algorithm."""

    __slots__ = ("_atoms", "_codec", "_known", "_records", "_surely_bytes")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # Classes whose values have nothing in them.
        self._atoms: set[type] = set(PLAIN)
        self._records: dict[type, Record] = {}
        # By identity: what cannot change, its size, and how deep it goes.
        self._known: dict[int, _Weighed] = {}
        # What has at most so many bytes by itself is surely within the codec's bound.
        self._surely_bytes = SIZE_MAXIMUM_BYTES // (_ADDED_BYTES + 2 * codec.longest_name_bytes)

    def taken(self, value: Any) -> Any:
        """The value if it can never change, else a copy of it as it is now; raises
        InvalidError for what the codec refuses."""
        record = self._records.get(value.__class__)
        parts = (value,) if record is None else record.read(value)
        atoms = self._atoms
        try:
            for part in parts:
                if part.__class__ not in atoms and part is not _EMPTY:
                    return self._taken_of_parts(value, record, parts)
            if len(_bytes_of(parts)) <= self._surely_bytes:
                return value
        except _UNSURE:
            return Kept(self._codec.decode(self._codec.encode(value)), self)
        self._codec.encode(value)
        return value

    def _taken_of_parts(self, value: Any, record: Record | None, parts: Sequence[Any]) -> Any:
        found = self._known.get(id(value))
        if found is not None and found[0] is value:
            return value
        copies, size, depth = self._weigh_all(parts, 1)
        if size > self._surely_bytes or depth >= DEPTH_MAXIMUM:
            self._codec.encode(value)
        if copies is parts:
            return value
        return Kept(copies[0] if record is None else _made(value, record, copies), self)

    def copied(self, value: Any) -> Any:
        """A copy of a value that was taken; what cannot change in it is shared."""
        try:
            return self._weigh(value, 0)[0]
        except _UNSURE:
            return self._codec.decode(self._codec.encode(value))

    def is_same(self, one: Any, other: Any) -> bool:
        """Whether two values are the same to the byte; raises InvalidError."""
        return self._codec.encode(one) == self._codec.encode(other)

    def _weigh(self, value: Any, above: int) -> _Weighed:
        """Raises what says that it is not known how the value is."""
        kind = value.__class__
        if above > DEPTH_MAXIMUM:
            raise _UnknownError
        if kind is tuple:
            parts, size, below = self._weigh_all(value, above + 1)
            return (value if parts is value else tuple(parts)), size, below + 1
        record = self._records.get(kind)
        if record is not None:
            return self._weigh_record(value, record, above + 1)
        if kind in self._atoms:
            return value, len(_bytes_of(value)), 0
        if isinstance(value, dict):
            return self._weigh_dict(value, above + 1)
        if isinstance(value, list):
            parts, size, below = self._weigh_all(tuple(value), above + 1)
            return [*parts], size, below + 1
        if isinstance(value, set | frozenset):
            return self._weigh_set(value, above + 1)
        return self._weigh_new(value, above)

    def _weigh_all(self, parts: Sequence[Any], above: int) -> tuple[Sequence[Any], int, int]:
        """The same for all of a tuple, which is given back where no part of it is a copy."""
        atoms, known = self._atoms, self._known
        for part in parts:
            if part.__class__ not in atoms:
                break
        else:
            return parts, len(_bytes_of(parts)), 0
        size = len(_bytes_of([part for part in parts if part.__class__ in atoms]))
        copies, is_copied, deepest = [], False, 0
        for part in parts:
            if part.__class__ in atoms:
                continue
            found = known.get(id(part))
            if found is None or found[0] is not part:
                found = self._weigh(part, above)
            copy, more, below = found
            size += more
            if below > deepest:
                deepest = below
            copies.append(copy)
            is_copied = is_copied or copy is not part
        if is_copied:
            # Each in its place: what was one list in two places arrives as two.
            following = iter(copies)
            parts = [part if part.__class__ in atoms else next(following) for part in parts]
        return parts, size, deepest

    def _weigh_record(self, value: Any, record: Record, above: int) -> _Weighed:
        before = record.read(value)
        parts, size, below = self._weigh_all(before, above)
        if parts is not before:
            return _made(value, record, parts), size, below + 1
        weighed = (value, size, below + 1)
        if size < KNOWN_MAXIMUM_BYTES:
            if len(self._known) >= KNOWN_MAXIMUM:
                self._known.clear()
            self._known[id(value)] = weighed
        return weighed

    def _weigh_dict(self, value: dict[Any, Any], above: int) -> _Weighed:
        atoms = self._atoms
        keys, items = tuple(value), tuple(value.values())
        if atoms.issuperset(map(type, keys)) and atoms.issuperset(map(type, items)):
            return dict(value), len(_bytes_of(keys)) + len(_bytes_of(items)), 1
        new_keys, size, below = self._weigh_all(keys, above)
        new_items, more, deeper = self._weigh_all(items, above)
        copy = dict(zip(new_keys, new_items, strict=True))
        return copy, size + more, max(below, deeper) + 1

    def _weigh_set(self, value: set[Any] | frozenset[Any], above: int) -> _Weighed:
        before = tuple(value)
        parts, size, below = self._weigh_all(before, above)
        if isinstance(value, set):
            return set(parts), size, below + 1
        return (value if parts is before else frozenset(parts)), size, below + 1

    def _weigh_new(self, value: Any, above: int) -> _Weighed:
        """One of a class that was not met before."""
        kind: type = value.__class__
        if is_dataclass(kind) and cast(Any, kind).__dataclass_params__.frozen:
            self._records[kind] = record = self._codec.record(kind)
            return self._weigh_record(value, record, above + 1)
        if isinstance(value, Enum) and not isinstance(value, Flag):
            self._codec.name_of(kind)
            self._atoms.add(kind)
            return value, len(_bytes_of(value)), 0
        raise _UnknownError


def _made(value: Any, record: Record, parts: Sequence[Any]) -> Any:
    """One of the same class with other parts."""
    return value.__class__(**dict(zip(record.names, parts, strict=True)))
