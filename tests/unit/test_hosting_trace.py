"""A trace is bounded, and outlives the attempt that wrote it."""

import subprocess
import sys
from pathlib import Path

import pytest

from perseus.hosting import trace
from perseus.hosting.merge import Traces

ATTEMPT = """
import sys
from pathlib import Path
from perseus.hosting import trace
trace.TRACE_MAXIMUM_BYTES = int(sys.argv[2])
trace.keep(Path(sys.argv[1]), "n1")
for number in range(int(sys.argv[3])):
    trace.put_down([trace.encode({"k": "timer", "p": "n1", "l": 0, "at": 1.0, "i": number})])
trace.tell("fault", "n1", "kill")
"""


class Node:
    """A folder that outlives attempts, each of which has a folder and a stdout of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attempts = 0

    def attempt(self, steps: int, most_bytes: int = 1 << 20) -> bytes:
        """What it wrote to stdout, which is then discarded."""
        self.attempts += 1
        work = self.folder / f"attempt-{self.attempts}"
        work.mkdir()
        arguments = [str(self.folder / "trace"), str(most_bytes), str(steps)]
        with open(work / "stdout", "wb") as stdout:
            subprocess.run(
                [sys.executable, "-c", ATTEMPT, *arguments], stdout=stdout, cwd=work, check=True
            )
        content = (work / "stdout").read_bytes()
        (work / "stdout").unlink()
        return content


def _kinds(content: bytes) -> str:
    lines = [trace.decode(line) for line in content.split(b"\n") if line]
    return " ".join(line["k"] for line in lines)


def test_the_next_attempt_begins_with_what_the_last_ones_wrote(tmp_path: Path) -> None:
    node = Node(tmp_path)
    first = node.attempt(2)
    second = node.attempt(1)
    assert second.startswith(first)
    assert _kinds(second) == "timer timer fault crash timer fault"
    assert _kinds(node.attempt(0)) == "timer timer fault crash timer fault crash fault"


def test_a_torn_end_is_left_behind(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.attempt(1)
    with open(tmp_path / "trace", "ab") as kept:
        kept.write(b'{"k":"tim')
    traces = Traces()
    traces.add("n1", node.attempt(1))
    assert [line["k"] for line in traces.lines["n1"]] == [
        "timer", "fault", "crash", "timer", "fault",
    ]  # fmt: skip
    assert traces.torn == 1


def test_a_full_trace_ends_and_says_so_once(tmp_path: Path) -> None:
    node = Node(tmp_path)
    content = node.attempt(20, most_bytes=500)
    assert _kinds(content).endswith("timer full") and len(content) < 700
    again = node.attempt(20, most_bytes=500)
    assert again == content, "nothing after the gap, by later attempts neither"
    traces = Traces()
    traces.add("n1", again)
    assert traces.full == {"n1"}
    assert traces.missing == ["n1's trace is full and ends before the process"]


def test_a_disk_without_room_for_it_is_told() -> None:
    program = "from perseus.hosting import trace; trace.tell('fault', 'n1', 'kill')"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert b"FullError: the trace cannot be written: No space left on device" in done.stderr


DIES = """
from perseus.errors import CorruptError, FullError
from perseus.hosting.process import Hosted
import sys

error = {"full": FullError("no room"), "rot": CorruptError("rot"), "bug": ValueError("bug")}
Hosted._failed(None, type("Process", (), {"id": "n1"}), error[sys.argv[1]])
print("it goes on")
"""


@pytest.mark.parametrize(("why", "code"), [("full", 74), ("rot", 65), ("bug", 70)])
def test_a_process_ends_also_where_there_is_no_room_for_its_last_words(why: str, code: int) -> None:
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-c", DIES, why]
        assert subprocess.run(words, stdout=full, stderr=full, check=False).returncode == code
