"""``perseus.connect()`` and the cluster it gives.

::

    import perseus

    cluster = perseus.connect()
    task = cluster.run(["wc", "-l"], stdin=cluster.open("/logs/a.txt"))
    task.wait()
    print(task.stdout.read())

Everything raises ``perseus.errors``. A Cluster is safe for threads; its
connections are kept alive and reused. Control needs the standard library
alone: JSON over HTTP, on the daemon's Unix socket where there is one.
"""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO, TypedDict, Unpack

from perseus.client import context as contexts
from perseus.client import spec
from perseus.client.context import Context
from perseus.client.feed import Feed as InputFeed
from perseus.client.files import AnyPath, File, Files, check_path
from perseus.client.jobs import Job, Task
from perseus.client.messages import (
    ClusterInfo,
    Finding,
    JobInfo,
    NewToken,
    NodeInfo,
    TokenInfo,
    decode,
)
from perseus.client.output import Feed, Output
from perseus.client.transport import Transport
from perseus.errors import InvalidError, NotFoundError, PerseusError, TooLargeError

# Tasks of one Cluster that were started by ``run`` and not yet waited for: each has
# a connection.
LIVE_MAXIMUM = 512
# Detached tasks beyond this many get none, and are read when asked for.
DETACHED_STREAMS_MAXIMUM = 32
PIECE_BYTES = 256 << 10


class JobOptions(TypedDict, total=False):
    """What ``run`` and ``submit`` have in common; ``Cluster.run`` says what each means."""

    stdin: Any
    files: Mapping[str, Any] | None
    env: Mapping[str, str] | None
    working_directory: str
    cpu: float | None
    memory: int | None
    disk: int | None
    labels: Mapping[str, str] | None
    architecture: str
    node: str
    retries: int | None
    failure_retries: int
    time_limit_s: float
    priority: int
    output_limit_bytes: int
    pure: bool
    grace_s: float
    name: str


class RunOptions(JobOptions, total=False):
    """The arguments of ``Cluster.run`` by name."""

    detach: bool


class SubmitOptions(JobOptions, total=False):
    """The arguments of ``Cluster.submit`` by name."""

    count: int
    parallel: int


def connect(context: "str | os.PathLike[str] | Context | None" = None) -> "Cluster":
    """The cluster of ``context``: a file, a name, or what ``perseus context ls`` marks.

    Raises NotFoundError when no cluster is known on this machine. Connects at
    the first call.
    """
    if isinstance(context, Context):
        return Cluster(context)
    if context is not None:
        text = os.fspath(context)
        is_name = "/" not in text and not os.path.exists(text)
        return Cluster(contexts.load(contexts.named_path(text, os.environ) if is_name else text))
    found = contexts.find()
    if found is None:
        raise NotFoundError(
            "no cluster is known on this machine",
            hint="perseus init, perseus join, perseus login, or perseus dev up; "
            "`perseus run` starts one for this machine alone",
        )
    return Cluster(found)


class Cluster:
    """A cluster as a program sees it. Close it, or use it in a ``with`` block."""

    def __init__(self, context: Context, transport: Transport | None = None) -> None:
        self.context = context
        # Calls in JSON's form, for what this class does not offer.
        self.transport = transport or Transport(context)
        self._live: dict[int, Feed] = {}
        self._lock = threading.Lock()
        # The filestore: ls, stat, put, get, cat, rm, mv, mkdir, tail, df and more.
        self.fs = Files(self.transport)

    def __repr__(self) -> str:
        return f"Cluster({self.context.name!r})"

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets all connections go. Detached tasks run on, others are cancelled; a call that
        waits in another thread ends with UnavailableError."""
        # First, so that no call that is woken below begins another.
        self.transport.close()
        with self._lock:
            live, self._live = self._live, {}
        with contextlib.ExitStack() as stack:
            stack.callback(self.fs.close)
            for output in live.values():
                stack.callback(output.close)

    # Work.

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Any = None,
        files: "Mapping[str, str | os.PathLike[str] | File | Output] | None" = None,
        env: Mapping[str, str] | None = None,
        working_directory: str = "",
        cpu: float | None = None,
        memory: int | None = None,
        disk: int | None = None,
        labels: Mapping[str, str] | None = None,
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
        detach: bool = False,
    ) -> Task:
        """Runs a program on the cluster; returns as soon as the job is accepted.

        ``argv`` is the program and its arguments, never a shell string. ``stdin``
        is bytes, a path of the filestore (text beginning with "/"), a
        ``cluster.open(...)`` file, another task's ``stdout``, or a local binary
        file object, which is sent while the task runs. ``files`` places files of
        the filestore in the working folder, by name. ``memory`` and ``disk`` are
        bytes. The job is cancelled when this Cluster is closed or the program goes
        away, unless ``detach`` is set (or use ``submit``).

        Raises InvalidError, TooLargeError, NotFoundError (a file), RefusedError,
        UnavailableError.
        """
        options = locals()
        for other in ("self", "argv", "stdin", "detach", "files"):
            del options[other]
        request = spec.submit_request(argv, files=_paths(files), **options)
        feed = self._give_stdin(request, stdin)
        try:
            return self._start(request, detach, feed)
        except PerseusError:
            if feed is not None:
                feed.end()
            raise

    def _start(self, request: dict[str, Any], detach: bool, feed: InputFeed | None) -> Task:
        with self._lock:
            is_live = len(self._live) < (DETACHED_STREAMS_MAXIMUM if detach else LIVE_MAXIMUM)
        if not is_live and not detach:
            raise TooLargeError(
                f"{LIVE_MAXIMUM} tasks of this Cluster have not been waited for",
                hint="wait for some, or use submit, or run(..., detach=True)",
            )
        if not is_live:
            job_id = self.transport.call("Jobs/Submit", request)["job_id"]
            return Task(self.transport, job_id, feed=Feed(None, self._when_over(feed)))
        stream = self.transport.stream("Jobs/Run", {"submit": request, "detach": detach})
        output = Feed(stream, self._when_over(feed))
        # Kept here, for a Task that nobody holds any more must not be cancelled by that.
        with self._lock:
            self._live[id(output)] = output
        try:
            while not output.job_id and output.pump():
                pass
        except PerseusError:
            self._live.pop(id(output), None)
            raise
        # Broken before it said anything: the same request once more gives the same job.
        job_id = output.job_id or self.transport.call("Jobs/Submit", request)["job_id"]
        return Task(self.transport, job_id, feed=output)

    def _when_over(self, feed: InputFeed | None) -> Callable[[bool], None]:
        def over(ended: bool) -> None:
            self._forget_ended()
            # The stdin of a detached task that goes on is still to be sent.
            if feed is not None and ended:
                feed.end(keep=True)

        return over

    def _forget_ended(self) -> None:
        with self._lock:
            self._live = {key: one for key, one in self._live.items() if one.goes_on}

    def submit(self, argv: Sequence[str], **options: Unpack[SubmitOptions]) -> Job:
        """Submits a job of ``count`` tasks (each sees its number in PERSEUS_TASK_INDEX),
        at most ``parallel`` of them at once (0: as many as fit); the other
        arguments are ``run``'s. A local file object as ``stdin`` is sent first.
        """
        given: dict[str, Any] = {**options}
        files, stdin = _paths(given.pop("files", None)), given.pop("stdin", None)
        request = spec.submit_request(argv, files=files, **given)
        feed = self._give_stdin(request, stdin)
        if feed is not None:
            feed.wait()
        return Job(self.transport, self.transport.call("Jobs/Submit", request)["job_id"])

    def job(self, job_id: str) -> Job:
        """A job by its id, the beginning of it, or "@last". Raises NotFoundError, InvalidError."""
        answer = self.transport.call("Jobs/GetJob", {"job_id": job_id})
        return Job(self.transport, answer["job_id"])

    def jobs(self, *, active: bool = False, limit: int = 100) -> list[JobInfo]:
        """The latest jobs, newest first; with ``active`` only those that have not ended."""
        answer = self.transport.call("Jobs/ListJobs", {"active": active, "limit": limit})
        return [decode(JobInfo, job) for job in answer.get("jobs", [])]

    def _give_stdin(self, request: dict[str, Any], stdin: Any) -> InputFeed | None:
        """Puts ``stdin`` in the request; a feed when it is sent beside it."""
        if stdin is None:
            return None
        path = _stdin_path(stdin)
        if path is not None:
            request["spec"]["stdin_path"] = path
            return None
        if isinstance(stdin, (bytes, bytearray, memoryview)):
            stdin = io.BytesIO(stdin)
        if not hasattr(stdin, "read"):
            raise InvalidError(
                f"stdin cannot be a {type(stdin).__name__}",
                hint="bytes, a path of the filestore, cluster.open(...), or a binary file",
            )
        return self._send_stdin(request, stdin)

    def _send_stdin(self, request: dict[str, Any], stdin: BinaryIO) -> InputFeed | None:
        first = _read_up_to(stdin, spec.STDIN_INLINE_MAXIMUM_BYTES + 1)
        if len(first) <= spec.STDIN_INLINE_MAXIMUM_BYTES:
            if first:
                spec.set_inline_stdin(request, first)
            return None
        feed = InputFeed(self.fs, _pieces(first, stdin), bulk=_is_big(stdin))
        request["spec"]["stdin_path"] = feed.begin(request["request_id"])
        return feed

    # Files.

    def open(self, path: AnyPath, mode: str = "r") -> File:
        """A file of the filestore as a binary file object: r, w (replace), x (new), a (append)."""
        return self.fs.open(path, mode)

    # The cluster itself.

    def info(self) -> ClusterInfo:
        """Which cluster answers, its version, and who we are to it."""
        return decode(ClusterInfo, self.transport.call("Cluster/GetInfo", {}))

    def nodes(self) -> list[NodeInfo]:
        """All nodes, by name."""
        answer = self.transport.call("Cluster/ListNodes", {})
        return [decode(NodeInfo, node) for node in answer.get("nodes", [])]

    def update_node(
        self,
        node: str,
        *,
        labels: Mapping[str, str] | None = None,
        draining: bool | None = None,
    ) -> NodeInfo:
        """Sets labels (an empty value takes one away), drains or undrains. Needs role admin."""
        request: dict[str, Any] = {"node": node, "labels": dict(labels or {})}
        if draining is not None:
            request["draining"] = draining
        return decode(NodeInfo, self.transport.call("Cluster/UpdateNode", request))

    def remove_node(self, node: str, *, force: bool = False) -> None:
        """The node leaves for good. Refused while it alone holds a chunk, unless forced."""
        self.transport.call("Cluster/RemoveNode", {"node": node, "force": force})

    def diagnose(self) -> list[Finding]:
        """What is wrong, each with the command that mends it."""
        answer = self.transport.call("Cluster/Diagnose", {})
        return [decode(Finding, finding) for finding in answer.get("findings", [])]

    def create_token(self, role: str = "node", ttl_s: float = 0.0) -> NewToken:
        """A token for one machine or person; ``role`` is node, user, viewer or admin."""
        if role not in ("node", "user", "viewer", "admin"):
            raise InvalidError(f"{role!r} is not a role", hint="node, user, viewer or admin")
        request = {"role": f"ROLE_{role.upper()}", "ttl_s": ttl_s}
        return decode(NewToken, self.transport.call("Cluster/CreateToken", request))

    def tokens(self) -> list[TokenInfo]:
        """All tokens that exist, used or not."""
        answer = self.transport.call("Cluster/ListTokens", {})
        return [decode(TokenInfo, token) for token in answer.get("tokens", [])]

    def revoke_token(self, token_id: str) -> None:
        """The token can no longer be used. Raises NotFoundError."""
        self.transport.call("Cluster/RevokeToken", {"token_id": token_id})


def _paths(files: "Mapping[str, Any] | None") -> dict[str, str]:
    """Files to place, by name, as paths."""
    spec.check_mapping("files", files)
    return {
        name: value.path if isinstance(value, (File, Output)) else check_path(value)
        for name, value in (files or {}).items()
    }


def _stdin_path(stdin: Any) -> str | None:
    """The path of a stdin that lies in the filestore already, else None."""
    if isinstance(stdin, (File, Output)):
        return stdin.path
    if isinstance(stdin, (str, PurePath)):
        return check_path(stdin)
    return None


def _read_up_to(source: BinaryIO, size_bytes: int) -> bytes:
    parts: list[bytes] = []
    while size_bytes > 0 and (part := source.read(size_bytes)):
        if not isinstance(part, bytes):
            raise InvalidError("stdin is a text file", hint='open it with mode "rb"')
        parts.append(part)
        size_bytes -= len(part)
    return b"".join(parts)


def _pieces(first: bytes, source: BinaryIO) -> Iterator[bytes]:
    yield first
    # A pipe should not wait until a whole piece is there.
    read = getattr(source, "read1", source.read)
    while piece := read(PIECE_BYTES):
        yield piece


def _is_big(source: BinaryIO) -> bool:
    try:
        return os.fstat(source.fileno()).st_size >= spec.BULK_MINIMUM_BYTES
    except (OSError, AttributeError, io.UnsupportedOperation):
        return getattr(source, "getbuffer", None) is not None and _buffer_is_big(source)


def _buffer_is_big(source: Any) -> bool:
    return bool(source.getbuffer().nbytes >= spec.BULK_MINIMUM_BYTES)
