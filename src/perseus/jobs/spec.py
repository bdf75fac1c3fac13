"""What may be submitted: every bound of a task's spec, and what to type instead."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perseus.errors import InvalidError, NotFoundError, TooLargeError
from perseus.filestore import paths
from perseus.filestore.events import Locality
from perseus.jobs.state_leases import Nodes
from perseus.proto.v1 import jobs_pb2
from perseus.settings import Settings
from perseus.shellwords import as_word

ARGV_MAXIMUM_BYTES = 1 << 20
# Linux takes no single argument or variable that is longer.
WORD_MAXIMUM_BYTES = (128 << 10) - 1
ENVIRONMENT_MAXIMUM_BYTES = 256 << 10
STDIN_INLINE_MAXIMUM_BYTES = 64 << 10
FILES_MAXIMUM = 1_000
LABELS_MAXIMUM = 64
COUNT_MAXIMUM = 100_000
RETRIES_MAXIMUM = 1_000
RETRIES_DEFAULT = 3
PRIORITY_MAXIMUM = 100
CPU_MAXIMUM = 4_096.0
CPU_DEFAULT = 1.0
GRACE_DEFAULT_S = 5.0
GRACE_MAXIMUM_S = 3_600.0
TIME_LIMIT_MAXIMUM_S = 10 * 365 * 86_400.0
NAME_MAXIMUM = 128
REQUEST_ID_MAXIMUM = 128
SIGNAL_MAXIMUM = 64
SIGNAL_DEFAULT = 15

# What is said of a path at which no file is, where more is known of it than that.
Absence = Callable[[str], NotFoundError | None]

_ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is in order, with all defaults filled in."""

    spec: jobs_pb2.TaskSpec
    count: int
    parallel: int
    name: str
    request_id: str


def check(
    request: jobs_pb2.SubmitRequest,
    settings: Settings,
    nodes: Nodes,
    files: Locality,
    absence: Absence,
) -> Accepted:
    """The request with its defaults; raises InvalidError, TooLargeError or NotFoundError.

    Paths and the node's name must exist now; what goes away later shows when it runs.
    """
    spec = jobs_pb2.TaskSpec()
    spec.CopyFrom(request.spec)
    _check_argv(spec)
    _check_environment(spec.environment)
    _check_folder(spec.working_directory)
    _check_stdin(spec, files, absence)
    _check_files(spec, files, absence)
    _check_needs(spec, nodes)
    _check_limits(spec)
    _fill_in(spec, settings)
    if request.count > COUNT_MAXIMUM:
        raise TooLargeError(
            f"{request.count} tasks are more than one job may have ({COUNT_MAXIMUM})",
            hint="submit several jobs",
        )
    return Accepted(
        spec,
        request.count or 1,
        min(request.parallel, COUNT_MAXIMUM),
        _name(request.name, spec.argv[0]),
        _request_id(request.request_id),
    )


def check_signal(number: int) -> int:
    """The signal to send; 0 means SIGTERM. Raises InvalidError."""
    if not 0 <= number <= SIGNAL_MAXIMUM:
        raise InvalidError(
            f"{number} is not a signal", hint="signals are 1 to 64: perseus kill -s TERM ID"
        )
    return number or SIGNAL_DEFAULT


def _check_argv(spec: jobs_pb2.TaskSpec) -> None:
    if not spec.argv or not spec.argv[0]:
        raise InvalidError("there is no program to run", hint="perseus run -- CMD ARGS")
    size_bytes = 0
    for number, word in enumerate(spec.argv):
        if "\0" in word:
            raise InvalidError(
                f"argument {number} has a NUL character in it, which no program can be given",
                hint="pass it on stdin or in a file",
            )
        length = len(word.encode())
        size_bytes += length + 1
        if length > WORD_MAXIMUM_BYTES:
            raise TooLargeError(
                f"argument {number} is {length} bytes long; Linux takes {WORD_MAXIMUM_BYTES}",
                hint="pass it on stdin, or in a file: --file NAME=/path",
            )
    if size_bytes > ARGV_MAXIMUM_BYTES:
        raise TooLargeError(
            f"the arguments are {size_bytes} bytes long; the most is {ARGV_MAXIMUM_BYTES}",
            hint="pass the list on stdin: … | perseus run -- xargs CMD",
        )


def _check_environment(environment: Mapping[str, str]) -> None:
    total_bytes = 0
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidError(
                f"{name!r} cannot be the name of an environment variable",
                hint="a name is not empty and has no '=': --env NAME=VALUE",
            )
        if "\0" in value:
            raise InvalidError(
                f"the environment variable {name} has a NUL character in it",
                hint="no program can be given one; pass it in a file: --file NAME=/path",
            )
        length = len(name.encode()) + len(value.encode()) + 2
        total_bytes += length
        if length > WORD_MAXIMUM_BYTES:
            raise TooLargeError(
                f"the environment variable {name} is {length} bytes long; "
                f"Linux takes {WORD_MAXIMUM_BYTES}",
                hint="pass it in a file: --file NAME=/path",
            )
    if total_bytes > ENVIRONMENT_MAXIMUM_BYTES:
        raise TooLargeError(
            f"the environment is {total_bytes} bytes; the most is {ENVIRONMENT_MAXIMUM_BYTES}",
            hint="pass it in a file: --file NAME=/path",
        )


def _check_folder(folder: str) -> None:
    if "\0" in folder:
        raise InvalidError(
            "the working directory has a NUL character in it", hint="as in --workdir /srv/data"
        )
    if folder and not os.path.isabs(folder):
        raise InvalidError(
            f"the working directory {folder!r} is not absolute",
            hint="it is a folder of the node: --workdir /srv/data; or leave it out",
        )


def _check_stdin(spec: jobs_pb2.TaskSpec, files: Locality, absence: Absence) -> None:
    size_bytes = len(spec.stdin_inline)
    if size_bytes > STDIN_INLINE_MAXIMUM_BYTES:
        raise TooLargeError(
            f"the stdin in the request is {size_bytes} bytes; "
            f"the most is {STDIN_INLINE_MAXIMUM_BYTES}",
            hint="put it into the filestore: perseus fs put FILE /in, then --stdin /in",
        )
    if spec.WhichOneof("stdin") == "stdin_path":
        spec.stdin_path = _file(spec.stdin_path, "the stdin", files, absence)


def _check_files(spec: jobs_pb2.TaskSpec, files: Locality, absence: Absence) -> None:
    if len(spec.files) > FILES_MAXIMUM:
        raise TooLargeError(
            f"{len(spec.files)} files to place are more than {FILES_MAXIMUM}",
            hint="pack them: tar, then --file data.tar=/data.tar",
        )
    names: set[str] = set()
    for placed in spec.files:
        parts = placed.name.split("/")
        if "\0" in placed.name or any(part in ("", ".", "..") for part in parts):
            raise InvalidError(
                f"{placed.name!r} cannot be the name of a placed file",
                hint="a name is relative and has no '.' or '..' in it: --file in/a.txt=/logs/a.txt",
            )
        if any(len(part.encode()) > paths.NAME_MAXIMUM_BYTES for part in parts):
            raise InvalidError(
                f"the name of a placed file is too long: {placed.name[:80]!r}…",
                hint=f"a name has at most {paths.NAME_MAXIMUM_BYTES} bytes: --file NAME=/path",
            )
        if placed.name in names:
            raise InvalidError(
                f"two files are to be placed as {placed.name!r}",
                hint=f"give one another name: --file {as_word('OTHER=' + placed.path)}",
            )
        names.add(placed.name)
        placed.path = _file(placed.path, f"the file {placed.name!r}", files, absence)
    for name in names:
        above = name.split("/")[:-1]
        for end in range(1, len(above) + 1):
            if "/".join(above[:end]) in names:
                raise InvalidError(
                    f"{'/'.join(above[:end])!r} is placed as a file and a folder",
                    hint="give the file another name: --file OTHER=/path",
                )


def _file(path: str, what: str, files: Locality, absence: Absence) -> str:
    written = paths.normalise(path)
    if files.is_folder(written):
        raise InvalidError(
            f"{what} is to come from {written}, which is a folder",
            hint=f"name a file in it: perseus fs ls {as_word(written)}",
        )
    if not files.exists(written):
        if (absent := absence(written)) is not None:
            raise absent
        raise NotFoundError(
            f"{what} is to come from {written}, and there is no such file in the filestore",
            hint=f"perseus fs ls {as_word(paths.parent(written))}; "
            f"to put a file there: perseus fs put FILE {as_word(written)}",
        )
    return written


def _check_needs(spec: jobs_pb2.TaskSpec, nodes: Nodes) -> None:
    cpu = spec.resources.cpu
    if not math.isfinite(cpu) or cpu < 0 or cpu > CPU_MAXIMUM or 0 < cpu < 0.001:
        raise InvalidError(
            f"a task cannot ask for {cpu:g} cores", hint="ask for 0.001 to 4096: --cpu 0.5"
        )
    if len(spec.labels) > LABELS_MAXIMUM:
        raise TooLargeError(
            f"{len(spec.labels)} labels are more than {LABELS_MAXIMUM}",
            hint="give the nodes that are meant one label: perseus nodes label NODE NAME=VALUE",
        )
    if spec.architecture and not _ARCHITECTURE.match(spec.architecture):
        raise InvalidError(
            f"{spec.architecture!r} is not an architecture",
            hint="write what `uname -m` prints: --arch aarch64",
        )
    if spec.node and nodes.find(spec.node) is None:
        raise NotFoundError(f"there is no node {spec.node!r}", hint="perseus nodes")


def _check_limits(spec: jobs_pb2.TaskSpec) -> None:
    for name, value, maximum in (
        ("time limit", spec.time_limit_s, TIME_LIMIT_MAXIMUM_S),
        ("grace", spec.grace_s, GRACE_MAXIMUM_S),
    ):
        if not math.isfinite(value) or value < 0 or value > maximum:
            raise InvalidError(
                f"{value:g} s cannot be the {name}", hint=f"write 0 to {maximum:.0f} seconds"
            )
    for name, count in (("retries", spec.retries), ("failure retries", spec.failure_retries)):
        if count > RETRIES_MAXIMUM:
            raise InvalidError(
                f"{count} {name} are more than {RETRIES_MAXIMUM}",
                hint=f"--{name.replace(' ', '-')} {RETRIES_MAXIMUM}",
            )
    if abs(spec.priority) > PRIORITY_MAXIMUM:
        raise InvalidError(
            f"{spec.priority} cannot be a priority",
            hint="write -100 (after all others) to 100 (before all others); 0 is usual",
        )


def _fill_in(spec: jobs_pb2.TaskSpec, settings: Settings) -> None:
    spec.resources.cpu = spec.resources.cpu or CPU_DEFAULT
    spec.grace_s = spec.grace_s or GRACE_DEFAULT_S
    spec.output_limit_bytes = spec.output_limit_bytes or settings.output_limit_bytes
    if not spec.HasField("retries"):
        spec.retries = RETRIES_DEFAULT


def _name(name: str, program: str) -> str:
    chosen = name or os.path.basename(program) or program
    if name and (len(name) > NAME_MAXIMUM or not name.isprintable()):
        raise InvalidError(
            f"{name[:NAME_MAXIMUM]!r} cannot be a job's name",
            hint=f"use at most {NAME_MAXIMUM} printable characters",
        )
    return chosen[:NAME_MAXIMUM]


def _request_id(text: str) -> str:
    if len(text) > REQUEST_ID_MAXIMUM:
        raise InvalidError(
            f"the request id is longer than {REQUEST_ID_MAXIMUM} characters",
            hint="any word that no other request has will do, as a UUID",
        )
    return text
