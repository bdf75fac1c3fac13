"""A map whose values are replicated values themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perseus.algo import Id
from perseus.algo.library.crdt.sets import ORSet


@dataclass(frozen=True, slots=True)
class ORMap:
    """Keys as in an ``ORSet``: an update that a removal did not see brings the key back.

    The value under a removed key is kept, for it may yet be merged with one from elsewhere;
    a key that comes back has its old value. Under one key all values are of one class.
    """

    keys: ORSet = field(default_factory=ORSet)
    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return self.values[key] if key in self.keys else default

    def set(self, replica: Id, key: str, value: Any) -> "ORMap":
        """``value`` comes from an update of the one that is under the key, if any."""
        if key in self.values:
            value = self.values[key].merge(value)
        return ORMap(self.keys.add(replica, key), {**self.values, key: value})

    def remove(self, key: str) -> "ORMap":
        return ORMap(self.keys.remove(key), self.values)

    def merge(self, other: "ORMap") -> "ORMap":
        values = dict(self.values)
        for key, value in other.values.items():
            values[key] = values[key].merge(value) if key in values else value
        keys = self.keys.merge(other.keys)
        return self if keys is self.keys and values == self.values else ORMap(keys, values)
