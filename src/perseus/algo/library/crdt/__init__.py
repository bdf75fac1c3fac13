"""Replicated values that need no agreement: whoever has seen the same updates is equal.

From Shapiro, Preguiça, Baquero and Zawirski, "A Comprehensive Study of Convergent and
Commutative Replicated Data Types" (2011); the set without tombstones is from Bieniusa and
others, "An Optimized Conflict-free Replicated Set" (2012), the sequence from Roh and
others, "Replicated Abstract Data Types" (2011).

Each is an immutable value with a ``merge`` that is associative, commutative and
idempotent; updates give a new value that is above the old. So copies may be merged in
any order, twice and late. An update names the replica that makes it, and a replica may
not forget an update that others have seen: its copy has to be durable, as ``Replica``'s is.
"""

from perseus.algo.library.crdt.counters import GCounter, PNCounter
from perseus.algo.library.crdt.map import ORMap
from perseus.algo.library.crdt.registers import LWWRegister, MVRegister
from perseus.algo.library.crdt.replica import Replica
from perseus.algo.library.crdt.sequence import Sequence
from perseus.algo.library.crdt.sets import Dot, GSet, ORSet, TwoPhaseSet

__all__ = [
    "Dot",
    "GCounter",
    "GSet",
    "LWWRegister",
    "MVRegister",
    "ORMap",
    "ORSet",
    "PNCounter",
    "Replica",
    "Sequence",
    "TwoPhaseSet",
]
