"""What a run is: its record, and where its things lie.

In the filestore, in ``/algo/RUN``: ``run.json`` (this record), ``program.zip`` where the
algorithm is not installed, ``jobs.json`` (process to job), and ``at/PROCESS`` (where it answers).
On a node, in its data folder: ``algo/RUN/PROCESS``, what is durable to the process.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from perseus.algo.layout import Layout
from perseus.algo.process import Id, Place
from perseus.errors import InvalidError
from perseus.hosting import program

FOLDER = "/algo"
RECORD = "run.json"
JOBS = "jobs.json"
# How a process ends, as sysexits(3) has it: a handler raised; what was durable is damaged; a disk
# has no room.
EXIT_RAISED = 70
EXIT_DAMAGED = 65
EXIT_FULL = 74
# In the folder of a task: why its process ended, left by it for its task.
REASON = "reason"
REASON_MAXIMUM_CHARACTERS = 2000


class Run(msgspec.Struct, frozen=True):
    """One run of an algorithm."""

    run: str
    # As it was typed, and as it is loaded on a node.
    target: str
    subject: str
    # The ids of each group.
    groups: dict[str, tuple[Id, ...]]
    # The node of each process.
    nodes: dict[Id, str]
    # Those that faults spare.
    clients: tuple[Id, ...]
    # Seconds since 1970.
    started_at_s: float
    # Its modules are beside the record, and come to each node with it.
    has_program: bool = False
    # The problem that it solves; its clients and what must hold come with Perseus.
    workload: str = ""

    @property
    def folder(self) -> str:
        """Where it lies in the filestore."""
        return f"{FOLDER}/{self.run}"

    def address_path(self, process: Id) -> str:
        """Where the address of a process stands."""
        return f"{self.folder}/at/{process}"

    def layout(self, folder: str = ".") -> Layout:
        """The algorithm, loaded; its program is unpacked in ``folder`` when it has one."""
        return program.loaded(self.subject, self.workload, folder)

    def place(self, process: Id, restarts: int) -> Place:
        """Who a process is."""
        for name, ids in self.groups.items():
            if process in ids:
                return Place(process, name, self.groups, restarts)
        raise InvalidError(f"there is no process {process} in run {self.run}")

    def encode(self) -> bytes:
        """As run.json holds it."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(content: bytes) -> "Run":
        """From run.json; raises InvalidError."""
        try:
            return msgspec.json.decode(content, type=Run)
        except msgspec.DecodeError as error:
            raise InvalidError(f"this is not the record of a run: {error}") from None


def root(process: Id) -> Id:
    """The process that one beside it belongs to: ``n1`` of ``n1/detector``."""
    return process.partition("/")[0]


def state_folder(environment: Mapping[str, str], run: str) -> Path:
    """On the node of a task: where what is durable to the processes of a run lies. It
    outlives the attempt, whose folder is ``attempts/...`` of the node's data folder."""
    attempt = environment.get("PERSEUS_ATTEMPT_FOLDER", "")
    if not attempt or not run.isalnum():
        raise InvalidError("this is started by `perseus algo`, as a task of the cluster")
    return Path(os.path.dirname(os.path.dirname(attempt))) / "algo" / run
