"""What a process did, step by step, as NDJSON on its task's stdout, which is a file.

A line is written when its step is durable and before anything that it sent leaves; so
whatever was heard of stands in a trace. Inputs are written whole (what was durable at the
start, messages, timers, time, chance) and outputs as checksums: the same class, given the
same inputs, takes the same steps again (``replay``), and so shows all of its state.

    {"k":"start","p":"n1","l":0,"c":1,"at":…,"now":…,"d":[[key,value],…], …}
    {"k":"receive", …,"from":"n2","m":[life,mark],"what":"Vote(1)","b":…,"n":0,"a":0}
    {"k":"timer", …,"i":3,"what":"_election_due"}
    {"k":"crash","p":"n1","at":…,"what":"killed by signal 9"}     written by its task, as are
    {"k":"fault","p":"n1","at":…,"what":"pause"}           these, and raised, stuck, heal, full

p process; l its life (starts before this one); c Lamport's clock; at seconds since 1970;
now its own clock; r what chance gave; s what was sent, each [to, mark, what, checksum];
w the checksum of what was made durable; e it ended itself.
"""

import os
import shutil
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import crc32c
import msgspec

from perseus.algo.codec import Codec
from perseus.algo.driver import Step
from perseus.algo.durability import GONE, Changes
from perseus.algo.kept import opened
from perseus.algo.process import Id
from perseus.errors import FullError
from perseus.sim.trace import brief

# A task writes no more than this of it; the run goes on without.
TRACE_MAXIMUM_BYTES = 1 << 30
STDOUT = 1
# Stands in the task's folder when no more is written.
FULL = "trace-full"
COPY_BYTES = 1 << 20
LAST_BYTES = 4096

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class Tracer:
    """Writes the steps of the processes of one program."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._clock = 0
        self._base_s = time.time() - time.monotonic()
        # Clocks of letters that came, until their step is written.
        self._heard: dict[tuple[Id, int, int], int] = {}
        # Of the steps written last: the bytes of each message, by its mark, and its clock.
        self.contents: dict[int, bytes] = {}
        self.clocks: dict[int, int] = {}
        self._is_full = False
        # What was written last, by the process before, may be torn.
        self._begin = b"\n"

    def heard(self, sender: Id, life: int, mark: int, clock: int) -> None:
        """A letter has come, and its step is about to be taken."""
        self._heard[sender, life, mark] = clock

    def write(self, steps: Sequence[Step]) -> None:
        """Steps that are durable, before what they sent leaves."""
        self.contents.clear()
        self.clocks.clear()
        lines = [encode(self._line(step)) for step in steps]
        lines[0] = self._begin + lines[0]
        self._begin = b""
        if not self._is_full:
            self._is_full = put_down(lines)

    def _line(self, step: Step) -> dict[str, Any]:
        process = step.process
        line: dict[str, Any] = {"k": step.kind, "p": process.id, "l": process.restarts}
        line |= getattr(self, f"_{step.kind}")(*step.given)
        self._clock += 1
        line |= {"c": self._clock, "at": self._base_s + step.now_s, "now": step.now_s}
        if step.drawn:
            line["r"] = step.drawn
        if step.sends:
            line["s"] = [self._sent(step.first_mark + n, s) for n, s in enumerate(step.sends)]
        if step.changes:
            line["w"] = checksum_of(self._codec, step.changes)
        if process._is_over:
            line["e"] = True
        return line

    def _start(self, disk: dict[Any, Any]) -> dict[str, Any]:
        pairs = [(self._codec.encode(k), self._codec.encode(v)) for k, v in disk.items()]
        return {"d": [[text(key), text(value)] for key, value in pairs]}

    def _timer(self, number: int, name: str) -> dict[str, Any]:
        return {"i": number, "what": name}

    def _receive(
        self, sender: Id, message: Any, number: int, answers: int, mark: tuple[int, int]
    ) -> dict[str, Any]:
        self._clock = max(self._clock, self._heard.pop((sender, *mark), 0))
        content = text(self._codec.encode(message))
        said = {"from": sender, "m": mark, "what": brief(opened(message)), "b": content}
        return said | {"n": number, "a": answers}

    def _sent(self, mark: int, send: tuple[Id, Any, int, int]) -> list[Any]:
        to, message, number, answers = send
        content = self.contents[mark] = self._codec.encode(message)
        self.clocks[mark] = self._clock
        return [to, mark, brief(opened(message)), checksum(content, number, answers)]


def put_down(lines: Iterable[bytes]) -> bool:
    """Writes whole lines to stdout; whether it is full, and there are no more of them: after
    a gap nobody could follow it. Raises FullError where the disk has no room."""
    if os.path.exists(FULL):
        return True
    data = b"\n".join([*lines, b""])
    if os.fstat(STDOUT).st_size + len(data) > TRACE_MAXIMUM_BYTES:
        data = encode({"k": "full", "p": "", "at": time.time(), "what": ""}) + b"\n"
        open(FULL, "wb").close()
    _Stdout().write(data)
    return os.path.exists(FULL)


def keep(path: Path, process: Id) -> None:
    """Lets a trace outlive its attempt, whose output is discarded when its node is lost: the
    file of stdout gets ``path`` as a second name, after what is under that name, the trace of
    the attempts before on this node, was written to stdout once more."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    if path.exists():
        with open(path, "rb") as before:
            shutil.copyfileobj(before, _Stdout(), COPY_BYTES)
        if _last_kind(path) == "full":
            open(FULL, "wb").close()
        tell("crash", process, "its task was given up")
    try:
        os.link(os.readlink(f"/proc/self/fd/{STDOUT}"), fresh)
    except OSError as error:
        # Another file system, or one without links: then the next attempt's trace begins with it.
        path.unlink(missing_ok=True)
        sys.stderr.write(f"the trace does not outlive this attempt: {error.strerror}\n")
        return
    fresh.rename(path)


class _Stdout:
    """Writes whole pieces to the descriptor, past Python's buffer."""

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(STDOUT, view) :]
        except OSError as error:
            raise FullError(f"the trace cannot be written: {error.strerror}") from None
        return len(data)


def _last_kind(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        *_, last = (b"", *file.read().split())
    try:
        return str(decode(last).get("k", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""


def tell(kind: str, process: Id, what: str) -> None:
    """A line of the task itself. Begun anew, for the one before may have been torn."""
    line = encode({"k": kind, "p": process, "at": time.time(), "what": what})
    put_down([b"", line])


def text(content: bytes) -> str:
    """Bytes as they stand in a line."""
    return b64encode(content).decode()


def content_of(said: str) -> bytes:
    """Bytes from a line."""
    return b64decode(said)


def checksum(content: bytes, number: int, answers: int) -> int:
    """Of a message, as it is sent."""
    return crc32c.crc32c(b"%d %d" % (number, answers), crc32c.crc32c(content))


def checksum_of(codec: Codec, changes: Changes) -> int:
    """Of what a step made durable."""
    found = 0
    for key, value in changes.items():
        found = crc32c.crc32c(codec.encode(key), found)
        if value is not GONE:
            found = crc32c.crc32c(codec.encode(value), found)
    return found
