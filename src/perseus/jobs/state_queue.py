"""The queue: jobs with waiting tasks, in lines of equal needs, in the order of turns."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from perseus.jobs.plan import JobView, Line, Needs
from perseus.jobs.state_job import Job

# A job with inputs of more files than this is placed by the first ones.
LOCALITY_FILES_MAXIMUM = 16

BytesByNode = Callable[[str], dict[str, int]]


class Queue:
    """See the module. A job stands in it while it has waiting tasks."""

    def __init__(self, bytes_by_node: BytesByNode) -> None:
        self._lines: dict[Needs, OrderedDict[str, Job]] = {}
        self._bytes_by_node = bytes_by_node
        self.turn = 1

    def __bool__(self) -> bool:
        return bool(self._lines)

    def put(self, job: Job) -> None:
        """At the end, with a new turn; taken out when nothing of it waits."""
        if not job.waiting:
            self.remove(job)
            return
        line = self._lines.setdefault(job.needs, OrderedDict())
        line[job.job_id] = job
        line.move_to_end(job.job_id)
        job.turn = self.turn
        self.turn += 1

    def keep(self, job: Job) -> None:
        """In its place if it stands in line, else at the end."""
        line = self._lines.get(job.needs)
        if not job.waiting or line is None or job.job_id not in line:
            self.put(job)

    def remove(self, job: Job) -> None:
        """Nothing of it waits any more."""
        line = self._lines.get(job.needs)
        if line is not None and line.pop(job.job_id, None) is not None and not line:
            del self._lines[job.needs]

    def jobs(self) -> list[Job]:
        """All jobs that wait, by turn."""
        waiting = (job for line in self._lines.values() for job in line.values())
        return sorted(waiting, key=lambda job: (-job.needs.priority, job.turn))

    def lines(self) -> list[Line]:
        """What the scheduler looks at; not to be kept beyond the next change."""
        return [Line(needs, self._views(line)) for needs, line in self._lines.items()]

    def _views(self, line: OrderedDict[str, Job]) -> Iterator[JobView]:
        for job in line.values():
            yield self.view(job)

    def view(self, job: Job) -> JobView:
        """The job as the scheduler sees it."""
        return JobView(
            job.job_id,
            job.turn,
            job.waiting,
            job.slots,
            {node_id: (at.leased, at.granted) for node_id, at in job.at.items()},
            job.duration_s,
            self._inputs(job),
            job.next_avoid(),
        )

    def _inputs(self, job: Job) -> dict[str, int]:
        """Bytes of its stdin and placed files that lie on each node."""
        spec = job.spec
        if not spec.files:
            return self._bytes_by_node(spec.stdin_path) if spec.stdin_path else {}
        total: dict[str, int] = {}
        paths = [spec.stdin_path, *(file.path for file in spec.files)]
        for path in filter(None, paths[:LOCALITY_FILES_MAXIMUM]):
            for node_id, size_bytes in self._bytes_by_node(path).items():
                total[node_id] = total.get(node_id, 0) + size_bytes
        return total
