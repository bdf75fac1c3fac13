"""What the protocol asks of a task's spec, checked before it is sent. Light imports only."""

import binascii
import os

from perseus.errors import InvalidError, TooLargeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ARGV_MAXIMUM_BYTES = 1 << 20
STDIN_INLINE_MAXIMUM_BYTES = 64 << 10
# From this size on the way straight to the chunkservers is worth its start.
BULK_MINIMUM_BYTES = 4 << 20
# Where the stdin of tasks lies that is too long to ride in the request.
STDIN_FOLDER = "/.perseus/stdin"


def new_request_id() -> str:
    """Unpredictable, for one submit and its repeats."""
    return os.urandom(12).hex()


def check_argv(argv: "Sequence[str]") -> "list[str]":
    """``argv`` if it can cross the wire and start a program.

    Raises InvalidError, or TooLargeError over 1 MiB in all.
    """
    if isinstance(argv, (str, bytes)):
        raise InvalidError(
            "the command is one string", hint='give a list: ["wc", "-l"]; a shell: ["sh", "-c", …]'
        )
    if not argv or not argv[0]:
        raise InvalidError(
            "the program's name is empty",
            hint='as in perseus run -- wc -l; in Python: run(["wc", "-l"])',
        )
    size_bytes = sum(_size_bytes(word) + 1 for word in argv)
    if size_bytes > ARGV_MAXIMUM_BYTES:
        raise TooLargeError(
            f"the arguments are {size_bytes} bytes long; the most is {ARGV_MAXIMUM_BYTES}",
            hint="pass the list on stdin: … | perseus run -- xargs CMD",
        )
    return list(argv)


def _size_bytes(word: str) -> int:
    if not isinstance(word, str):
        raise InvalidError(
            f"the argument {word!r} is not text but {type(word).__name__}",
            hint=f"give text: {str(word)!r}" if not isinstance(word, bytes) else "use .decode()",
        )
    if "\0" in word:
        raise InvalidError(
            f"the argument {word[:80]!r} has a NUL byte in it",
            hint="no program can be given one; pass it in a file: --file NAME=/path, or on stdin",
        )
    try:
        return len(word.encode())
    except UnicodeEncodeError:
        raise InvalidError(
            f"an argument is not UTF-8: {word!r}",
            hint="pass it in a file: --file NAME=/path, or on stdin",
        ) from None


def set_inline_stdin(request: "dict[str, Any]", content: bytes) -> None:
    """Gives a SubmitRequest's spec this stdin."""
    request["spec"]["stdin_inline"] = binascii.b2a_base64(content, newline=False).decode()


# The arguments that are numbers, with one as it may be written; the first may be fractions.
_FRACTIONS = {"cpu": "0.5", "time_limit_s": "30", "grace_s": "5"}
_NUMBERS = {
    **_FRACTIONS,
    "memory": "512 << 20",
    "disk": "10 << 30",
    "output_limit_bytes": "1 << 30",
    "retries": "3",
    "failure_retries": "2",
    "priority": "10",
    "count": "100",
    "parallel": "4",
}
_MAPPINGS = {"env": '{"LANG": "C"}', "labels": '{"disk": "ssd"}', "files": '{"a.txt": "/a.txt"}'}


def check_options(options: "Mapping[str, Any]") -> None:
    """Raises InvalidError where one of ``submit_request``'s arguments is not of its kind:
    in the words of the program that gave it, before it is the daemon's."""
    for name, example in _NUMBERS.items():
        value = options.get(name)
        if value is not None:
            _check_number(name, value, example)
    for name in _MAPPINGS:
        check_mapping(name, options.get(name))


def check_mapping(name: str, value: "Any") -> None:
    """Raises InvalidError unless it is None or gives pairs."""
    if value is not None and not hasattr(value, "items"):
        raise InvalidError(
            f"{name}={value!r} is no mapping", hint=f"as in {name}={_MAPPINGS[name]}"
        )


def _check_number(name: str, value: "Any", example: str) -> None:
    kinds = (int, float) if name in _FRACTIONS else (int,)
    what = "number" if name in _FRACTIONS else "whole number"
    # The difference to itself is 0 for all but what is no number and what is endless.
    if not isinstance(value, kinds) or isinstance(value, bool) or value - value != 0:
        raise InvalidError(f"{name}={value!r} is not a {what}", hint=f"as in {name}={example}")
    if value < 0 and name != "priority":
        raise InvalidError(f"{name}={value!r} is below 0", hint=f"as in {name}={example}")


def submit_request(
    argv: "Sequence[str]",
    *,
    files: "Mapping[str, str] | None" = None,
    env: "Mapping[str, str] | None" = None,
    working_directory: str = "",
    cpu: float | None = None,
    memory: int | None = None,
    disk: int | None = None,
    labels: "Mapping[str, str] | None" = None,
    architecture: str = "",
    node: str = "",
    retries: int | None = None,
    failure_retries: int = 0,
    time_limit_s: float = 0.0,
    priority: int = 0,
    output_limit_bytes: int = 0,
    pure: bool = False,
    grace_s: float = 0.0,
    name: str = "",
    count: int = 1,
    parallel: int = 0,
) -> "dict[str, Any]":
    """A SubmitRequest in JSON's form, without stdin; the arguments are ``Cluster.submit``'s.

    Raises InvalidError for what is not of its kind, TooLargeError for a long ``argv``.
    """
    check_options(locals())
    resources = {"cpu": cpu, "memory_bytes": memory, "disk_bytes": disk}
    spec: dict[str, Any] = {
        "argv": check_argv(argv),
        "environment": {key: str(value) for key, value in (env or {}).items()},
        "working_directory": working_directory,
        "files": [{"name": key, "path": str(path)} for key, path in (files or {}).items()],
        "resources": {key: value for key, value in resources.items() if value is not None},
        "labels": dict(labels or {}),
        "architecture": architecture,
        "node": node,
        "failure_retries": failure_retries,
        "time_limit_s": time_limit_s,
        "priority": priority,
        "output_limit_bytes": output_limit_bytes,
        "pure": pure,
        "grace_s": grace_s,
    }
    spec = {key: value for key, value in spec.items() if value}
    if retries is not None:
        spec["retries"] = retries
    request = {"spec": spec, "request_id": new_request_id(), "name": name, "parallel": parallel}
    return {key: value for key, value in request.items() if value} | {"count": count}
