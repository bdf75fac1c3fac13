"""Tokens work once, end, and are told apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import (
    AlreadyExistsError,
    FullError,
    InvalidError,
    NotFoundError,
    PerseusError,
    RefusedError,
)
from perseus.identity import roles, tokens
from perseus.identity.tokens import (
    KEEP_S,
    CreateToken,
    ListTokens,
    RedeemToken,
    RevokeToken,
    Tokens,
    hash_secret,
    join_server_name,
    make_token,
    new_secret,
    parse_token,
    token_id_of,
)
from perseus.runtime.machine import Composite, Event, Instant, Machine, Step, Tick, Write

SECRET = new_secret(12345)
SHA = hash_secret(SECRET)
CREATE = CreateToken("abcdefgh", SHA, roles.NODE, 100.0)
REDEEM = RedeemToken("abcdefgh", SHA, "kitchen-pc")


def _at(seconds: float) -> Instant:
    return Instant(seconds, 1e9 + seconds)


@dataclass(frozen=True, slots=True)
class NodeMade(Event):
    """What a token is presented for."""

    name: str


class Nodes:
    """A sibling that takes the follow-up."""

    prefixes: Sequence[bytes] = (b"made/",)
    events: Sequence[type[Event]] = (NodeMade,)

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        self.loaded = list(items)

    def step(self, at: Instant, event: Event) -> Step:
        assert isinstance(event, NodeMade)
        return Step(writes=[Write(b"made/" + event.name.encode(), b"")])


def _apply(store: dict[bytes, bytes], step: Step) -> None:
    for write in step.writes:
        if write.value is None:
            del store[write.key]
        else:
            store[write.key] = write.value


def test_redeeming_and_its_follow_up_are_one_transaction() -> None:
    siblings: list[Machine] = [Tokens(), Nodes()]
    composite = Composite(siblings)
    composite.step(_at(0), CREATE)
    redeem = RedeemToken("abcdefgh", SHA, "kitchen-pc", NodeMade("kitchen-pc"), (roles.NODE,))
    step = composite.step(_at(1), redeem)
    assert [write.key for write in step.writes] == [b"token/abcdefgh", b"made/kitchen-pc"]
    assert step.effects == []
    assert step.reply.used_by == "kitchen-pc"
    with pytest.raises(RefusedError):
        composite.step(_at(2), redeem)


def _refusal(machine: Tokens, at: float, event: RedeemToken) -> str:
    with pytest.raises(RefusedError) as caught:
        machine.step(_at(at), event)
    return caught.value.message


def test_refusals_are_distinct() -> None:
    machine = Tokens()
    for token_id in ("usedused", "overover", "revorevo", "userrole"):
        role = roles.USER if token_id == "userrole" else roles.NODE
        machine.step(_at(0), CreateToken(token_id, SHA, role, 100.0))
    machine.step(_at(1), RedeemToken("usedused", SHA, "attic-pc"))
    machine.step(_at(1), RevokeToken("revorevo"))
    assert "unknown" in _refusal(machine, 2, RedeemToken("nonesuch", SHA, "x"))
    assert "unknown" in _refusal(machine, 2, RedeemToken("usedused", hash_secret("no"), "x"))
    assert "used already, by attic-pc" in _refusal(machine, 2, RedeemToken("usedused", SHA, "x"))
    assert "revoked" in _refusal(machine, 2, RedeemToken("revorevo", SHA, "x"))
    assert "expired 50 s ago" in _refusal(machine, 150, RedeemToken("overover", SHA, "x"))
    mistaken = RedeemToken("userrole", SHA, "x", None, (roles.NODE,))
    assert "role user" in _refusal(machine, 2, mistaken)


def test_a_refused_redeem_changes_nothing() -> None:
    machine = Tokens()
    machine.step(_at(0), CREATE)
    _refusal(machine, 1, RedeemToken("abcdefgh", hash_secret("wrong"), "x"))
    assert machine.step(_at(2), REDEEM).reply.role == roles.NODE


@pytest.mark.parametrize("ttl_s", [-1.0, 31 * 86400.0, float("nan"), float("inf")])
def test_times_to_live_are_bounded(ttl_s: float) -> None:
    with pytest.raises(InvalidError):
        Tokens().step(_at(0), CreateToken("abcdefgh", SHA, roles.NODE, ttl_s))


@pytest.mark.parametrize("role", [roles.UNSPECIFIED, roles.TOKEN, 99])
def test_roles_of_tokens(role: int) -> None:
    with pytest.raises(InvalidError):
        Tokens().step(_at(0), CreateToken("abcdefgh", SHA, role, 1.0))


def test_tokens_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAXIMUM", 1)
    machine = Tokens()
    machine.step(_at(0), CREATE)
    with pytest.raises(AlreadyExistsError):
        machine.step(_at(0), CREATE)
    with pytest.raises(FullError):
        machine.step(_at(0), CreateToken("abcdefgj", SHA, roles.NODE, 1.0))


def test_revoking() -> None:
    machine = Tokens()
    machine.step(_at(0), CREATE)
    with pytest.raises(NotFoundError):
        machine.step(_at(0), RevokeToken("nonesuch"))
    assert machine.step(_at(0), RevokeToken("abcdefgh")).writes
    assert not machine.step(_at(0), RevokeToken("abcdefgh")).writes
    machine.step(_at(0), CreateToken("usedused", SHA, roles.NODE, 1.0))
    machine.step(_at(0), RedeemToken("usedused", SHA, "attic-pc"))
    with pytest.raises(InvalidError, match="too late"):
        machine.step(_at(0), RevokeToken("usedused"))


def test_a_server_name_proves_a_token() -> None:
    machine = Tokens()
    machine.step(_at(0), CREATE)
    name = join_server_name("abcdefgh", SHA)
    assert len(name.split(".")[0]) <= 63
    assert token_id_of(name) == "abcdefgh"
    assert token_id_of("node.c.perseus.internal") == ""
    judged = [machine.judge_server_name(name, _at(at).time_s) for at in (1, 100)]
    assert judged == [("abcdefgh", "live"), ("abcdefgh", "expired")]
    assert machine.judge_server_name(name.replace("abcdefgh", "abcdefgj"), 1e9) is None
    assert machine.judge_server_name(join_server_name("abcdefgh", b"other"), 1e9) is None
    machine.step(_at(1), REDEEM)
    assert machine.judge_server_name(name, 1e9) == ("abcdefgh", "used")


def test_long_expired_tokens_are_dropped() -> None:
    machine = Tokens()
    store: dict[bytes, bytes] = {}
    _apply(store, machine.step(_at(0), CREATE))
    _apply(store, machine.step(_at(99), Tick()))
    _apply(store, machine.step(_at(100 + KEEP_S - 1), Tick()))
    assert store
    _apply(store, machine.step(_at(100 + KEEP_S + 60), Tick()))
    assert not store
    assert machine.step(_at(0), ListTokens()).reply == ()
    assert machine.judge_server_name(join_server_name("abcdefgh", SHA), 0.0) is None


def test_a_value_of_a_newer_schema_is_not_guessed_at() -> None:
    with pytest.raises(InvalidError):
        Tokens().load([(b"token/abcdefgh", b"\xffrest")])


IDS = st.sampled_from(["aaaaaaaa", "bbbbbbbb", "cccccccc"])
EVENTS = st.one_of(
    st.builds(CreateToken, IDS, st.just(SHA), st.sampled_from(roles.LADDER), st.floats(1, 9e5)),
    st.builds(RedeemToken, IDS, st.sampled_from([SHA, b"wrong"]), st.just("somebody")),
    st.builds(RevokeToken, IDS),
    st.builds(Tick),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 1e6))))
def test_disk_and_memory_agree_and_tokens_work_once(
    history: list[tuple[Event, float]],
) -> None:
    machine = Tokens()
    store: dict[bytes, bytes] = {}
    redeemed: set[str] = set()
    now_s = 0.0
    for event, later_s in history:
        now_s += later_s
        try:
            step = machine.step(_at(now_s), event)
        except PerseusError:
            continue
        _apply(store, step)
        match event:
            case RedeemToken():
                assert event.token_id not in redeemed
                redeemed.add(event.token_id)
            case CreateToken():
                redeemed.discard(event.token_id)
    again = Tokens()
    again.load(store.items())
    at = _at(now_s)
    assert set(again.step(at, ListTokens()).reply) == set(machine.step(at, ListTokens()).reply)


@given(st.integers(0, 2**160 - 1))
def test_token_text_round_trip(bits: int) -> None:
    secret = new_secret(bits)
    text = make_token("abcdefgh", secret, "a" * 32)
    parsed = parse_token(f"  {text}\n")
    assert parsed == ("abcdefgh", secret, "a" * 32)
    assert parsed.server_name == join_server_name("abcdefgh", hash_secret(secret))


@pytest.mark.parametrize("cut", range(1, 80, 7))
def test_a_cut_token_is_told_without_its_secret(cut: int) -> None:
    text = make_token("abcdefgh", SECRET, "a" * 32)[:-cut]
    with pytest.raises(InvalidError) as caught:
        parse_token(text)
    assert SECRET not in str(caught.value)
