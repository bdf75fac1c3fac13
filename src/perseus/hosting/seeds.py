"""Many seeds of a simulation as an array job: each task takes some, one after the other.

A task is given the series (``series.json``) and the program, and prints a line of JSON for
each run, the same wherever and however often it is taken. The output of an array job comes
task after task, so the outcomes come in the order of their seeds, and whoever follows them
stops at the same one as on one machine. A task ends at the first violation it finds.
"""

import contextlib
import os
import random
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from perseus.client import spec
from perseus.client.cluster import Cluster
from perseus.errors import PerseusError, UnavailableError
from perseus.hosting.feed import JobFeed
from perseus.hosting.program import BUNDLE, Program, loaded, unpack
from perseus.ids import ALPHABET
from perseus.sim import runner
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome, Raised, Violation

FOLDER = "/sim"
SERIES = "series.json"
ID_LENGTH = 8
# Tasks for each core: the ones that are done early do not wait for the others.
TASKS_PER_CORE = 4
SEEDS_PER_TASK_MAXIMUM = 1000
# Kept of what a task says on stderr, for the person.
SAID_MAXIMUM_BYTES = 4096
_ARGV = ("sh", "-c", 'exec "$PERSEUS_PYTHON" -m perseus.hosting.seeds', "perseus-sim")


class Series(msgspec.Struct, frozen=True):
    """What every task of the job has in common."""

    about: Plan
    has_program: bool
    first: int
    count: int
    tasks: int

    def seeds(self, task: int) -> range:
        """Those of one task, all as many but for one."""
        ends = [self.first + self.count * number // self.tasks for number in (task, task + 1)]
        return range(*ends)


def _untold(sentence: str) -> None:
    """For whom nobody listens."""


def run_many(
    cluster: Cluster,
    about: Plan,
    seeds: Sequence[int],
    parallel: int = 0,
    tell: Callable[[str], None] = _untold,
) -> Generator[Outcome, None, None]:
    """As ``sim.runner.run_many``, over the cluster, at most ``parallel`` tasks at once (0: as
    many as fit). Closing the iterator cancels the job, and so does the end of this program.
    ``tell`` hears in sentences when the daemon went away through which the job is followed."""
    program = Program.of(about.target)
    load(about.target, about.workload)
    program.check()
    series = Series(
        replace(about, target=program.subject),
        bool(program.files),
        seeds[0],
        len(seeds),
        _tasks(cluster, len(seeds)),
    )
    name = "".join(random.SystemRandom().choice(ALPHABET) for _ in range(ID_LENGTH))
    folder = f"{FOLDER}/{name}"
    feed = None
    try:
        placed = _place(cluster, folder, series, program)
        feed = JobFeed(cluster, _request(series, placed, parallel, name), tell)
        yield from _outcomes(feed, series)
    finally:
        with contextlib.suppress(PerseusError):
            (feed.cluster if feed else cluster).fs.rm(folder, recursive=True)
        if feed is not None:
            feed.close()


def _tasks(cluster: Cluster, seeds: int) -> int:
    alive = [node for node in cluster.nodes() if node.state == "alive"]
    if not alive:
        raise UnavailableError("no node is alive", hint="perseus nodes")
    cores = sum(max(1, int(node.capacity.resources.cpu)) for node in alive)
    return min(seeds, max(cores * TASKS_PER_CORE, -(-seeds // SEEDS_PER_TASK_MAXIMUM)))


def _place(cluster: Cluster, folder: str, series: Series, program: Program) -> dict[str, str]:
    """Puts what tasks need into the filestore; by name where it is."""
    cluster.fs.mkdir(folder, parents=True)
    contents = {SERIES: msgspec.json.encode(series)}
    if series.has_program:
        contents[BUNDLE] = program.pack()
    for name, content in contents.items():
        cluster.fs.write_bytes(f"{folder}/{name}", content)
    return {name: f"{folder}/{name}" for name in contents}


def _request(series: Series, placed: dict[str, str], parallel: int, name: str) -> dict[str, Any]:
    return spec.submit_request(
        _ARGV,
        files=placed,
        # The order of a set must be the same everywhere.
        env={"PYTHONHASHSEED": "0"},
        count=series.tasks,
        parallel=parallel,
        name=f"sim {name}",
    )


def _outcomes(feed: JobFeed, series: Series) -> Iterator[Outcome]:
    """The outcomes in the order of seeds; when they are left, the job is cancelled."""
    rest, said, count = b"", b"", 0
    with contextlib.closing(feed.events()) as events:
        for event in events:
            said = (said + event.stderr)[-SAID_MAXIMUM_BYTES:]
            *lines, rest = (rest + event.stdout).split(b"\n")
            for line in lines:
                outcome = _outcome(line)
                yield outcome
                count += 1
                if outcome.violation is not None:
                    return
    if count != series.count:
        text = said.decode(errors="replace").strip()
        raise UnavailableError(
            f"{series.count - count} of {series.count} seeds were not run: "
            f"{text or 'a task of the job failed'}",
            hint=f"perseus why {feed.job_id}; perseus logs --stderr {feed.job_id}",
        )


def _outcome(line: bytes) -> Outcome:
    values = msgspec.json.decode(line)
    broken = values.pop("violation")
    reached = frozenset(values.pop("reached"))
    errors = {Raised(*told): count for told, count in values.pop("errors")}
    violation = Violation(*broken) if broken else None
    return Outcome(violation=violation, reached=reached, errors=errors, **values)


def _line(outcome: Outcome) -> bytes:
    broken = outcome.violation
    values = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    values["violation"] = [broken.name, broken.said, broken.at_s] if broken else None
    values["reached"] = sorted(outcome.reached)
    values["errors"] = [[astuple(each), count] for each, count in outcome.errors.items()]
    return msgspec.json.encode(values) + b"\n"


# What a task executes.


def main() -> int:
    """Runs the seeds of this task; the exit code is 0 also when a property is broken."""
    try:
        series = msgspec.json.decode(Path(SERIES).read_bytes(), type=Series)
        if series.has_program:
            unpack(Path(BUNDLE).read_bytes(), Path())
        # So that its modules are found: it is loaded from where it was unpacked from here on.
        loaded(series.about.target, series.about.workload, ".")
        for seed in series.seeds(int(os.environ["PERSEUS_TASK_INDEX"])):
            outcome = runner.run_one(series.about, seed, last=_tell_and_end)
            _tell(outcome)
            if outcome.violation is not None:
                break
        return 0
    except PerseusError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


def _tell(outcome: Outcome) -> None:
    sys.stdout.buffer.write(_line(outcome))
    sys.stdout.buffer.flush()


def _tell_and_end(outcome: Outcome) -> None:
    """Of a step that nothing interrupts: a broken property too."""
    _tell(outcome)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
