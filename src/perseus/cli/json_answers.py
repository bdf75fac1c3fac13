"""What each command answers under ``--json``, as one table.

The reference page is made from it, and a test runs every command against a cluster and
compares. An answer is one value on a line, or a line for each of several; errors are told
in the page's introduction.
"""

import dataclasses
from typing import Any

from perseus.client.messages import (
    DiskUsage,
    FileInfo,
    Finding,
    FollowEvent,
    JobInfo,
    NewToken,
    NodeInfo,
    TokenInfo,
)

NOTHING = "nothing"
OBJECT = "an object"
LIST = "a list, each item"
LINES = "a line for each"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The form of an answer, the keys of its objects, and when it is given."""

    form: str
    keys: tuple[str, ...] = ()
    # Empty: always, or where no other's condition holds.
    when: str = ""


def _of(form: str, kind: Any, when: str = "") -> Answer:
    return Answer(form, tuple(field.name for field in dataclasses.fields(kind)), when)


_EVENTS = [_of(LINES, FollowEvent)]
_PIECES = [Answer(LINES, ("path", "offset_bytes", "data"))]
_NODE_MADE = [Answer(OBJECT, ("cluster_id", "node_name", "address", "data", "join_command"))]
_SEED = (
    "seed", "violation", "reached", "steps", "messages", "crashes", "simulated_s", "errors",
)  # fmt: skip
_NOTHING = [Answer(NOTHING)]

ANSWERS: dict[str, list[Answer]] = {
    "run": [*_EVENTS, Answer(OBJECT, ("job_id",), "with --detach")],
    "submit": [Answer(OBJECT, ("job_id",))],
    "ps": [
        _of(LIST, JobInfo),
        _of(OBJECT, JobInfo, "with one ID"),
        _of(LIST, JobInfo, "with several"),
    ],
    "logs": _EVENTS,
    "wait": [_of(OBJECT, JobInfo)],
    "kill": [Answer(LINES, ("job_id", "tasks"))],
    "attach": _EVENTS,
    "retry": [_of(OBJECT, JobInfo)],
    "why": [Answer(OBJECT, ("job_id", "sentences"))],
    "fs put": [_of(LINES, FileInfo), Answer(LINES, ("left_out",), "for what was left out")],
    "fs get": [
        Answer(LINES, ("path", "local", "size_bytes")),
        Answer(LINES, ("path", "offset_bytes", "data"), "to -"),
    ],
    "fs cat": _PIECES,
    "fs tail": _PIECES,
    "fs append": [_of(OBJECT, FileInfo)],
    "fs ls": [_of(LIST, FileInfo)],
    "fs stat": [_of(OBJECT, FileInfo), _of(LIST, FileInfo, "of several")],
    "fs rm": [Answer(LINES, ("path", "removed"))],
    "fs mv": [_of(OBJECT, FileInfo)],
    "fs mkdir": [_of(LINES, FileInfo)],
    "fs df": [_of(OBJECT, DiskUsage)],
    "init": _NODE_MADE,
    "join": _NODE_MADE,
    "start": [Answer(OBJECT, ("data", "pid"))],
    "stop": [Answer(OBJECT, ("data", "ran"))],
    "login": [Answer(OBJECT, ("context", "file", "role"))],
    "token create": [_of(OBJECT, NewToken)],
    "token ls": [_of(LIST, TokenInfo)],
    "token revoke": [Answer(LINES, ("revoked",))],
    "nodes": [_of(LIST, NodeInfo)],
    "nodes ls": [_of(LIST, NodeInfo)],
    "nodes drain": [_of(LINES, NodeInfo)],
    "nodes undrain": [_of(LINES, NodeInfo)],
    "nodes label": [_of(OBJECT, NodeInfo)],
    "nodes rm": [Answer(LINES, ("removed",))],
    "dev up": [Answer(OBJECT, ("context", "nodes"))],
    "dev down": [Answer(OBJECT, ("stopped",))],
    "dev status": [Answer(LIST, ("name", "state", "pid", "address", "is_master", "data"))],
    "dev kill": [Answer(OBJECT, ("node", "done"))],
    "dev pause": [Answer(OBJECT, ("node", "done"))],
    "dev resume": [Answer(OBJECT, ("node", "done"))],
    "dev restart": [Answer(OBJECT, ("node", "done"))],
    "sim": [
        Answer(
            OBJECT,
            (
                "seeds",
                "violation",
                "never_reached",
                "simulated_s",
                "steps",
                "seconds",
                "errors",
                "notes",
            ),
        ),
        Answer(OBJECT, (*_SEED, "replay", "shrunk", "notes"), "when a seed breaks it"),
        Answer(OBJECT, (*_SEED, "digest", "events", "notes"), "with --seed"),
        Answer(
            OBJECT,
            (
                "violation",
                "events",
                "states",
                "depth",
                "is_complete",
                "ended_by",
                "reached",
                "never_reached",
                "seconds",
            ),
            "with --explore",
        ),
    ],
    "algo run": [Answer(OBJECT, ("run", "target", "nodes", "workload"))],
    "algo ps": [
        Answer(LIST, ("run", "target", "workload", "state", "nodes")),
        Answer(
            LIST,
            (
                "process",
                "node",
                "job_id",
                "state",
                "restarts",
                "sent",
                "heard",
                "dropped",
                "deaf_to",
                "loss",
                "delay_s",
                "ending",
                "stuck_s",
                "stuck_in",
                "stuck_at",
                "error",
            ),
            "with RUN",
        ),
    ],
    "algo watch": [Answer(LINES, ("at", "k", "p"), "at least")],
    "algo check": [
        Answer(
            OBJECT,
            (
                "run",
                "verdict",
                "violation",
                "properties",
                "steps",
                "messages",
                "crashes",
                "seconds",
                "checked",
                "cut",
                "torn",
                "missing",
            ),
        )
    ],
    "algo stop": [Answer(OBJECT, ("run", "away"))],
    "algo kill": _NOTHING,
    "algo pause": _NOTHING,
    "algo partition": _NOTHING,
    "algo slow": _NOTHING,
    "algo heal": _NOTHING,
    "algo maelstrom": [Answer(LINES, ("src", "dest", "body"))],
    "doctor": [_of(LIST, Finding)],
    "context ls": [Answer(LIST, ("name", "current", "cluster_id", "address", "socket", "file"))],
    "context use": [Answer(OBJECT, ("name", "file"))],
    "completion": [Answer(OBJECT, ("shell", "script"))],
    "version": [Answer(OBJECT, ("version", "protocol", "cluster_version"))],
    "help": [Answer(OBJECT, ("help",))],
}


def sentence(answer: Answer) -> str:
    """One answer in words, for the page."""
    begin = f"{answer.when}, " if answer.when else ""
    if answer.form == NOTHING:
        return f"{begin}{NOTHING}"
    return f"{begin}{answer.form}: {', '.join(f'`{key}`' for key in answer.keys)}"
