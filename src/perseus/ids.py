"""Names of things: how ids look, and how they are read back.

A job id is eight characters of ``0-9a-z`` without i, l, o, u (Crockford's
alphabet), so it can be read aloud and typed. A task is ``JOB.TASK``, an attempt
``JOB.TASK.ATTEMPT``; the attempt's number, counted from 1, is the epoch of its
lease. Node names are host names. This module imports only ``errors``.
"""

import re
from typing import NamedTuple

from perseus.errors import InvalidError

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
JOB_ID_LENGTH = 8
NODE_NAME_MAXIMUM = 63

_NODE_NAME = re.compile(rf"[a-z0-9]([a-z0-9.-]{{0,{NODE_NAME_MAXIMUM - 2}}}[a-z0-9])?\Z")
_ATTEMPT = re.compile(r"([0-9a-z]{8})\.(\d{1,7})\.(\d{1,7})\Z")


class AttemptId(NamedTuple):
    """One try at a task; ``number`` counts from 1 and is the lease's epoch."""

    job_id: str
    task: int
    number: int

    def __str__(self) -> str:
        return f"{self.job_id}.{self.task}.{self.number}"


def encode(number: int, length: int) -> str:
    """``number`` in the id alphabet, exactly ``length`` characters."""
    characters = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))


def parse_attempt(text: str) -> AttemptId:
    """Reads ``JOB.TASK.ATTEMPT``; raises InvalidError for anything else."""
    match = _ATTEMPT.match(text)
    if match is None:
        raise InvalidError(f"{text!r} is not the id of an attempt (JOB.TASK.ATTEMPT)")
    return AttemptId(match[1], int(match[2]), int(match[3]))


def check_node_name(name: str) -> str:
    """Returns ``name`` if it can be a node's; raises InvalidError otherwise."""
    if not _NODE_NAME.match(name):
        raise InvalidError(
            f"{name!r} cannot be the name of a node",
            hint="use lower-case letters, digits, '-' and '.', at most "
            f"{NODE_NAME_MAXIMUM}: --name kitchen-pc",
        )
    return name
