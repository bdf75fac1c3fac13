"""What ``run`` and ``submit`` take, in one table, and the request it becomes.

The fast path parses by ``parse`` alone; the full parser makes its flags from
the same ``FLAGS``, so that both mean the same. Light imports only.
"""

import os

from perseus.cli import units
from perseus.cli.units import UsageError
from perseus.client.spec import check_argv
from perseus.errors import InvalidError, TooLargeError
from perseus.shellwords import as_file, as_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# As the master bounds them (``jobs.spec``), to be told of by the flag.
COUNT_MAXIMUM = 100_000
RETRIES_MAXIMUM = 1_000
PRIORITY_MAXIMUM = 100
# What the request has room for; more at once than there are tasks is no limit.
PARALLEL_MAXIMUM = (1 << 32) - 1

# Flag: (destination, how: value, list or switch; metavar; help).
FLAGS: "dict[str, tuple[str, str, str, str]]" = {
    "--stdin": ("stdin", "value", "PATH", "read stdin from this file of the filestore"),
    "--file": (
        "file",
        "list",
        "NAME=PATH",
        "place a file of the filestore, or the program itself, in the working folder",
    ),
    "--env": ("env", "list", "NAME[=VALUE]", "set a variable (or pass on this shell's)"),
    "--workdir": ("workdir", "value", "FOLDER", "absolute folder on the node to run in"),
    "--cpu": ("cpu", "value", "N", "cores it needs (default 1; fractions allowed)"),
    "--memory": (
        "memory",
        "value",
        "SIZE",
        "memory it needs, as 512M or 2G (default 0)",
    ),
    "--disk": (
        "disk",
        "value",
        "SIZE",
        "disk it needs for its working folder and TMPDIR; it is ended when it holds more",
    ),
    "--node": ("node", "value", "NAME", "run on this node and no other"),
    "--label": ("label", "list", "NAME=VALUE", "run only on nodes with this label"),
    "--arch": ("arch", "value", "ARCH", "run only on this architecture, as x86_64 or aarch64"),
    "--time-limit": ("time_limit", "value", "TIME", "end it after this long, as 30s, 10m or 2h"),
    "--grace": (
        "grace",
        "value",
        "TIME",
        "between SIGTERM and SIGKILL when cancelled (default 5s)",
    ),
    "--retries": ("retries", "value", "N", "try again this often when a node is lost (default 3)"),
    "--failure-retries": (
        "failure_retries",
        "value",
        "N",
        "try again this often when it fails by itself (default 0)",
    ),
    "--priority": ("priority", "value", "N", "-100 to 100; higher goes first (default 0)"),
    "--output-limit": (
        "output_limit",
        "value",
        "SIZE",
        "the most kept of each output (default 10G)",
    ),
    "--pure": (
        "pure",
        "switch",
        "",
        "its result depends on program and input alone: kept with the job, not acted on yet",
    ),
    "--count": ("count", "value", "N", "run N tasks; each has its number in PERSEUS_TASK_INDEX"),
    "--parallel": ("parallel", "value", "N", "how many of the tasks may run at once"),
    "--name": ("name", "value", "NAME", "a name for listings (default: the program's)"),
    "--detach": ("detach", "switch", "", "print the job id and return at once"),
}
SHORT = {"-d": "--detach", "-e": "--env", "-f": "--file", "-n": "--count"}


class RunOptions:
    """The flags' values as typed (text), by destination; absent ones are None, [] or False."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.argv: list[str] = []

    def get(self, name: str) -> "Any":
        """The value of a destination, or None."""
        return self.values.get(name)


def parse(arguments: "Sequence[str]") -> RunOptions | None:
    """``run``'s arguments by hand; None when the full parser should look (help, mistakes)."""
    options = RunOptions()
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            position -= 1
            break
        flag, given, value = word.partition("=") if word.startswith("--") else (word, "", "")
        entry = FLAGS.get(SHORT.get(flag, flag))
        if entry is None:
            return None
        if entry[1] == "switch":
            if given:
                return None
            options.values[entry[0]] = True
            continue
        if not given:
            if position >= len(arguments):
                return None
            value = arguments[position]
            if value.startswith("-") and not value[1:].isdecimal():
                # A flag where a value was to come, most likely.
                return None
            position += 1
        if entry[1] == "list":
            options.values.setdefault(entry[0], []).append(value)
        else:
            options.values[entry[0]] = value
    options.argv = list(arguments[position:])
    return options if options.argv else None


def task_spec(options: RunOptions) -> "dict[str, Any]":
    """The TaskSpec, in JSON's form, without inline stdin; raises UsageError."""
    try:
        argv = check_argv(options.argv)
    except (InvalidError, TooLargeError) as error:
        raise UsageError(error.message, hint=error.hint) from None
    spec: dict[str, Any] = {"argv": argv}
    get = options.get
    if get("env"):
        spec["environment"] = environment(get("env"))
    if get("workdir"):
        spec["working_directory"] = working_folder(get("workdir"))
    if get("stdin"):
        spec["stdin_path"] = _stdin_path(str(get("stdin")))
    if get("file"):
        spec["files"] = [placed_file(word) for word in get("file")]
    resources = _resources(options)
    if resources:
        spec["resources"] = resources
    if get("label"):
        spec["labels"] = dict(pair(word, "--label") for word in get("label"))
    for source, target in (("arch", "architecture"), ("node", "node")):
        if get(source):
            spec[target] = get(source)
    _limits(options, spec)
    return spec


def _resources(options: RunOptions) -> "dict[str, Any]":
    resources: dict[str, Any] = {}
    if options.get("cpu") is not None:
        resources["cpu"] = units.parse_number(options.get("cpu"), "--cpu")
    for name in ("memory", "disk"):
        if options.get(name) is not None:
            resources[f"{name}_bytes"] = units.parse_size_bytes(options.get(name), f"--{name}")
    return resources


def _limits(options: RunOptions, spec: "dict[str, Any]") -> None:
    get = options.get
    for name in ("retries", "failure_retries"):
        if get(name) is not None:
            spec[name] = _count(get(name), "--" + name.replace("_", "-"), 0, RETRIES_MAXIMUM)
    for source, target in (("time_limit", "time_limit_s"), ("grace", "grace_s")):
        if get(source) is not None:
            flag = "--" + source.replace("_", "-")
            spec[target] = units.parse_duration_s(get(source), flag)
    if get("priority") is not None:
        spec["priority"] = _priority(get("priority"))
    if get("output_limit") is not None:
        spec["output_limit_bytes"] = units.parse_size_bytes(get("output_limit"), "--output-limit")
    if get("pure"):
        spec["pure"] = True


def submit_request(options: RunOptions, request_id: str) -> "dict[str, Any]":
    """The SubmitRequest, in JSON's form, without stdin."""
    request: dict[str, Any] = {"spec": task_spec(options), "request_id": request_id}
    if options.get("count") is not None:
        request["count"] = _count(options.get("count"), "--count", 1, COUNT_MAXIMUM)
    if options.get("parallel") is not None:
        request["parallel"] = _count(options.get("parallel"), "--parallel", 0, PARALLEL_MAXIMUM)
    if options.get("name"):
        request["name"] = options.get("name")
    return request


def environment(words: "Sequence[str]") -> "dict[str, str]":
    """``NAME=VALUE`` words; a bare NAME takes this process's value."""
    result: dict[str, str] = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word!r} has no name", hint="as in --env LANG=C")
        if given:
            result[name] = value
        elif name in os.environ:
            result[name] = _text(name, os.environ[name])
        else:
            raise UsageError(
                f"--env {name}: there is no such variable here",
                hint=f"give it a value: --env {as_word(name + '=VALUE')}",
            )
    return result


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"--env {name}: its value here is not UTF-8",
            hint=f"give it another: --env {as_word(name + '=VALUE')}; "
            "or pass bytes in a file: --file NAME=/path",
        ) from None
    return value


def pair(word: str, flag: str) -> "tuple[str, str]":
    """``NAME=VALUE`` as a pair; raises UsageError."""
    name, given, value = word.partition("=")
    if not name or not given:
        example = "gpu=yes" if "label" in flag else "lease_s=5"
        raise UsageError(f"{flag} {word!r} is not NAME=VALUE", hint=f"as in {flag} {example}")
    return name, value


def working_folder(word: str) -> str:
    """An absolute folder; raises UsageError."""
    if not word.startswith("/"):
        raise UsageError(
            f"--workdir {word!r} is not absolute",
            hint="it is a folder of the node: --workdir /srv/data; or leave it out",
        )
    return word


def placed_file(word: str) -> "dict[str, str]":
    """``NAME=/path`` (or ``/path``: under its own name) as a PlacedFile."""
    name, given, path = word.partition("=")
    if not given:
        path, name = word, word.rstrip("/").rpartition("/")[2]
    if not name or not path.startswith("/"):
        raise UsageError(
            f"--file {word!r} is not NAME=/path of the filestore",
            hint="--file words.txt=/data/words",
        )
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise UsageError(
            f"--file {word!r}: {name!r} cannot be the name of a placed file",
            hint="a name is relative and has no '.' or '..' in it: --file in/a.txt=/logs/a.txt",
        )
    return {"name": name, "path": path}


def _stdin_path(word: str) -> str:
    if not word.startswith("/"):
        raise UsageError(
            f"--stdin {word!r} is not a path of the filestore",
            hint=f"they begin with '/': --stdin {as_word('/' + word)}; "
            f"a local file: perseus run -- CMD < {as_file(word)}",
        )
    return word


def _count(text: str, flag: str, least: int, most: int) -> int:
    value = units.parse_integer(text, flag)
    if value < least:
        raise UsageError(f"{flag} {text} is less than {least}", hint=f"as in {flag} {least + 3}")
    if value > most:
        raise UsageError(f"{flag} {text} is more than {most}", hint=f"at most: {flag} {most}")
    return value


def _priority(text: str) -> int:
    value = units.parse_integer(text, "--priority")
    if abs(value) > PRIORITY_MAXIMUM:
        raise UsageError(
            f"--priority {text} is not -{PRIORITY_MAXIMUM} to {PRIORITY_MAXIMUM}",
            hint=f"before all others: --priority {PRIORITY_MAXIMUM}; "
            f"after them: --priority -{PRIORITY_MAXIMUM}; 0 is usual",
        )
    return value
