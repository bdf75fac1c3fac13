"""What replicas say to each other; chapters are those of the paper of 2012."""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for; the same (client, number) again has no further effect."""

    client: Id
    number: int
    what: Any


@dataclass(frozen=True, slots=True)
class Prepare:
    """The view's primary gives a request its place, counted from 1; so much is committed (4.1)."""

    view: int
    place: int
    request: Request
    commit: int


@dataclass(frozen=True, slots=True)
class PrepareOk:
    """The log is here up to and with this place."""

    view: int
    place: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The primary lives, and so much is committed."""

    view: int
    commit: int


@dataclass(frozen=True, slots=True)
class StartViewChange:
    """The sender has left all views before this one (4.2)."""

    view: int


@dataclass(frozen=True, slots=True)
class DoViewChange:
    """For the new primary: the sender's log, and the last view in which it was normal."""

    view: int
    last_normal: int
    log: tuple[Request, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class StartView:
    """The new view begins with this log."""

    view: int
    log: tuple[Request, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """Asks for what its sender may have known before it crashed; it had got to this view (4.3)."""

    nonce: int
    view: int


@dataclass(frozen=True, slots=True)
class RecoveryResponse:
    """The view of who answers; from the view's primary, the log as well."""

    nonce: int
    view: int
    log: tuple[Request, ...] | None
    commit: int


@dataclass(frozen=True, slots=True)
class GetState:
    """Asks for the log after its first ``length`` places (5.2)."""

    view: int
    length: int


@dataclass(frozen=True, slots=True)
class NewState:
    """The log after its first ``length`` places, in this view."""

    view: int
    length: int
    rest: tuple[Request, ...]
    commit: int
