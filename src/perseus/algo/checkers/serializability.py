"""Whether transactions on lists could have run one after the other, and what went wrong.

After Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
Observations" (2020). Transactions append values, each once, and read whole lists. So a read
shows the order of the writes before it, and what depends on what follows:

    ww  this value was appended right before that one
    wr  this transaction read the list as that append had left it
    rw  this transaction read the list without that append, which came next

Transactions are serializable if, and with all lists known only if, these form no cycle.
Anomalies have the names of Adya, "Weak Consistency" (1999); the first ones are the worst:

    duplicate, unknown value, incompatible order, internal   no order of writes explains it
    G1a       a read of what was aborted
    G1b       a read of what its transaction had not finished
    G0        a cycle of ww alone
    G1c       of ww and wr
    lost update  of ww and rw, all of one list: appended to as if nothing had come since it was read
    G-single  with one rw: read skew
    G2-item   with more of them: write skew
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Literal

from perseus.errors import InvalidError

Values = tuple[Hashable, ...]
Kind = Literal["ww", "wr", "rw"]


@dataclass(frozen=True, slots=True)
class Append:
    """Puts a value at the end of the list ``key``; no value is put into one list twice."""

    key: str
    value: Hashable


@dataclass(frozen=True, slots=True)
class Read:
    """Reads the list ``key``; None when what it found is not known."""

    key: str
    values: Values | None = None


class Status(Enum):
    """What its client knows of a transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction did, in its order."""

    name: str
    operations: tuple[Append | Read, ...]
    status: Status = Status.COMMITTED


@dataclass(frozen=True, slots=True)
class Edge:
    """``one`` has to come before ``other``."""

    one: str
    other: str
    kind: Kind
    # The list that it is about.
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.one} before {self.other} ({self.kind}: {self.why})"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that no serial order explains."""

    name: str
    said: str
    cycle: tuple[Edge, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.said}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, the worst first."""

    anomalies: tuple[Anomaly, ...] = ()

    @property
    def is_serializable(self) -> bool:
        return not self.anomalies

    def __str__(self) -> str:
        return "; ".join(map(str, self.anomalies)) or "serializable"


def check(transactions: Iterable[Transaction]) -> Verdict:
    """Judges a history; one whose end is unknown counts when others saw what it wrote."""
    lists = _Lists(list(transactions))
    found = lists.anomalies()
    return Verdict((*found, *_Cycles(lists.edges()).anomalies()))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A read, without what its own transaction had appended before."""

    reader: Transaction
    key: str
    base: Values


class _Lists:
    """What the reads show of the lists, and what follows from that."""

    def __init__(self, transactions: list[Transaction]) -> None:
        self._transactions = transactions
        # Who appended a value, and the last that it appended to that list.
        self._writer: dict[tuple[str, Hashable], Transaction] = {}
        self._last: dict[tuple[str, str], Hashable] = {}
        for each in transactions:
            self._note_appends(each)
        self._problems: list[Anomaly] = []
        self._reads = [seen for each in transactions for seen in self._reads_of(each)]
        self._orders = self._find_orders()
        self._unread = self._find_unread()

    def _note_appends(self, transaction: Transaction) -> None:
        for operation in transaction.operations:
            if isinstance(operation, Append):
                mark = (operation.key, operation.value)
                if mark in self._writer:
                    raise InvalidError(f"{operation.value!r} is appended to {operation.key} twice")
                self._writer[mark] = transaction
                self._last[operation.key, transaction.name] = operation.value

    def _reads_of(self, transaction: Transaction) -> Iterator[_Seen]:
        """A transaction's reads, which must agree with each other and with its appends."""
        if transaction.status is not Status.COMMITTED:
            return
        own: dict[str, list[Hashable]] = {}
        known: dict[str, Values] = {}
        for operation in transaction.operations:
            mine = own.setdefault(operation.key, [])
            if isinstance(operation, Append):
                mine.append(operation.value)
                continue
            if operation.values is None:
                continue
            length = len(operation.values) - len(mine)
            base = operation.values[: max(length, 0)]
            before = known.setdefault(operation.key, base)
            if operation.values != (*before, *mine):
                expected = (*before, *mine)
                self._problem("internal", f"{_read(transaction, operation)}, not {expected}")
            yield _Seen(transaction, operation.key, base)

    def _problem(self, name: str, said: str) -> None:
        self._problems.append(Anomaly(name, said))

    def _find_orders(self) -> dict[str, Values]:
        """By list the longest that was read; all others begin it."""
        orders: dict[str, Values] = {}
        for transaction in self._transactions:
            for read in transaction.operations:
                if isinstance(read, Append) or read.values is None:
                    continue
                if transaction.status is Status.COMMITTED and self._makes_sense(transaction, read):
                    self._extend(orders, transaction, read.key, read.values)
        return orders

    def _makes_sense(self, transaction: Transaction, read: Read) -> bool:
        values = read.values or ()
        if len(set(values)) < len(values):
            self._problem("duplicate", _read(transaction, read))
            return False
        strange = [value for value in values if (read.key, value) not in self._writer]
        if strange:
            self._problem("unknown value", f"{_read(transaction, read)}; nobody wrote {strange}")
        return not strange

    def _extend(
        self, orders: dict[str, Values], transaction: Transaction, key: str, values: Values
    ) -> None:
        longest = orders.setdefault(key, values)
        shorter, longer = sorted((longest, values), key=len)
        if longer[: len(shorter)] != shorter:
            said = f"{transaction.name} read {key} as {values}, and another as {longest}"
            self._problem("incompatible order", said)
        orders[key] = longer

    def _find_unread(self) -> dict[str, Values]:
        """By list what no read shows: it comes after all that reads show. A transaction whose
        end is unknown has committed when something else that it wrote was read."""
        shown = {(key, value) for key, order in self._orders.items() for value in order}
        seen = {self._writer[mark].name for mark in shown if mark in self._writer}
        unread: dict[str, Values] = {}
        for (key, value), writer in self._writer.items():
            is_committed = writer.status is Status.COMMITTED or writer.name in seen
            if is_committed and (key, value) not in shown:
                unread[key] = (*unread.get(key, ()), value)
        return unread

    def anomalies(self) -> list[Anomaly]:
        """What is wrong with single reads."""
        for seen in self._reads:
            for value in seen.base:
                writer = self._writer.get((seen.key, value))
                if writer is not None and writer.status is Status.ABORTED:
                    self._problem("G1a", f"{_saw(seen)}, of which {writer.name} aborted {value!r}")
            if seen.base:
                self._look_for_unfinished(seen, seen.base[-1])
        names = ("duplicate", "unknown value", "incompatible order", "internal", "G1a", "G1b")
        return sorted(self._problems, key=lambda problem: names.index(problem.name))

    def _look_for_unfinished(self, seen: _Seen, value: Hashable) -> None:
        writer = self._writer.get((seen.key, value))
        if writer is None or writer is seen.reader or writer.status is Status.ABORTED:
            return
        last = self._last[seen.key, writer.name]
        if last != value:
            self._problem("G1b", f"{_saw(seen)}, and {writer.name} appended {last!r} later")

    # Dependencies.

    def edges(self) -> list[Edge]:
        """All that follows from the orders of the lists."""
        if any(problem.name == "incompatible order" for problem in self._problems):
            return []
        found = [edge for key, order in self._orders.items() for edge in self._writes(key, order)]
        for seen in self._reads:
            found += self._reads_from(seen)
        return [edge for edge in found if edge.one != edge.other]

    def _writes(self, key: str, order: Values) -> Iterator[Edge]:
        for before, value in pairwise(order):
            yield from self._edge("ww", key, before, value)
        if order:
            for value in self._unread.get(key, ()):
                yield from self._edge("ww", key, order[-1], value)

    def _edge(self, kind: Kind, key: str, before: Hashable, value: Hashable) -> Iterator[Edge]:
        one, other = self._writer[key, before], self._writer[key, value]
        if Status.ABORTED not in (one.status, other.status):
            yield Edge(one.name, other.name, kind, key, f"{key} has {before!r}, then {value!r}")

    def _reads_from(self, seen: _Seen) -> Iterator[Edge]:
        order = self._orders.get(seen.key, ())
        if seen.base != order[: len(seen.base)]:
            return
        name = seen.reader.name
        if seen.base:
            writer = self._writer[seen.key, seen.base[-1]]
            if writer.status is not Status.ABORTED:
                why = f"{seen.key} was read with {seen.base[-1]!r}"
                yield Edge(writer.name, name, "wr", seen.key, why)
        following = order[len(seen.base) : len(seen.base) + 1] or self._unread.get(seen.key, ())
        for value in following:
            writer = self._writer[seen.key, value]
            if writer.status is not Status.ABORTED:
                why = f"{seen.key} was read without {value!r}"
                yield Edge(name, writer.name, "rw", seen.key, why)


def _read(transaction: Transaction, read: Read) -> str:
    return f"{transaction.name} read {read.key} as {read.values}"


def _saw(seen: _Seen) -> str:
    return f"{seen.reader.name} read {seen.key} as {seen.base}"


class _Cycles:
    """Finds cycles of dependencies: in each knot of them the shortest of the worst kind."""

    def __init__(self, edges: Iterable[Edge]) -> None:
        self._from: dict[str, dict[tuple[str, Kind, str], Edge]] = {}
        for edge in edges:
            mark = (edge.other, edge.kind, edge.key)
            self._from.setdefault(edge.one, {}).setdefault(mark, edge)

    def anomalies(self) -> list[Anomaly]:
        """One of each knot."""
        found = [self._worst(set(knot)) for knot in self._knots() if len(knot) > 1]
        names = ("G0", "G1c", "lost update", "G-single", "G2-item")
        return sorted(found, key=lambda anomaly: names.index(anomaly.name))

    def _worst(self, knot: set[str]) -> Anomaly:
        tries: tuple[tuple[str, Kind, tuple[Kind, ...], bool], ...] = (
            ("G0", "ww", ("ww",), False),
            ("G1c", "wr", ("ww", "wr"), False),
            ("lost update", "rw", ("ww", "rw"), True),
            ("G-single", "rw", ("ww", "wr"), False),
            ("G2-item", "rw", ("ww", "wr", "rw"), False),
        )
        for name, first, rest, is_of_one_list in tries:
            cycle = self._shortest(knot, first, rest, is_of_one_list)
            if cycle:
                return Anomaly(name, ", ".join(map(str, cycle)), cycle)
        raise AssertionError("a knot without a cycle")

    def _shortest(
        self, knot: set[str], first: Kind, rest: Sequence[Kind], is_of_one_list: bool
    ) -> tuple[Edge, ...]:
        """The shortest cycle that begins with an edge of one kind and goes on with others."""
        best: tuple[Edge, ...] = ()
        for one in sorted(knot):
            for edge in self._from[one].values():
                if edge.kind != first or edge.other not in knot or len(best) == 2:
                    continue
                key = edge.key if is_of_one_list else None
                way = self._way(edge.other, one, knot, rest, key)
                if way is not None and (not best or len(way) + 1 < len(best)):
                    best = (edge, *way)
        return best

    def _way(
        self, start: str, end: str, knot: set[str], kinds: Sequence[Kind], key: str | None
    ) -> tuple[Edge, ...] | None:
        """The shortest way by edges of these kinds, and of this list alone if one is named."""
        came: dict[str, Edge | None] = {start: None}
        waiting = deque([start])
        while waiting and end not in came:
            for edge in self._from.get(waiting.popleft(), {}).values():
                fits = edge.kind in kinds and key in (None, edge.key)
                if fits and edge.other in knot and edge.other not in came:
                    came[edge.other] = edge
                    waiting.append(edge.other)
        if end not in came:
            return None
        way: list[Edge] = []
        last = came[end]
        while last is not None:
            way.append(last)
            last = came[last.one]
        return tuple(reversed(way))

    def _knots(self) -> list[list[str]]:
        """Strongly connected components (Tarjan 1972), without recursion."""
        number: dict[str, int] = {}
        lowest: dict[str, int] = {}
        open_: list[str] = []
        is_open: set[str] = set()
        knots: list[list[str]] = []
        for root in self._from:
            if root in number:
                continue
            stack = [(root, self._next(root))]
            while stack:
                one, others = stack[-1]
                if one not in number:
                    number[one] = lowest[one] = len(number)
                    open_.append(one)
                    is_open.add(one)
                for other in others:
                    if other not in number:
                        stack.append((other, self._next(other)))
                        break
                    if other in is_open:
                        lowest[one] = min(lowest[one], number[other])
                else:
                    stack.pop()
                    if stack:
                        above = stack[-1][0]
                        lowest[above] = min(lowest[above], lowest[one])
                    if lowest[one] == number[one]:
                        place = open_.index(one)
                        knots.append(open_[place:])
                        is_open.difference_update(open_[place:])
                        del open_[place:]
        return knots

    def _next(self, one: str) -> Iterator[str]:
        return iter(dict.fromkeys(other for other, *_ in self._from.get(one, {})))
