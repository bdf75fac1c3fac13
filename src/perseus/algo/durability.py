"""State that survives a crash: ``term: int = durable(0)`` in the body of a Process.

A durable attribute holds an immutable value (numbers, text, bytes, tuples, enums,
frozen dataclasses), or a list, dict or set of such. What a handler changes is
collected as *changes*, from key to value, and persisted as one transaction
before anything that the handler sent leaves. Keys are tuples::

    ("term",)          the value of a plain attribute, and the kind of a container
    ("log", 17)        an item of a list; its length is ("log", LENGTH)
    ("votes", "n2")    an item of a dict, a member of a set

so that a long log costs one small write for each entry. A key whose value is
GONE is taken away. Reading an attribute costs what any attribute costs.

Within an item there may be more lists and dicts; they are written as they are when a step
ends that assigned the item. What is changed in them and not assigned is not seen: no host
has it after a crash, and those that can tell say so (``changed_unseen``).
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, SupportsIndex, TypeVar, cast

from perseus.algo.kept import Kept
from perseus.errors import InvalidError

T = TypeVar("T")

Key = tuple[Any, ...]
Changes = dict[Key, Any]

# Where a process collects what its current step changed.
CHANGES: Final = "_changes"
# Where it has, by key, what was written of values in which something can change.
NOTED: Final = "_noted"
# The key part under which the length of a list stands.
LENGTH: Final = "#"


class _Gone:
    """The value of a key that is taken away."""

    def __repr__(self) -> str:
        return "GONE"


GONE: Final = _Gone()

_PLAIN = frozenset({int, str, bytes, float, bool, type(None)})


def durable(initial: T) -> T:
    """An attribute that survives a crash, with its value before the first change.

    To be annotated with its type, by which it is read back from disk.
    """
    return cast(T, Attribute(initial))


class Attribute:
    """The descriptor behind ``durable``. It has no ``__get__``: reads find the instance's."""

    def __init__(self, initial: object) -> None:
        self.initial = initial
        self.name = ""
        # Then each process begins with a copy of its own.
        self._can_change = can_change(initial)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        check(name, self.initial)

    def __set__(self, instance: object, value: Any) -> None:
        space = instance.__dict__
        changes: Changes = space[CHANGES]
        kind = value.__class__
        if kind not in _PLAIN:
            if kind in _CONTAINERS:
                before = space.get(self.name)
                if before is value:
                    return
                if isinstance(before, _Container):
                    before._withdraw(changes)
                value = _CONTAINERS[kind](self.name, changes, value)
                value._write_all()
                space[self.name] = value
                return
            check(self.name, value)
        space[self.name] = value
        changes[(self.name,)] = value

    def begin(self, instance: object, disk: Mapping[Key, Any]) -> None:
        """Sets the attribute as ``disk`` has it; what is in a container follows by ``_load``."""
        space = instance.__dict__
        kind = self.initial.__class__
        initial = deepcopy(self.initial) if self._can_change else self.initial
        if kind not in _CONTAINERS:
            if self._can_change and (self.name,) not in disk:
                space[CHANGES][(self.name,)] = initial
            space[self.name] = disk.get((self.name,), initial)
            return
        space[self.name] = made = _CONTAINERS[kind](self.name, space[CHANGES], initial)
        if initial and (self.name,) not in disk:
            # What it began with is its own from now on, and may be taken out of it for good.
            space[CHANGES][(self.name,)] = True
            made._write_all()


def attributes_of(kind: type) -> dict[str, Attribute]:
    """The durable attributes of a class, by name; a subclass may replace one."""
    found: dict[str, Attribute] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Attribute):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def begin(instance: object, attributes: Mapping[str, Attribute], disk: Mapping[Key, Any]) -> None:
    """Gives a new process its durable attributes as ``disk`` has them."""
    containers: dict[str, dict[Any, Any]] = {}
    disk = _opened(disk, instance.__dict__[NOTED])
    for key, value in disk.items():
        if len(key) == 2:
            containers.setdefault(key[0], {})[key[1]] = value
    for name, attribute in attributes.items():
        attribute.begin(instance, disk)
        container = instance.__dict__[name]
        if isinstance(container, _Container) and (name in containers or (name,) in disk):
            container._load(containers.get(name, {}))


def apply(disk: dict[Key, Any], changes: Changes) -> None:
    """Makes changes to what is durable."""
    for key, value in changes.items():
        if value is GONE:
            disk.pop(key, None)
        else:
            disk[key] = value


def _opened(disk: Mapping[Key, Any], noted: dict[Key, Kept]) -> dict[Key, Any]:
    """What was kept as copies, and noted where something can change in it."""
    made = {}
    for key, value in disk.items():
        if value.__class__ is Kept:
            noted[key] = value
            value = value.open()
        made[key] = value
    return made


def can_change(value: object) -> bool:
    """Whether there is a list, dict, set, or anything unknown, somewhere in a value."""
    kind = value.__class__
    if kind in _PLAIN or isinstance(value, Enum):
        return False
    if kind in (tuple, frozenset):
        return any(map(can_change, cast(Any, value)))
    if is_dataclass(kind) and cast(Any, kind).__dataclass_params__.frozen:
        return any(can_change(getattr(value, field.name)) for field in fields(kind))
    return True


def changed_unseen(instance: object) -> str:
    """Between steps: a durable value in which something was changed that no step assigned, as
    one would write it (``log[3]``); "" where there is none."""
    space = instance.__dict__
    noted: Mapping[Key, Kept] = space[NOTED]
    for (name, *item), written in noted.items():
        try:
            value = space[name][item[0]] if item else space[name]
            is_seen = written.is_still(value)
        except (InvalidError, LookupError):
            is_seen = False
        if not is_seen:
            return f"{name}[{item[0]!r}]" if item else str(name)
    return ""


def check(name: str, value: object) -> None:
    """Raises InvalidError for a value that could change behind our back."""
    kind = value.__class__
    if kind in _PLAIN or isinstance(value, Enum):
        return
    if kind in (tuple, frozenset):
        for item in cast(Any, value):
            check(name, item)
    elif kind in (list, set, dict):
        items: Any = value.values() if isinstance(value, dict) else value
        for item in items:
            check(name, item)
    elif not (is_dataclass(kind) and cast(Any, kind).__dataclass_params__.frozen):
        raise InvalidError(
            f"durable {name} cannot hold a {kind.__name__}: what changes within it is not seen",
            hint="use numbers, text, tuples and @dataclass(frozen=True), or lists, dicts and"
            " sets of those",
        )


class _Container:
    """What lists, dicts and sets share: they tell their changes."""

    __slots__ = ()
    _name: str
    _changes: Changes

    def _write_all(self) -> None:
        """All of it as changes."""
        raise AssertionError("each container has its own")

    def _withdraw(self, changes: Changes) -> None:
        """None of it as changes."""
        raise AssertionError("each container has its own")

    def _load(self, items: Mapping[Any, Any]) -> None:
        """Fills it as the disk has it, without changes."""
        raise AssertionError("each container has its own")


class DurableList(_Container, list[Any]):
    """A list that tells its changes; made for logs, which grow and are cut at the end."""

    __slots__ = ("_changes", "_name")

    def __init__(self, name: str, changes: Changes, items: Iterable[Any] = ()) -> None:
        list.__init__(self, items)
        self._name = name
        self._changes = changes

    def _write_all(self) -> None:
        self._write_from(0)

    def _withdraw(self, changes: Changes) -> None:
        for index in range(len(self)):
            changes[(self._name, index)] = GONE
        changes[(self._name, LENGTH)] = GONE

    def _load(self, items: Mapping[Any, Any]) -> None:
        list.clear(self)
        list.extend(self, (items[index] for index in range(items.get(LENGTH, 0))))

    def _write_from(self, first: int, old_length: int = 0) -> None:
        for index in range(first, len(self)):
            check(self._name, self[index])
            self._changes[(self._name, index)] = self[index]
        for index in range(len(self), old_length):
            self._changes[(self._name, index)] = GONE
        self._changes[(self._name, LENGTH)] = len(self)

    def append(self, item: Any) -> None:
        check(self._name, item)
        list.append(self, item)
        last = len(self) - 1
        self._changes[(self._name, last)] = item
        self._changes[(self._name, LENGTH)] = last + 1

    def extend(self, items: Iterable[Any]) -> None:
        first = len(self)
        list.extend(self, items)
        self._write_from(first)

    def __iadd__(self, items: Iterable[Any]) -> "DurableList":  # type: ignore[misc]
        self.extend(items)
        return self

    def __imul__(self, count: SupportsIndex) -> "DurableList":
        before = len(self)
        list.__imul__(self, count)
        self._write_from(0, before)
        return self

    def __setitem__(self, index: Any, item: Any) -> None:
        before = len(self)
        list.__setitem__(self, index, item)
        self._write_from(_least(index, before), before)

    def __delitem__(self, index: Any) -> None:
        before = len(self)
        first = _least(index, before)
        list.__delitem__(self, index)
        self._write_from(first, before)

    def pop(self, index: SupportsIndex = -1) -> Any:
        before = len(self)
        item = list.pop(self, index)
        self._write_from(_least(index, before), before)
        return item

    def insert(self, index: SupportsIndex, item: Any) -> None:
        before = len(self)
        list.insert(self, index, item)
        self._write_from(min(_least(index, before), before))

    def remove(self, item: Any) -> None:
        del self[self.index(item)]

    def clear(self) -> None:
        del self[:]

    def sort(self, **options: Any) -> None:
        list.sort(self, **options)
        self._write_from(0)

    def reverse(self) -> None:
        list.reverse(self)
        self._write_from(0)


class DurableDict(_Container, dict[Any, Any]):
    """A dict that tells its changes."""

    __slots__ = ("_changes", "_name")

    def __init__(self, name: str, changes: Changes, items: Mapping[Any, Any] = {}) -> None:
        dict.__init__(self, items)
        self._name = name
        self._changes = changes

    def _write_all(self) -> None:
        for key, value in self.items():
            check(self._name, value)
            self._changes[(self._name, key)] = value

    def _withdraw(self, changes: Changes) -> None:
        for key in self:
            changes[(self._name, key)] = GONE

    def _load(self, items: Mapping[Any, Any]) -> None:
        dict.clear(self)
        dict.update(self, items)

    def __setitem__(self, key: Any, value: Any) -> None:
        check(self._name, value)
        dict.__setitem__(self, key, value)
        self._changes[(self._name, key)] = value

    def __delitem__(self, key: Any) -> None:
        dict.__delitem__(self, key)
        self._changes[(self._name, key)] = GONE

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self:
            self._changes[(self._name, key)] = GONE
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        key, value = dict.popitem(self)
        self._changes[(self._name, key)] = GONE
        return key, value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **more: Any) -> None:
        for key, value in dict(*others, **more).items():
            self[key] = value

    def __ior__(self, other: Any) -> "DurableDict":  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        self._withdraw(self._changes)
        dict.clear(self)


class DurableSet(_Container, set[Any]):
    """A set that tells its changes."""

    __slots__ = ("_changes", "_name")

    def __init__(self, name: str, changes: Changes, items: Iterable[Any] = ()) -> None:
        set.__init__(self, items)
        self._name = name
        self._changes = changes

    def _write_all(self) -> None:
        for item in self:
            check(self._name, item)
            self._changes[(self._name, item)] = True

    def _withdraw(self, changes: Changes) -> None:
        for item in self:
            changes[(self._name, item)] = GONE

    def _load(self, items: Mapping[Any, Any]) -> None:
        set.clear(self)
        set.update(self, items)

    def _become(self, members: set[Any]) -> None:
        for item in self - members:
            self.discard(item)
        for item in members - self:
            self.add(item)

    def add(self, item: Any) -> None:
        if item not in self:
            check(self._name, item)
            set.add(self, item)
            self._changes[(self._name, item)] = True

    def discard(self, item: Any) -> None:
        if item in self:
            set.discard(self, item)
            self._changes[(self._name, item)] = GONE

    def remove(self, item: Any) -> None:
        set.remove(self, item)
        self._changes[(self._name, item)] = GONE

    def pop(self) -> Any:
        item = set.pop(self)
        self._changes[(self._name, item)] = GONE
        return item

    def clear(self) -> None:
        self._withdraw(self._changes)
        set.clear(self)

    def update(self, *others: Iterable[Any]) -> None:
        for item in _all(others):
            self.add(item)

    def difference_update(self, *others: Iterable[Any]) -> None:
        for item in _all(others):
            self.discard(item)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._become(set.intersection(self, *others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        self._become(set.symmetric_difference(self, set(other)))

    def __ior__(self, other: Any) -> "DurableSet":  # type: ignore[misc]
        self.update(other)
        return self

    def __isub__(self, other: Any) -> "DurableSet":  # type: ignore[misc]
        self.difference_update(list(other))
        return self

    def __iand__(self, other: Any) -> "DurableSet":  # type: ignore[misc]
        self.intersection_update(other)
        return self

    def __ixor__(self, other: Any) -> "DurableSet":  # type: ignore[misc]
        self.symmetric_difference_update(other)
        return self


_CONTAINERS: dict[type, Any] = {
    list: DurableList,
    dict: DurableDict,
    set: DurableSet,
    DurableList: DurableList,
    DurableDict: DurableDict,
    DurableSet: DurableSet,
}


def _least(index: Any, length: int) -> int:
    """The first place that an index or a slice touches in a list of that length."""
    if isinstance(index, slice):
        places = range(length)[index]
        if len(places) == 0:
            return min(max(index.start or 0, 0), length) if (index.start or 0) >= 0 else 0
        return min(places[0], places[-1])
    place = int(index)
    return max(place + length if place < 0 else place, 0)


def _all(others: Iterable[Iterable[Any]]) -> Iterator[Any]:
    for other in others:
        yield from list(other)
