"""Where a step is that does not end, from what Python says of its threads."""

import os
import subprocess
import sys
import time

import pytest

from perseus.hosting.stepping import ASK, Place, Shared, place_of

LIMIT_S = 60.0
ROOT = "/lib/perseus"
MACHINERY = f'''
  File "{ROOT}/algo/process.py", line 330 in _host_deliver
  File "{ROOT}/algo/driver.py", line 240 in _step
  File "{ROOT}/algo/driver.py", line 199 in deliver
  File "{ROOT}/hosting/process.py", line 80 in main
'''
OTHER = """Thread 0x00007fa (most recent call first):
  File "/usr/lib/python3/concurrent/thread.py", line 81 in _worker

"""


@pytest.mark.parametrize(
    ("inner", "place"),
    [
        (["program/lock.py 30 asked"], Place("asked", "lock.py:30")),
        (["program/lock.py 12 search", "program/lock.py 30 asked"], Place("asked", "lock.py:12")),
        (["program/more/deep.py 7 find", "program/lock.py 30 asked"], Place("asked", "deep.py:7")),
        (["/usr/lib/python3/re.py 9 match", "program/lock.py 30 go"], Place("go", "lock.py:30")),
        ([f"{ROOT}/algo/durability.py 5 append"], Place()),
        ([], Place()),
    ],
)
def test_the_innermost_line_of_the_algorithm_counts(inner: list[str], place: Place) -> None:
    frames = "".join('  File "{}", line {} in {}\n'.format(*each.split()) for each in inner)
    said = f"{OTHER}Current thread 0x00007fb (most recent call first):\n{frames}{MACHINERY[1:]}"
    assert place_of(said) == place


@pytest.mark.parametrize("said", ["", "Fatal", OTHER, MACHINERY.replace("_step", "_write")])
def test_what_is_in_no_step_has_no_place(said: str) -> None:
    assert place_of(said) == Place()


ASKED = """
import sys
from perseus.hosting.stepping import Shared

step = Shared(int(sys.argv[1]))
step.answer_asked()
step.note(7.5)
print("ready", flush=True)
sys.stdin.read()
"""


def test_each_answer_replaces_the_one_before() -> None:
    step = Shared.create()
    assert step.since_s() == 0.0
    with subprocess.Popen(
        [sys.executable, "-c", ASKED, str(step.descriptor)],
        pass_fds=(step.descriptor,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
            assert step.since_s() == 7.5
            for _ in range(3):
                step.expect()
                child.send_signal(ASK)
                assert _answer(step).count(b"(most recent call first)") == 1
                assert step.answer() == Place(), "it is in no step of a driver"
        finally:
            child.kill()
    step.close()


def _answer(step: Shared) -> bytes:
    deadline_s = time.monotonic() + LIMIT_S
    while not (said := os.pread(step.descriptor, 1 << 16, 8)).endswith(b"<module>\n"):
        assert time.monotonic() < deadline_s, said
    return said
