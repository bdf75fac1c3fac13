"""The state machine of join tokens; pure, see ``runtime.machine``.

A token is used at most once: RedeemToken marks it used and, in the same
transaction, emits the event that the token was presented for (``then``), such
as the one that makes the node. The caller checks that ``then`` cannot fail
before it redeems, with no await in between. A token that is used, revoked or
expired is remembered for KEEP_S, so that whoever presents it is told which.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from perseus.errors import (
    AlreadyExistsError,
    FullError,
    InvalidError,
    NotFoundError,
    RefusedError,
)
from perseus.identity import roles
from perseus.identity.files import duration_text
from perseus.identity.token_text import (
    EXPIRED,
    LIVE,
    REVOKED,
    USED,
    TokenProof,
    TokenText,
    hash_secret,
    join_server_name,
    make_token,
    new_secret,
    parse_token,
    token_id_of,
)
from perseus.runtime.machine import Effect, Event, Instant, Step, Tick, Write

PREFIX = b"token/"
SCHEMA = b"\x01"
TTL_DEFAULT_S = 3600.0
TTL_MAXIMUM_S = 30 * 86400.0
# How long a token is remembered after its end.
KEEP_S = 7 * 86400.0
TOKENS_MAXIMUM = 10_000
# How often Tick looks for what can be forgotten.
SWEEP_INTERVAL_S = 60.0

__all__ = [
    "CreateToken",
    "ListTokens",
    "RedeemToken",
    "RevokeToken",
    "TokenProof",
    "TokenRecord",
    "TokenText",
    "Tokens",
    "hash_secret",
    "join_server_name",
    "make_token",
    "new_secret",
    "parse_token",
    "token_id_of",
]


class TokenRecord(msgspec.Struct, frozen=True, array_like=True):
    """A token as it is kept."""

    token_id: str
    secret_sha256: bytes
    # A number of ``identity.roles``: NODE or one of the ladder.
    role: int
    created_at_s: float
    expires_at_s: float
    # Empty while it can still be used; then the name it was used for.
    used_by: str = ""
    # 0 until then.
    used_at_s: float = 0.0
    revoked: bool = False


def state_of(token: TokenRecord, time_s: float) -> str:
    """LIVE, USED, REVOKED or EXPIRED."""
    if token.used_by:
        return USED
    if token.revoked:
        return REVOKED
    return EXPIRED if time_s >= token.expires_at_s else LIVE


@dataclass(frozen=True, slots=True)
class CreateToken(Event):
    """Makes a token; replies with its TokenRecord. ``ttl_s`` 0 means an hour."""

    token_id: str
    secret_sha256: bytes
    role: int
    ttl_s: float

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class RedeemToken(Event):
    """Uses a token up and emits ``then``; replies with the TokenRecord.

    ``roles`` are those that the caller can make something of: Join takes NODE,
    Login the ladder. Empty means any.
    """

    token_id: str
    secret_sha256: bytes
    used_by: str
    then: Event | None = None
    roles: tuple[int, ...] = ()

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class RevokeToken(Event):
    """Makes a token useless; quiet when it is revoked already, an error when it was used."""

    token_id: str


@dataclass(frozen=True, slots=True)
class ListTokens(Event):
    """Replies with a tuple of all remembered TokenRecords, the newest first."""


class Tokens:
    """The machine; owns the keys ``token/ID``."""

    prefixes: Sequence[bytes] = (PREFIX,)
    events: Sequence[type[Event]] = (CreateToken, RedeemToken, RevokeToken, ListTokens, Tick)

    def __init__(self) -> None:
        self._tokens: dict[str, TokenRecord] = {}
        # Ids by the server name that proves them.
        self._server_names: dict[str, str] = {}
        # Monotonic; below any clock, so that the first Tick sweeps.
        self._swept_at_s = float("-inf")

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the tokens from their keys."""
        for key, value in items:
            if value[:1] != SCHEMA:
                raise InvalidError(f"the token under {key!r} has an unknown schema")
            self._remember(msgspec.msgpack.decode(value[1:], type=TokenRecord))

    def step(self, at: Instant, event: Event) -> Step:
        """See the events' descriptions."""
        match event:
            case CreateToken():
                return self._create(at, event)
            case RedeemToken():
                return self._redeem(at, event)
            case RevokeToken():
                return self._revoke(event)
            case ListTokens():
                newest = sorted(self._tokens.values(), key=lambda token: -token.created_at_s)
                return Step(reply=tuple(newest))
            case Tick():
                return self._sweep(at)
        raise TypeError(f"Tokens does not take {type(event).__name__}")

    def judge_server_name(self, server_name: str, time_s: float) -> TokenProof | None:
        """Which token a server name proves, and whether it can still be used; None for none."""
        token = self._tokens.get(self._server_names.get(server_name, ""))
        return None if token is None else TokenProof(token.token_id, state_of(token, time_s))

    def check(self, at: Instant, event: RedeemToken) -> TokenRecord:
        """The token that ``event`` would use up; raises what redeeming it would raise."""
        token = self._tokens.get(event.token_id)
        if token is None or not hmac.compare_digest(token.secret_sha256, event.secret_sha256):
            raise RefusedError(
                f"the token {event.token_id} is unknown to this cluster or its secret is wrong",
                hint=_CREATE_HINT,
            )
        state = state_of(token, at.time_s)
        if state == USED:
            raise RefusedError(
                f"the token {token.token_id} was used already, by {token.used_by}; "
                "a token works once",
                hint=_CREATE_HINT,
            )
        if state == REVOKED:
            raise RefusedError(f"the token {token.token_id} was revoked", hint=_CREATE_HINT)
        if state == EXPIRED:
            ago_s = at.time_s - token.expires_at_s
            raise RefusedError(
                f"the token {token.token_id} expired {ago_s:.0f} s ago", hint=_CREATE_HINT
            )
        if event.roles and token.role not in event.roles:
            raise RefusedError(
                f"the token {token.token_id} has role {roles.WORDS[token.role]}, which is "
                "not for this",
                hint="`perseus join` takes a token of role node, `perseus login` any other",
            )
        return token

    def _create(self, at: Instant, event: CreateToken) -> Step:
        ttl_s = event.ttl_s or TTL_DEFAULT_S
        if not 0 < ttl_s <= TTL_MAXIMUM_S:
            raise InvalidError(
                f"a token cannot last {duration_text(event.ttl_s)}",
                hint=f"at most {TTL_MAXIMUM_S / 86400:.0f} days: --ttl 30d",
            )
        if event.role not in (*roles.LADDER, roles.NODE):
            raise InvalidError("a token's role is node, user, viewer or admin", hint="--role node")
        if not event.token_id or len(event.secret_sha256) != 32:
            raise InvalidError("a token needs an id and the SHA-256 of its secret")
        if event.token_id in self._tokens:
            raise AlreadyExistsError(f"there is a token {event.token_id} already")
        if len(self._tokens) >= TOKENS_MAXIMUM:
            raise FullError(
                f"there are {TOKENS_MAXIMUM} tokens; no more fit",
                hint="perseus token ls; perseus token revoke TOKEN_ID",
            )
        token = TokenRecord(
            event.token_id, event.secret_sha256, event.role, at.time_s, at.time_s + ttl_s
        )
        return Step(writes=[self._remember(token)], reply=token)

    def _redeem(self, at: Instant, event: RedeemToken) -> Step:
        if not event.used_by:
            raise InvalidError("a token is used by somebody with a name")
        token = self.check(at, event)
        used = msgspec.structs.replace(token, used_by=event.used_by, used_at_s=at.time_s)
        effects: list[Effect | Event] = [] if event.then is None else [event.then]
        return Step(writes=[self._remember(used)], effects=effects, reply=used)

    def _revoke(self, event: RevokeToken) -> Step:
        token = self._tokens.get(event.token_id)
        if token is None:
            raise NotFoundError(f"there is no token {event.token_id}", hint="perseus token ls")
        if token.used_by:
            raise InvalidError(
                f"the token {token.token_id} was used by {token.used_by}; revoking comes too late",
                hint=f"perseus nodes rm {token.used_by}",
            )
        if token.revoked:
            return Step()
        return Step(writes=[self._remember(msgspec.structs.replace(token, revoked=True))])

    def _sweep(self, at: Instant) -> Step:
        if at.now_s - self._swept_at_s < SWEEP_INTERVAL_S:
            return Step()
        self._swept_at_s = at.now_s
        over = [t for t in self._tokens.values() if t.expires_at_s + KEEP_S <= at.time_s]
        for token in over:
            del self._tokens[token.token_id]
            self._server_names.pop(join_server_name(token.token_id, token.secret_sha256), None)
        return Step(writes=[Write(_key(token), None) for token in over])

    def _remember(self, token: TokenRecord) -> Write:
        self._tokens[token.token_id] = token
        name = join_server_name(token.token_id, token.secret_sha256)
        self._server_names[name] = token.token_id
        return Write(_key(token), SCHEMA + msgspec.msgpack.encode(token))


_CREATE_HINT = "on the master: perseus token create; for a login: perseus token create --role user"


def _key(token: TokenRecord) -> bytes:
    return PREFIX + token.token_id.encode()
