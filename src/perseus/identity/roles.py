"""Roles, and who may call what.

viewer < user < admin is a ladder; node, token and process stand beside it: none
of them includes or is included. The numbers are those of ``Role`` in common.proto
(a test compares them), kept here so that light modules need no protobuf.
"""

from perseus.errors import InvalidError

UNSPECIFIED = 0
VIEWER = 1
USER = 2
ADMIN = 3
NODE = 4
TOKEN = 5
PROCESS = 6

WORDS = {
    VIEWER: "viewer",
    USER: "user",
    ADMIN: "admin",
    NODE: "node",
    TOKEN: "token",
    PROCESS: "process",
}
LADDER = (VIEWER, USER, ADMIN)


def allows(caller: int, required: int, node_may_call: bool) -> bool:
    """Whether a caller of role ``caller`` may call an RPC that requires ``required``."""
    if caller == NODE:
        return required == NODE or (node_may_call and required in LADDER)
    if {caller, required} & {TOKEN, PROCESS}:
        return caller == required
    return caller in LADDER and required in LADDER and caller >= required


def capped(role: int, ceiling: int) -> int:
    """The lower of two roles of the ladder; UNSPECIFIED when ``role`` is not on it."""
    return min(role, ceiling) if role in LADDER else UNSPECIFIED


def parse(word: str) -> int:
    """The role that a word names; raises InvalidError."""
    for role, known in WORDS.items():
        if word == known:
            return role
    raise InvalidError(f"{word!r} is not a role", hint=f"roles are: {', '.join(WORDS.values())}")
