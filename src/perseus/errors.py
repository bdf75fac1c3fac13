"""The one exception tree of Perseus.

::

    PerseusError
    ├── NotFoundError        not_found      no such file, job, node, token
    ├── AlreadyExistsError   already_exists the name is taken
    ├── InvalidError         invalid        the request cannot be meant so
    ├── RefusedError         refused        not allowed: role, token, certificate
    ├── ConflictError        conflict       somebody else holds it, or it changed meanwhile
    ├── UnavailableError     unavailable    not now: no daemon, node lost, network
    ├── LeaseLostError       lease_lost     the caller's lease or epoch is over
    ├── CorruptError         corrupt        bytes do not match their checksum
    ├── FullError            full           a disk or a quota has no room
    ├── TooLargeError        too_large      over a named bound
    ├── DeadlineError        timeout        the time limit passed
    ├── IncompatibleError    incompatible   versions have nothing in common
    └── InternalError        internal       a defect of Perseus

Each says what happened and where (``message``), what to type next (``hint``),
and whether the change asked for may have happened all the same
(``maybe_done``), so that a caller knows if trying again is safe. The word in
``code`` is the same in Python, gRPC (trailer ``perseus-error-bin``) and JSON.

This module imports nothing: the command line's fast path uses it.
"""


class PerseusError(Exception):
    """Root of the tree; ``code`` is the word that crosses the wire."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "", maybe_done: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.maybe_done = maybe_done

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def as_json(self) -> "dict[str, dict[str, str | bool]]":
        """The object ``{"error": {...}}``: at the JSON door and under ``--json`` the same."""
        about: dict[str, str | bool] = {"code": self.code, "message": self.message}
        return {"error": {**about, "hint": self.hint, "maybe_done": self.maybe_done}}


class NotFoundError(PerseusError):
    """No such file, job, node or token."""

    code = "not_found"


class AlreadyExistsError(PerseusError):
    """The name is taken."""

    code = "already_exists"


class InvalidError(PerseusError):
    """The request cannot be meant so; nothing was done."""

    code = "invalid"


class RefusedError(PerseusError):
    """The caller may not: role, token or certificate."""

    code = "refused"


class ConflictError(PerseusError):
    """Somebody else holds it, or it changed meanwhile."""

    code = "conflict"


class UnavailableError(PerseusError):
    """Not now: no daemon, a lost node, a cut network. Trying again may help."""

    code = "unavailable"


class LeaseLostError(PerseusError):
    """The caller's lease is over or its epoch is fenced; it must stop."""

    code = "lease_lost"


class CorruptError(PerseusError):
    """Bytes do not match their checksum."""

    code = "corrupt"


class FullError(PerseusError):
    """A disk or a quota has no room."""

    code = "full"


class TooLargeError(PerseusError):
    """Over a bound that the message names."""

    code = "too_large"


class DeadlineError(PerseusError):
    """A time limit passed."""

    code = "timeout"


class IncompatibleError(PerseusError):
    """Two versions of Perseus, or of its data, have nothing in common."""

    code = "incompatible"


class InternalError(PerseusError):
    """A defect of Perseus itself."""

    code = "internal"


_BY_CODE: dict[str, type[PerseusError]] = {
    kind.code: kind
    for kind in (
        NotFoundError,
        AlreadyExistsError,
        InvalidError,
        RefusedError,
        ConflictError,
        UnavailableError,
        LeaseLostError,
        CorruptError,
        FullError,
        TooLargeError,
        DeadlineError,
        IncompatibleError,
        InternalError,
    )
}


def from_code(code: str, message: str, *, hint: str = "", maybe_done: bool = False) -> PerseusError:
    """The exception for a code from the wire; an unknown code gives InternalError."""
    return _BY_CODE.get(code, InternalError)(message, hint=hint, maybe_done=maybe_done)
