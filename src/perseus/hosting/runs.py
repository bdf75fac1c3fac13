"""Runs as their user has them: begun, looked at, made to suffer, and ended."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perseus.algo.layout import Layout
from perseus.algo.process import Id
from perseus.amounts import counted
from perseus.client.cluster import Cluster
from perseus.client.jobs import Job
from perseus.client.messages import FileInfo
from perseus.errors import (
    ConflictError,
    DeadlineError,
    InvalidError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.hosting.certificate import RunCertificate
from perseus.hosting.program import BUNDLE, Program
from perseus.hosting.run import FOLDER, JOBS, RECORD, Run
from perseus.ids import ALPHABET
from perseus.proto.v1 import algo_pb2
from perseus.rpc import services
from perseus.rpc.stubs import from_grpc
from perseus.shellwords import as_word
from perseus.sim.load import load

RUN_ID_LENGTH = 6
# What a process of an algorithm takes of a core: most of the time it waits.
CPU = 0.05
# As often as the protocol allows: a service is a task without an end.
RETRIES = 1000
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 5.0
# Of jobs that are looked through for those of a run that did not come about.
JOBS_MAXIMUM = 1_000
ASK_AGAIN_S = 0.1
# By the interpreter of the node's own installation, which its daemon knows.
_ARGV = ("sh", "-c", 'exec "$PERSEUS_PYTHON" -m perseus.hosting "$@"', "perseus-algo")


def _untold(sentence: str) -> None:
    """For whom nobody listens."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when asked."""

    id: Id
    node: str
    job_id: str
    # Of its task; None when its task could not be asked.
    status: algo_pb2.ProcessStatus | None = None
    # Why it could not be, and whether because its task has ended.
    error: str = ""
    is_over: bool = False

    @property
    def state(self) -> str:
        """up, stuck, paused, down; of one that was not asked stopped or unreachable."""
        if self.status is not None:
            return self.status.state
        return "stopped" if self.is_over else "unreachable"


class Runs:
    """The runs of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._certificates: dict[str, RunCertificate] = {}

    # Beginning.

    def start(
        self, target: str, nodes: int, workload: str = "", tell: Callable[[str], None] = _untold
    ) -> Run:
        """Begins a run of ``target`` with as many processes as ``nodes`` says where the layout
        does not, and with the clients of the problem that it solves; returns when each has
        begun. ``tell`` hears in sentences how it goes, at first the run's id. When it fails or is
        interrupted, what had begun is ended."""
        layout, program = load(target, workload), Program.of(target)
        program.check()
        run = self._planned(target, layout, nodes, program, workload)
        try:
            placed = self._place(run, program)
            tell(f"run {run.run} begins on {counted(len(set(run.nodes.values())), 'node')}")
            jobs = {p: self._submit(run, p, node, placed) for p, node in run.nodes.items()}
            self._await(run, jobs)
        except BaseException:
            self._undo(run, tell)
            raise
        return run

    def _place(self, run: Run, program: Program) -> dict[str, str]:
        """Puts what each task needs into the filestore; by name where it is."""
        files = self.cluster.fs
        placed = {RECORD: f"{run.folder}/{RECORD}"}
        # First, so that whatever is there of a run can be stopped.
        files.write_bytes(placed[RECORD], run.encode(), parents=True)
        files.mkdir(f"{run.folder}/at")
        if run.has_program:
            placed[BUNDLE] = f"{run.folder}/{BUNDLE}"
            files.write_bytes(placed[BUNDLE], program.pack())
        return placed

    def _undo(self, run: Run, tell: Callable[[str], None]) -> None:
        """Ends what has begun of a run that did not come about."""
        tell(f"run {run.run} is ended again; ^C leaves what is there of it")
        try:
            self.stop(run)
            with contextlib.suppress(NotFoundError):
                self.cluster.fs.rm(run.folder, recursive=True)
        except BaseException as error:
            tell(f"a part of run {run.run} may go on; to end it: perseus algo stop {run.run}")
            # Of two errors the first is the cause.
            if not isinstance(error, PerseusError):
                raise

    def _submit(self, run: Run, process: Id, node: str, placed: Mapping[str, str]) -> str:
        job = self.cluster.submit(
            [*_ARGV, process],
            node=node,
            files=dict(placed),
            cpu=CPU,
            retries=RETRIES,
            failure_retries=RETRIES,
            grace_s=1.0,
            name=_job_name(run, process),
        )
        return job.job_id

    def _planned(
        self, target: str, layout: Layout, nodes: int, program: Program, workload: str
    ) -> Run:
        groups = layout.members(nodes)
        clients = [i for name, ids in groups.items() if layout.groups[name].is_client for i in ids]
        others = [i for ids in groups.values() for i in ids if i not in clients]
        return Run(
            "".join(random.SystemRandom().choice(ALPHABET) for _ in range(RUN_ID_LENGTH)),
            target,
            program.subject,
            groups,
            self._spread(others, clients),
            tuple(clients),
            time.time(),
            bool(program.files),
            workload,
        )

    def _spread(self, others: Sequence[Id], clients: Sequence[Id]) -> dict[Id, str]:
        """Round robin. All clients go to one node: their histories are one, by one clock."""
        alive = sorted(node.name for node in self.cluster.nodes() if node.state == "alive")
        if not alive:
            raise UnavailableError("no node is alive", hint="perseus nodes")
        placed = {process: alive[n % len(alive)] for n, process in enumerate(others)}
        last = alive[len(others) % len(alive)]
        return placed | dict.fromkeys(clients, last)

    def _await(self, run: Run, jobs: Mapping[Id, str]) -> None:
        files = self.cluster.fs
        files.write_bytes(f"{run.folder}/{JOBS}", json.dumps(jobs).encode())
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            here = {Path(entry.path).name for entry in files.ls(f"{run.folder}/at")}
            missing = sorted(set(jobs) - here)
            if not missing:
                return
            if time.monotonic() > deadline_s:
                raise DeadlineError(
                    f"{', '.join(missing)} did not begin within {START_TIMEOUT_S:.0f} s",
                    hint=f"perseus logs --stderr {jobs[missing[0]]}",
                )
            time.sleep(ASK_AGAIN_S)

    # Looking.

    def all(self) -> list[Run]:
        """All whose record is in the filestore, the latest first."""
        try:
            folders: list[FileInfo] = self.cluster.fs.ls(FOLDER)
        except NotFoundError:
            return []
        found = []
        for entry in folders:
            # One that begins or is ended just now has no record.
            with contextlib.suppress(NotFoundError):
                found.append(self.get(Path(entry.path).name))
        return sorted(found, key=lambda run: -run.started_at_s)

    def get(self, run_id: str) -> Run:
        """A run by its id, or "@last"; raises NotFoundError."""
        if run_id == "@last":
            every = self.all()
            if not every:
                raise NotFoundError("there is no run", hint="perseus algo run FILE:CLASS")
            return every[0]
        try:
            return Run.decode(self.cluster.fs.read_bytes(f"{FOLDER}/{run_id}/{RECORD}"))
        except NotFoundError:
            raise NotFoundError(f"there is no run {run_id}", hint="perseus algo ps") from None

    def jobs(self, run: Run) -> dict[Id, str]:
        """The job of each process."""
        try:
            found: dict[Id, str] = json.loads(self.cluster.fs.read_bytes(f"{run.folder}/{JOBS}"))
        except NotFoundError:
            return self._named(run)
        return found

    def _named(self, run: Run) -> dict[Id, str]:
        """The jobs of a run whose begin was cut short, by their names."""
        names = {_job_name(run, process): process for process in run.nodes}
        jobs = self.cluster.jobs(active=True, limit=JOBS_MAXIMUM)
        return {names[job.name]: job.job_id for job in jobs if job.name in names}

    def is_active(self, run: Run) -> bool:
        """Whether any of its processes is meant to run."""
        jobs = self.jobs(run).values()
        return any(not self.cluster.job(job_id).info().has_ended for job_id in jobs)

    def look(self, run: Run) -> list[Process]:
        """All its processes."""
        answers = self._ask(run, dict.fromkeys(run.nodes, algo_pb2.LookRequest()), "Look")
        jobs = self.jobs(run)
        silent = self.silent(run, {p: a for p, a in answers.items() if _is_error(a)})
        return [
            silent[process]
            if process in silent
            else Process(process, node, jobs.get(process, ""), answers[process])
            for process, node in run.nodes.items()
        ]

    def silent(self, run: Run, errors: Mapping[Id, PerseusError | None]) -> dict[Id, Process]:
        """Processes that did not answer, with why not, in the words of the cluster."""
        jobs = self.jobs(run) if errors else {}
        states = {node.name: node.state for node in self.cluster.nodes()} if errors else {}
        found = {}
        for process, error in errors.items():
            node, job_id = run.nodes[process], jobs.get(process, "")
            state, is_over = self._task(job_id)
            node_state = states.get(node, "no node any more")
            said = f"its task is {state}, {node} is {node_state}"
            if error is not None and (state, node_state) == ("running", "alive"):
                is_late = isinstance(error, DeadlineError)
                late = f"its task did not answer within {CALL_TIMEOUT_S:g} s"
                said = late if is_late else error.message
            found[process] = Process(process, node, job_id, None, said, is_over)
        return found

    def _task(self, job_id: str) -> tuple[str, bool]:
        """The state of a process's task, and whether it has ended."""
        try:
            info = self.cluster.job(job_id).info()
        except (NotFoundError, InvalidError):
            return "not known any more", True
        return info.state, info.has_ended

    # Faults.

    def befall(
        self, run: Run, requests: Mapping[Id, algo_pb2.BefallRequest]
    ) -> dict[Id, algo_pb2.ProcessStatus]:
        """Lets faults befall processes, all at once; how each then is. Raises ConflictError
        when the run is stopped, UnavailableError when one could not be told."""
        answers = self._ask(run, requests, "Befall")
        silent = self.silent(run, {p: a for p, a in answers.items() if _is_error(a)})
        if not silent:
            return answers
        if all(process.is_over for process in silent.values()) and len(silent) == len(answers):
            raise ConflictError(
                f"run {run.run} is stopped",
                hint=f"begin another: perseus algo run {as_word(run.target)}",
            )
        said = "; ".join(f"{each.id} was not told: {each.error}" for each in silent.values())
        told = [process for process in answers if process not in silent]
        raise UnavailableError(
            f"{said}; told were: {', '.join(told)}" if told else said,
            hint=f"perseus algo ps {run.run}; perseus nodes",
            maybe_done=True,
        )

    def partition(self, run: Run, one: Sequence[Id], other: Sequence[Id], one_way: bool) -> None:
        """``other`` hears nothing of ``one`` any more; nor the other way, unless ``one_way``."""
        requests = dict.fromkeys(other, _deaf(one))
        if not one_way:
            requests |= dict.fromkeys(one, _deaf(other))
        self.befall(run, requests)

    def members(self, run: Run, words: Iterable[str]) -> list[Id]:
        """Processes by ids, with commas or apart, each once; raises NotFoundError, and
        InvalidError when there is none."""
        ids = list(dict.fromkeys(each for word in words for each in word.split(",") if each))
        names = f"its processes are: {', '.join(run.nodes)}"
        if not ids:
            raise InvalidError(f"no process of run {run.run} is named", hint=names)
        for process in ids:
            if process not in run.nodes:
                raise NotFoundError(f"run {run.run} has no process {process}", hint=names)
        return ids

    def chosen(self, run: Run, words: Iterable[str]) -> list[Id]:
        """``members`` that faults may befall; raises InvalidError for clients, which faults
        spare: what they saw is what the run is judged by."""
        ids = self.members(run, words)
        for process in ids:
            if process in run.clients:
                raise InvalidError(
                    f"{process} is a client; faults spare it, for by its history the run is judged",
                    hint="faults befall: "
                    + ", ".join(p for p in run.nodes if p not in run.clients),
                )
        return ids

    def _ask(self, run: Run, requests: Mapping[Id, Any], method: str) -> dict[Id, Any]:
        certificate = self._certificates.get(run.run)
        if certificate is None or not certificate.renewal_in_s():
            certificate = RunCertificate.ask(self.cluster, run.run)
            self._certificates[run.run] = certificate
        addresses = {process: self._address(run, process) for process in requests}

        async def ask_all() -> list[Any]:
            asked = (_call(certificate, addresses[p], method, r) for p, r in requests.items())
            return list(await asyncio.gather(*asked))

        return dict(zip(requests, asyncio.run(ask_all()), strict=True))

    def _address(self, run: Run, process: Id) -> str:
        try:
            return self.cluster.fs.read_bytes(run.address_path(process)).decode()
        except NotFoundError:
            return ""

    # Ending.

    def stop(self, run: Run, keep: bool = False) -> list[str]:
        """Ends all processes; what was durable to them goes, unless ``keep``. Gives the nodes
        that are away: theirs goes when they come back."""
        self._end(self.jobs(run).values())
        with contextlib.suppress(NotFoundError):
            self.cluster.fs.rm(f"{run.folder}/at", recursive=True)
        return [] if keep else self.clean(run)

    def _end(self, job_ids: Iterable[str]) -> None:
        jobs = [self.cluster.job(job_id) for job_id in job_ids]
        for job in jobs:
            if not job.info().has_ended:
                job.kill()
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        for job in jobs:
            # Of a node that is away: its lease ends, and its attempts with it.
            with contextlib.suppress(DeadlineError):
                job.wait(max(0.0, deadline_s - time.monotonic()))

    def clean(self, run: Run) -> list[str]:
        """Removes from the nodes what was durable to a run's processes: by a task on each,
        which waits for a node that is away."""
        jobs: dict[str, Job] = {}
        for node in sorted(set(run.nodes.values())):
            argv = [*_ARGV, "--clean", run.run]
            name = f"algo {run.run} clean"
            jobs[node] = self.cluster.submit(argv, node=node, cpu=CPU, retries=RETRIES, name=name)
        alive = {node.name for node in self.cluster.nodes() if node.state in ("alive", "draining")}
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        away = []
        for node, job in jobs.items():
            try:
                # A node that is known to be away is not waited for.
                job.wait(max(0.0, deadline_s - time.monotonic()) if node in alive else 0.0)
            except DeadlineError:
                away.append(node)
        return away


def _is_error(answer: Any) -> bool:
    return isinstance(answer, PerseusError)


def _job_name(run: Run, process: Id) -> str:
    return f"algo {run.run} {process}"


def _deaf(to: Sequence[Id]) -> algo_pb2.BefallRequest:
    return algo_pb2.BefallRequest(kind=algo_pb2.FAULT_DEAF, deaf_to=to)


async def _call(certificate: RunCertificate, address: str, method: str, request: Any) -> Any:
    """The answer, or the PerseusError that came instead."""
    import grpc

    if not address:
        return UnavailableError("it has no address: its task does not run")
    kind = services.methods_of("Processes")[method]
    channel = certificate.channel(address)
    try:
        return await channel.unary_unary(
            kind.path,
            request_serializer=kind.request_class.SerializeToString,
            response_deserializer=kind.response_class.FromString,
        )(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        return from_grpc(error, kind.path, address)
    finally:
        await channel.close()
