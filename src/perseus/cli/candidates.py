"""What can stand where a shell's cursor is: names that only the cluster knows.

The completion scripts know commands and flags by heart; for the rest they ask
``perseus __complete WORDS``, the words up to the cursor, which prints what fits, one
a line. bash, which cuts words at ``=``, ``:`` and ``@`` and keeps their quotes, gives
``--bash REPLACED LINE`` instead, and gets what fits quoted for its line (``typed_line``).
It says nothing else, whatever goes wrong: a person presses a key and waits.
So it ends after TIME_LIMIT_S at the latest, and starts no cluster. Exit code 3 asks
for the names of local files as well.
"""

import argparse
import os
import time
from _thread import start_new_thread

from perseus.cli import config, fast, parser
from perseus.cli.typed_line import TypedLine
from perseus.client import context as contexts
from perseus.client.context import Context
from perseus.errors import PerseusError
from perseus.rpc.http_client import UnixConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

TIME_LIMIT_S = 0.8
SHOWN_MAXIMUM = 200
EXIT_FILES = 3

# What an argument is, by its name; where a command means something else by the name, by both.
POSITIONALS = {
    "job": "job",
    "path": "path",
    "node": "node",
    "run": "run",
    "token": "token",
    "context use name": "context",
    "fs get source": "path",
    "fs get target": "file",
    "fs put source": "file",
    "fs put target": "path",
    "fs append source": "file",
    "fs mv source": "path",
    "fs mv target": "path",
    "kill job": "active job",
    "attach job": "active job",
    "dev kill node": "local node",
    "dev pause node": "local node",
    "dev resume node": "local node",
    "dev restart node": "local node",
    "sim target": "file",
    "algo run target": "file",
    "algo maelstrom target": "file",
}
FLAGS = {
    "--stdin": "path",
    "--file": "placed file",
    "--node": "node",
    "--signal": "signal",
    "--context": "context",
    "--data": "file",
    "--dir": "file",
    "--picture": "file",
}


class Place:
    """Where the cursor is. (A dataclass would cost more than all else here.)"""

    def __init__(self, kind: str, begun: str, lead: str, flags: "dict[str, str]") -> None:
        # "path", "node", ...; "" where nothing is known of it.
        self.kind = kind
        # The beginning of the name that stands there, and what stands before it in its word.
        self.begun = begun
        self.lead = lead
        # The values of flags before it.
        self.flags = flags


def complete(words: "Sequence[str]") -> int:
    """Prints what fits at the end of the line; 3 when local files fit as well."""
    # From another thread: a name server that is silent holds the first one.
    start_new_thread(_end_in_time, (time.monotonic() + TIME_LIMIT_S,))
    typed = TypedLine(words[2], words[1]) if words and words[0] == "--bash" else None
    try:
        place = find_place(words if typed is None else typed.words[1:])
        found = list(_candidates(place))
    except Exception:
        # Whatever it is, no message shall stand in the line that is being typed.
        return 0
    fits = [name for name in found if name.startswith(place.begun) and name.isprintable()]
    for name in fits[:SHOWN_MAXIMUM]:
        whole = place.lead + name
        print(whole if typed is None else typed.quoted(whole[typed.kept :]))
    return EXIT_FILES if place.kind == "file" else 0


def _end_in_time(deadline_s: float) -> None:
    time.sleep(max(0.0, deadline_s - time.monotonic()))
    os._exit(0)


def find_place(line: "Sequence[str]") -> Place:
    """What the last of these words is the beginning of."""
    *words, last = line or [""]
    node: argparse.ArgumentParser = parser.build_parser()
    said: list[str] = []
    flags: dict[str, str] = {}
    count, flag = 0, ""
    for word in words:
        if flag:
            flags[flag], flag = word, ""
        elif word.startswith("-") and word != "-":
            flag = _flag_that_waits(node, word)
            name, given, value = word.partition("=")
            if given:
                flags[name] = value
        elif word in parser.children(node):
            node = parser.children(node)[word]
            said.append(word)
            count = 0
        else:
            count += 1
    lead, begun = "", last
    if not flag and last.startswith("--") and "=" in last:
        flag, _, begun = last.partition("=")
        lead = f"{flag}="
    kind = _flag_kind(node, flag) if flag else _positional_kind(node, " ".join(said), count)
    if kind == "placed file":
        # NAME=/path, or the path alone.
        name, given, begun = begun.rpartition("=")
        kind, lead = "path", lead + name + given
    return Place(kind, begun, lead, flags)


def _flag_that_waits(node: argparse.ArgumentParser, word: str) -> str:
    """The long name of a flag whose value is the next word; empty for all others."""
    action = node._option_string_actions.get(word)
    return action.option_strings[-1] if action is not None and action.nargs != 0 else ""


def _flag_kind(node: argparse.ArgumentParser, flag: str) -> str:
    return FLAGS.get(flag, "") if flag in node._option_string_actions else ""


def _positional_kind(node: argparse.ArgumentParser, command: str, count: int) -> str:
    """Of the argument that comes after ``count`` others."""
    if parser.children(node):
        return ""
    actions = [action for action in node._actions if not action.option_strings]
    for place, action in enumerate(actions):
        is_last = place == len(actions) - 1
        if count == 0 or (is_last and action.nargs in ("*", "+")):
            return kind_of(command, action)
        if action.nargs == "+" and not is_last:
            # `fs put a b /data/`: what comes after the first may be the target.
            return kind_of(command, actions[-1])
        count -= 1
    return ""


def kind_of(command: str, action: argparse.Action) -> str:
    """What a positional argument of a command is."""
    return POSITIONALS.get(f"{command} {action.dest}") or POSITIONALS.get(action.dest, "")


# What there is.


def _candidates(place: Place) -> "Iterable[str]":
    match place.kind:
        case "context":
            return _contexts()
        case "local node":
            return _local_nodes(place.flags.get("--dir"))
        case "job" | "active job":
            answer = _ask(place, "Jobs.ListJobs", {"active": place.kind != "job", "limit": 100})
            return ["@last", *(job["job_id"] for job in answer.get("jobs", []))]
        case "node":
            return [node["name"] for node in _ask(place, "Cluster.ListNodes", {})["nodes"]]
        case "token":
            found = _ask(place, "Cluster.ListTokens", {}).get("tokens", [])
            return [token["token_id"] for token in found]
        case "run":
            return ["@last", *(_name(entry) for entry in _list(place, "/algo", ""))]
        case "path":
            return _paths(place)
        case "signal":
            return _signals()
    return []


def _contexts() -> list[str]:
    names = os.listdir(contexts.config_folder(os.environ) + "/contexts")
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def _signals() -> list[str]:
    from signal import Signals

    return [signal.name.removeprefix("SIG") for signal in Signals]


def _local_nodes(given: str | None) -> list[str]:
    """Of ``--dir``, else of the local cluster in use, else of ./perseus-dev."""
    folders = [given] if given else []
    context = None if given else contexts.find()
    if context is not None and context.path:
        folders.append(os.path.dirname(os.path.realpath(context.path)))
    folders += [] if given else ["perseus-dev"]
    for folder in folders:
        if os.path.exists(f"{folder}/node-1/cluster.json"):
            return sorted(name for name in os.listdir(folder) if name.startswith("node-"))
    return []


def _paths(place: Place) -> list[str]:
    """Below the folder that is written already; folders end with a slash."""
    if place.begun and not place.begun.startswith("/"):
        return []
    folder, _, name = place.begun.rpartition("/")
    return [f"{folder}/{_name(entry)}" for entry in _list(place, folder or "/", name)]


def _list(place: Place, folder: str, begun: str) -> "list[dict[str, Any]]":
    # In order, names that begin so come right after it; it alone may itself be one.
    found: list[dict[str, Any]] = []
    if begun:
        try:
            path = f"{folder.rstrip('/')}/{begun}"
            found.append(_ask(place, "Files.Stat", {"path": path}))
        except PerseusError:
            pass
    request = {"path": folder, "after": begun, "limit": SHOWN_MAXIMUM}
    return found + list(_ask(place, "Files.List", request).get("entries", []))


def _name(entry: "dict[str, Any]") -> str:
    name = str(entry["path"]).rpartition("/")[2]
    return name + ("/" if entry.get("kind") == "FILE_KIND_DIRECTORY" else "")


def _ask(place: Place, method: str, request: "dict[str, Any]") -> "dict[str, Any]":
    context = _context(place.flags.get("--context"))
    if context.socket:
        with UnixConnection(context.socket) as connection:
            return connection.call(method, request, TIME_LIMIT_S)
    fast.load_site()
    from perseus.client.transport import Transport

    transport = Transport(context)
    try:
        return transport.call(method.replace(".", "/"), request, TIME_LIMIT_S)
    finally:
        transport.close()


def _context(given: str | None) -> Context:
    """The context that counts; never one of a cluster that would have to be started."""
    named = given or (config.read().text("context") if fast.has_settings() else None)
    if named:
        is_file = "/" in named or os.path.exists(named)
        return contexts.load(named if is_file else contexts.named_path(named, os.environ))
    found = contexts.find()
    if found is None:
        raise PerseusError("no cluster is known on this machine", hint="perseus doctor")
    return found
