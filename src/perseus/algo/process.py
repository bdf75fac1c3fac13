"""``Process``: what an algorithm is written as. The package's docstring is its reference page.

A process is driven by a *host* (the simulator's, the cluster's, or a test's), which
calls one handler at a time and then takes up what the handler left: ``_changes``
to persist, ``_outbox`` to send once they are, ``_spawned`` to start. The process
itself does no I/O, so all hosts drive the very same code.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast

from perseus.algo import durability
from perseus.algo.durability import LENGTH
from perseus.algo.kept import Kept, opened
from perseus.errors import InvalidError

if TYPE_CHECKING:
    from perseus.algo.properties import Property

Id = str
Handler = Callable[..., None]
AnyProcess = TypeVar("AnyProcess", bound="Process")
Decorated = TypeVar("Decorated", bound=Callable[..., None])

# Sends of one handler; more is a loop that does not end.
OUTBOX_MAXIMUM = 100_000
# Numbers below it are surely small.
SMALL = 1 << 63
# A timer that is set for later than this (about 30 years) is a mistake.
AFTER_MAXIMUM_S = 1e9


class UnfitError(InvalidError):
    """A process sends or keeps what no message and no disk can hold: a mistake in the
    algorithm, whatever befalls it, and no crash of its node."""


class Timer(Protocol):
    """What ``after`` gives."""

    def cancel(self) -> None:
        """It does not fire; quiet when it has, or was cancelled."""


class Chance(Protocol):
    """A process's own source of chance; the simulator's comes from the seed."""

    def random(self) -> float:
        """From 0 up to but not including 1."""

    def uniform(self, low: float, high: float) -> float:
        """Between ``low`` and ``high``."""

    def below(self, count: int) -> int:
        """A whole number from 0 up to but not including ``count``."""


class Host(Protocol):
    """What drives processes; algorithms never see it."""

    def now_s(self, process: "Process") -> float:
        """The monotonic clock of the process's machine: see ``Process.now``."""

    def after(
        self, process: "Process", seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> Timer:
        """Calls the handler as a step of its own, unless the process has ended by then."""

    def taken(self, value: Any) -> Any:
        """What a process sends or keeps, as it is now, a copy if it could change; raises
        InvalidError for what no message and no disk can hold. See ``values``."""

    def knows(self, to: Id) -> bool:
        """Whether there is somebody of that name who is in no group."""


class Envelope(NamedTuple):
    """One message on its way. ``number`` asks for a reply under it, ``answers`` is one."""

    to: Id
    message: Any
    number: int = 0
    answers: int = 0


class Asker(NamedTuple):
    """Who asked, and under which number; kept in memory to answer later."""

    id: Id
    number: int


class Place(NamedTuple):
    """Who a process is, and whom it knows."""

    id: Id
    group: str
    groups: Mapping[str, tuple[Id, ...]]
    # How often it has started before; numbers of requests are not used again.
    restarts: int = 0


class Request(NamedTuple):
    """A request that waits for its reply."""

    on_reply: Handler
    timer: Timer


def on(message: type) -> Callable[[Decorated], Decorated]:
    """Makes the method the handler of messages of this class: ``(self, sender, message)``."""
    if not isinstance(message, type):
        raise InvalidError(
            "@on needs the class of the message", hint="@on(Ping) above def ping(self, sender, m)"
        )

    def decorate(function: Decorated) -> Decorated:
        _check_runs(function)
        if not _takes_message(function):
            raise InvalidError(
                f"{getattr(function, '__qualname__', function)}, below @on({message.__name__}),"
                " does not take (self, sender, message)",
                hint="a method (self, sender, message)",
            )
        kinds = getattr(function, "_handles", ())
        function._handles = (*kinds, message)  # type: ignore[attr-defined]
        return function

    return decorate


def _check_runs(function: object) -> None:
    """Raises InvalidError for what a call does not run: it would quietly do nothing."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        what = "is an async def"
    elif inspect.isgeneratorfunction(function):
        what = "has a yield"
    else:
        return
    raise InvalidError(
        f"{getattr(function, '__qualname__', function)} {what}: a handler is one step,"
        " and cannot wait within it",
        hint="a plain def; what comes later goes on in request(..., on_reply=...)"
        " or after(seconds, handler)",
    )


def _inherited_handlers(kind: type["Process"]) -> dict[type, Handler]:
    """Those of all bases. A method that overrides a handler is the handler, also without @on."""
    found: dict[type, Handler] = {}
    for base in reversed(kind.__mro__[1:]):
        for value in vars(base).values():
            found |= dict.fromkeys(getattr(value, "_handles", ()), value)
    for message, handler in found.items():
        override = getattr(kind, handler.__name__, handler)
        if not hasattr(override, "_handles"):
            found[message] = override
    return found


def _check_names(kind: type["Process"]) -> None:
    """Raises InvalidError when a name of the class takes the place of one that is needed."""
    for name, value in vars(kind).items():
        if name in ("start", "unhandled"):
            _check_runs(value)
        if name in RESERVED and not _calls_super(value):
            raise InvalidError(
                f"{kind.__name__}.{name} takes the place of Process.{name}",
                hint=f"another name for it, or super().{name}(...) within to add to it",
            )
        for base in kind.__mro__[1:-1]:
            if name in vars(base) and not name.startswith("__"):
                _check_override(kind, name, value, base)
                break


def _check_override(kind: type["Process"], name: str, value: object, base: type) -> None:
    """Of a name that a base has too: a handler replaces a handler of the same message."""
    own, inherited = getattr(value, "_handles", ()), getattr(vars(base)[name], "_handles", ())
    if own and not set(own) & set(inherited):
        what = f"handles {inherited[0].__name__}" if inherited else "is called by other names"
        raise InvalidError(
            f"{kind.__name__}.{name} handles {own[0].__name__}, and takes the place of"
            f" {base.__name__}.{name}, which {what}",
            hint=f"another name for it, as {name}_{own[0].__name__.lower()}",
        )
    if inherited and not own and not _takes_message(value):
        raise InvalidError(
            f"{kind.__name__}.{name} takes the place of {base.__name__}.{name}, which handles"
            f" {inherited[0].__name__}, but does not take (self, sender, message)",
            hint="another name for it, or those arguments to replace the handler",
        )


def _calls_super(value: object) -> bool:
    code = getattr(value, "__code__", None)
    return code is not None and "super" in code.co_names


def _takes_message(value: object) -> bool:
    try:
        inspect.signature(cast(Any, value)).bind(None, "", None)
    except (TypeError, ValueError):
        return False
    return True


def _no_time(seconds: object) -> InvalidError:
    return InvalidError(
        f"after({seconds!r}, ...): no timer can be set for that",
        hint="a number of seconds from 0 up, or (low, high) to draw one between the two",
    )


class Process:
    """A process of a distributed algorithm; see ``perseus.algo``."""

    # Who uses the algorithm while it is simulated, and how many of them.
    client: ClassVar["type[Process] | None"] = None
    clients: ClassVar[int] = 1

    _handlers: ClassVar[dict[type, Handler]] = {}
    _durable: ClassVar[dict[str, durability.Attribute]] = {}
    _properties: ClassVar[list["Property"]] = []

    id: Id
    peers: tuple[Id, ...]
    everyone: tuple[Id, ...]
    majority: int
    random: Chance

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            raise InvalidError(
                f"{cls.__name__} has an __init__, which would not run again after a crash",
                hint="set what is volatile in start(), what survives with durable(...),"
                " and options as class attributes",
            )
        _check_names(cls)
        cls._properties = []
        cls._durable = durability.attributes_of(cls)
        cls._handlers = _inherited_handlers(cls)
        taken: dict[type, str] = {}
        for name, value in list(vars(cls).items()):
            for kind in getattr(value, "_handles", ()):
                if kind in taken:
                    raise InvalidError(
                        f"{cls.__name__} handles {kind.__name__} twice:"
                        f" in {taken[kind]} and in {name}"
                    )
                taken[kind] = name
                cls._handlers[kind] = value

    # What an algorithm overrides.

    def start(self) -> None:
        """At birth and after each crash, before any message: sets what is volatile."""

    def unhandled(self, sender: Id, message: Any) -> None:
        """A message without a handler is a defect, unless this says otherwise."""
        raise InvalidError(
            f"{type(self).__name__} has no handler for {type(message).__name__}",
            hint=f"@on({type(message).__name__}) above a method (self, sender, message)",
        )

    # What an algorithm calls.

    @property
    def now(self) -> float:
        """Seconds by the monotonic clock of this process's machine, from a time of its own: it
        runs fast or slow, may jump ahead, does not go back while the machine is up, and begins
        anew when that is switched on. Others' differ; there is no time of day."""
        return self._host.now_s(self)

    @property
    def restarts(self) -> int:
        """How often this process has started before."""
        return self._place.restarts

    def send(self, to: Id, message: Any) -> None:
        """Sends once this step is durable. It may be lost, late, doubled or overtaken."""
        out = self._outbox
        if len(out) >= OUTBOX_MAXIMUM:
            self._refuse_more()
        if to not in self._ids:
            self._check_somebody(to)
        try:
            out.append((to, self._taken(message), 0, 0))
        except InvalidError as error:
            raise self._unfit(message, error) from None

    def broadcast(self, message: Any, to: str = "") -> None:
        """Sends to each peer, or to each other process of the group ``to``."""
        out = self._outbox
        if len(out) >= OUTBOX_MAXIMUM:
            self._refuse_more()
        peers = self.peers if not to else self.group(to)
        try:
            taken = self._taken(message)
        except InvalidError as error:
            raise self._unfit(message, error) from None
        out.extend((peer, taken, 0, 0) for peer in peers if peer != self.id)

    def reply(self, message: Any, to: Asker | None = None) -> None:
        """Sends to whom the message that is being handled came from, as the answer to it;
        or to an ``asker`` of before."""
        asker = to or self.asker
        self._put(asker.id, message, 0, asker.number)

    @property
    def asker(self) -> Asker:
        """Whom ``reply`` would answer: to be kept for an answer that comes in a later step."""
        if self._sender is None:
            raise InvalidError(
                "there is nothing to reply to: no message is being handled",
                hint="keep self.asker while the message is handled, and reply(message, asker)",
            )
        return Asker(self._sender, self._asked)

    def request(
        self,
        to: Id,
        message: Any,
        *,
        timeout_s: float,
        on_reply: Handler,
        on_timeout: Handler | None = None,
    ) -> None:
        """Sends, and calls ``on_reply(sender, reply)`` for the first reply within
        ``timeout_s``, else ``on_timeout()``. What was asked for may happen all the same."""
        if to not in self._ids:
            self._check_somebody(to)
        self._requested += 1
        number = self._requested
        timer = self.after(timeout_s, self._give_up, number, on_timeout)
        self._requests[number] = Request(on_reply, timer)
        self._put(to, message, number, 0)

    def handle(self, sender: Id, message: Any) -> None:
        """Runs the handler of a message in this step: for layers whose own messages carry it."""
        found = self._handlers.get(message.__class__)
        if found is None:
            self.unhandled(sender, message)
        else:
            found(self, sender, message)

    def after(
        self, seconds: "float | tuple[float, float]", handler: Handler, *arguments: Any
    ) -> Timer:
        """Calls ``handler(*arguments)`` as a step of its own, by this process's clock.

        ``(low, high)`` draws the time between them. A crash takes all timers away.
        """
        if seconds.__class__ is tuple:
            try:
                low, high = seconds
                if not 0.0 <= low <= high <= AFTER_MAXIMUM_S:
                    raise _no_time(seconds)
            except (TypeError, ValueError):
                raise _no_time(seconds) from None
            seconds = self.random.uniform(low, high)
        elif not isinstance(seconds, int | float) or not 0.0 <= seconds <= AFTER_MAXIMUM_S:
            raise _no_time(seconds)
        return self._host.after(self, seconds, handler, arguments)

    def group(self, name: str) -> tuple[Id, ...]:
        """The ids of a named group of the layout."""
        try:
            return self._place.groups[name]
        except KeyError:
            names = ", ".join(self._place.groups)
            raise InvalidError(f"there is no group {name!r}", hint=f"groups are: {names}") from None

    def spawn(self, kind: "type[Process]", name: str, **options: Any) -> Id:
        """Starts a process beside this one, once this step is durable; its id.

        It dies with its node. What starts again calls ``spawn`` again in ``start``;
        what was durable to a process of that name is still there.
        """
        if not name or "/" in name:
            raise InvalidError(f"{name!r} is not a name for a process", hint="a word without '/'")
        made = f"{self.id}/{name}"
        self._spawned.append((kind, made, options))
        return made

    def stop(self) -> None:
        """Ends this process with this step."""
        self._is_over = True

    # What hosts call.

    @classmethod
    def _host_create(
        cls: type[AnyProcess],
        place: Place,
        host: Host,
        chance: Chance,
        disk: Mapping[durability.Key, Any],
        options: Mapping[str, Any],
    ) -> AnyProcess:
        """A process with the durable state of ``disk``, before its ``start``."""
        process = object.__new__(cls)
        space = process.__dict__
        everyone = place.groups.get(place.group, (place.id,))
        space |= {
            "id": place.id,
            "peers": tuple(peer for peer in everyone if peer != place.id),
            "everyone": everyone,
            "majority": len(everyone) // 2 + 1,
            "random": chance,
            durability.CHANGES: {},
            durability.NOTED: {},
            "_taken": host.taken,
            "_host": host,
            "_place": place,
            "_ids": frozenset(each for ids in place.groups.values() for each in ids),
            "_outbox": [],
            "_spawned": [],
            "_is_over": False,
            "_sender": None,
            "_asked": 0,
            "_requests": {},
            "_requested": place.restarts << 32,
        }
        durability.begin(process, cls._durable, disk)
        for name, value in options.items():
            if name.startswith("_") or not hasattr(cls, name):
                raise InvalidError(f"{cls.__name__} has no option {name!r}")
            setattr(process, name, value)
        return process

    def _host_start(self) -> None:
        """Runs ``start``, and raises InvalidError when it took a name that is the host's."""
        space = self.__dict__
        before = {name: space[name] for name in _KEPT}
        self.start()
        for name, value in space.items():
            if name in RESERVED and before.get(name, self) is not value and name not in _COUNTED:
                raise InvalidError(
                    f"{type(self).__name__}.start sets self.{name}, which is Process's own",
                    hint="another name for it",
                )

    def _host_deliver(self, sender: Id, message: Any, number: int = 0, answers: int = 0) -> None:
        """Runs the handler of a message."""
        if answers:
            waiting = self._requests.pop(answers, None)
            if waiting is None:
                return
            waiting.timer.cancel()
            handler = waiting.on_reply
            self._sender, self._asked = sender, number
            handler(sender, message)
        else:
            self._sender, self._asked = sender, number
            found = self._handlers.get(message.__class__)
            if found is None:
                self.unhandled(sender, message)
            else:
                found(self, sender, message)
        self._sender = None

    def _host_changes(self) -> durability.Changes:
        """What the step that has ended made durable, as it is now; raises UnfitError."""
        # Containers hold on to the dict, so it is emptied and not replaced.
        changes = dict(self._changes)
        self._changes.clear()
        noted = self._noted
        for key, value in changes.items():
            if value is not durability.GONE:
                if len(key) == 2 and key[1].__class__ is not int and key[1] is not LENGTH:
                    self._check_key(key)
                if value.__class__ is not int or not -SMALL < value < SMALL:
                    changes[key] = value = self._kept(key, value)
            if value.__class__ is Kept:
                noted[key] = value
            elif noted:
                noted.pop(key, None)
        return changes

    def _check_key(self, key: durability.Key) -> None:
        """Of a dict or a set: a key is on the disk too."""
        if self._kept(key, key[1]) is not key[1]:
            raise UnfitError(
                f"{self.id}: a key of durable {key[0]} of {type(self).__name__} can change",
                hint="numbers, text, tuples and @dataclass(frozen=True) of those as keys",
            )

    def _kept(self, key: durability.Key, value: Any) -> Any:
        """The value of a change, taken."""
        try:
            return self._taken(value)
        except InvalidError as error:
            raise UnfitError(
                f"{self.id}: durable {key[0]} of {type(self).__name__} cannot be kept:"
                f" {error.message}",
                hint=error.hint,
            ) from None

    def _host_unseen(self) -> str:
        """Between steps: what is wrong when something durable was changed in place."""
        where = durability.changed_unseen(self) if self._noted else ""
        if not where:
            return ""
        return (
            f"{self.id}: {where}, durable to {type(self).__name__}, was changed in place and not"
            f" assigned: it is not on disk, and a crash takes it back; write self.{where} = ..."
        )

    def _put(self, to: Id, message: Any, number: int, answers: int) -> None:
        if len(self._outbox) >= OUTBOX_MAXIMUM:
            self._refuse_more()
        try:
            self._outbox.append((to, self._taken(message), number, answers))
        except InvalidError as error:
            raise self._unfit(message, error) from None

    def _unfit(self, message: Any, error: InvalidError) -> UnfitError:
        """What is told of a message that cannot be sent, and which handler it was."""
        handler, _ = self._at_work()
        return UnfitError(
            f"{self.id}: {handler} cannot send this {type(message).__name__}: {error.message}",
            hint=error.hint,
        )

    def _check_somebody(self, to: Id) -> None:
        """Raises UnfitError for the name of nobody. One that is spawned may yet come."""
        if str(to).partition("/")[0] in self._ids or self._host.knows(to):
            return
        handler, place = self._at_work()
        raise UnfitError(
            f"{self.id}: {handler} at {place} sends to {to!r}, which is nobody",
            hint="send(to, message); ids are in self.peers and self.group(name)",
        )

    def _at_work(self) -> tuple[str, str]:
        """The handler that runs, and the file and line in which it, or what it calls, is."""
        frame, handler, place = sys._getframe(), type(self).__name__, ""
        while frame.f_back is not None:
            frame = frame.f_back
            code = frame.f_code
            if code.co_filename == __file__:
                continue
            place = place or f"{os.path.basename(code.co_filename)}:{frame.f_lineno}"
            if frame.f_locals.get("self") is self:
                handler = code.co_qualname
        return handler, place

    def _refuse_more(self) -> None:
        message = opened(self._outbox[-1][1])
        raise InvalidError(
            f"{self.id}: one step of {type(self).__name__} sends {OUTBOX_MAXIMUM} messages,"
            f" of late {type(message).__name__}; no step may send more",
            hint="look for a loop in the handler that does not end, or send the rest in a"
            " later step: after(0, ...)",
        )

    def _give_up(self, number: int, on_timeout: Handler | None) -> None:
        if self._requests.pop(number, None) is not None and on_timeout is not None:
            on_timeout()

    _host: Host
    _place: Place
    _taken: Callable[[Any], Any]
    _ids: frozenset[Id]
    _changes: durability.Changes
    _noted: dict[durability.Key, Kept]
    _outbox: list[tuple[Id, Any, int, int]]
    _spawned: list[tuple["type[Process]", Id, dict[str, Any]]]
    _is_over: bool
    _sender: Id | None
    _asked: int
    _requests: dict[int, Request]
    _requested: int


# What a class may have of its own, of the names of Process.
OVERRIDDEN = ("start", "unhandled", "client", "clients")
# Attributes that hosts and handlers change: counts, and what a step leaves.
_COUNTED = frozenset({"_is_over", "_sender", "_asked", "_requested"})
# Those that stay what they are for a life.
_KEPT = (
    "id", "peers", "everyone", "majority", "random", "_changes", "_noted", "_taken", "_host",
    "_place", "_ids", "_outbox", "_spawned", "_requests",
)  # fmt: skip
# By class attributes these are set for each class anew, above.
_OF_CLASSES = ("_handlers", "_durable", "_properties")
RESERVED = frozenset(
    name
    for name in (*vars(Process), *Process.__annotations__)
    if not name.startswith("__") and name not in (*OVERRIDDEN, *_OF_CLASSES)
)
