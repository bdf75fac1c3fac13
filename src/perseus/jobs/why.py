"""Why a job waits, was placed where it was, was retried, lost or cancelled: in sentences."""

from collections.abc import Iterable, Sequence

from perseus.jobs import records
from perseus.jobs.plan import Needs, NodeView
from perseus.jobs.records import Entry, TaskRecord
from perseus.jobs.scheduler import matches
from perseus.jobs.state import Jobs
from perseus.jobs.state_ends import size, thawed
from perseus.jobs.state_job import Job

# Of a job with many tasks, those told of one by one.
TASKS_MAXIMUM = 20


def sentences(jobs: Jobs, job: Job, time_s: float) -> list[str]:
    """All there is to say about the job now; ``time_s`` is since 1970."""
    lines = [_summary(job, time_s)]
    if job.waiting:
        lines += _waiting(jobs, job)
    if job.record.cancelled_at_s and job.fresh:
        by = f" by {job.record.cancelled_by}" if job.record.cancelled_by else ""
        lines.append(
            f"{_tasks(job.fresh)} cancelled{by} before they ran, "
            f"{_ago(time_s - job.record.cancelled_at_s)}."
        )
    shown = _interesting(job)
    for task in shown[:TASKS_MAXIMUM]:
        prefix = f"Task {task.index}: " if job.record.count > 1 else ""
        lines += [prefix + _entry(entry, time_s) for entry in task.history]
    if len(shown) > TASKS_MAXIMUM:
        lines.append(f"{len(shown) - TASKS_MAXIMUM} more tasks are not shown.")
    return lines


def waiting(jobs: Jobs, job: Job) -> str:
    """Why the job waits, for those who look on; empty when none of it waits."""
    return " ".join(_waiting(jobs, job)) if job.waiting else ""


def reason(needs: Needs, nodes: Sequence[NodeView]) -> str:
    """Why a task of these needs has no room on any of the nodes, in one sentence."""
    if not nodes:
        return "The cluster has no node yet: perseus join."
    kind = [node for node in nodes if matches(node, needs)]
    if not kind:
        return f"It needs a node {_kind(needs)}; there is none."
    able = [node for node in kind if node.accepts]
    if not able:
        refusals = ", ".join(f"{node.name} {node.refusal}" for node in kind[:TASKS_MAXIMUM])
        return f"No node {_kind(needs)} takes tasks now: {refusals}.".replace("  ", " ")
    for lack in (_never(needs, able), _lacking(needs, able)):
        if lack:
            return lack
    return (
        "A node has room for it, and is kept for a task that has waited longer, "
        "or gives it the room with the next plan."
    )


def _summary(job: Job, time_s: float) -> str:
    words = (
        ("running", records.RUNNING),
        ("leased", records.LEASED),
        ("waiting", records.PENDING),
        ("finished", records.FINISHED),
        ("failed", records.FAILED),
        ("lost", records.LOST),
        ("cancelled", records.CANCELLED),
    )
    counts = [f"{job.counts[state]} {word}" for word, state in words if job.counts[state]]
    since = _ago(time_s - job.record.submitted_at_s)
    return f"Job {job.job_id} was submitted {since}: {_tasks(job.record.count)}, {_list(counts)}."


def _waiting(jobs: Jobs, job: Job) -> list[str]:
    if job.slots <= 0:
        limit = job.record.parallel
        return [f"{_tasks(job.waiting)} wait because only {limit} may run at once (--parallel)."]
    before = jobs.waiting_before(job)
    line = f"{_tasks(job.waiting)} of it wait" + ("s" if job.waiting == 1 else "")
    jobs_before = "1 job stands" if before == 1 else f"{before} jobs stand"
    queue = f", and {jobs_before} before it" if before else ""
    return [f"{line}{queue}. {reason(job.needs, jobs.snapshot().nodes)}"]


def _never(needs: Needs, nodes: Sequence[NodeView]) -> str:
    """All of what no node has, even when it is empty."""
    lacks = []
    if all(node.cpu_milli < needs.cpu_milli for node in nodes):
        best = max(nodes, key=lambda node: node.cpu_milli)
        lacks.append(
            f"It needs {_cores(needs.cpu_milli)}; "
            f"the largest node has {_cores(best.cpu_milli)}: {best.name}."
        )
    if needs.memory_bytes and all(node.memory_bytes < needs.memory_bytes for node in nodes):
        best = max(nodes, key=_free_memory)
        lacks.append(
            f"It needs {size(needs.memory_bytes)} of memory; the largest free is "
            f"{size(_free_memory(best))} on {best.name}, and no node has more than "
            f"{size(max(node.memory_bytes for node in nodes))} in all."
        )
    if needs.disk_bytes and all(node.disk_bytes < needs.disk_bytes for node in nodes):
        best = max(nodes, key=_free_disk)
        lacks.append(
            f"It needs {size(needs.disk_bytes)} of disk; the largest free is "
            f"{size(_free_disk(best))} on {best.name}, and no node has more than "
            f"{size(max(node.disk_bytes for node in nodes))} in all."
        )
    return " ".join(lacks)


def _lacking(needs: Needs, nodes: Sequence[NodeView]) -> str:
    """What is in use now."""
    if needs.memory_bytes and all(_free_memory(node) < needs.memory_bytes for node in nodes):
        best = max(nodes, key=_free_memory)
        return (
            f"It needs {size(needs.memory_bytes)} of memory; "
            f"the largest free is {size(_free_memory(best))} on {best.name}."
        )
    if needs.disk_bytes and all(_free_disk(node) < needs.disk_bytes for node in nodes):
        best = max(nodes, key=_free_disk)
        return (
            f"It needs {size(needs.disk_bytes)} of disk; "
            f"the largest free is {size(_free_disk(best))} on {best.name}."
        )
    if all(_free_cpu(node) < needs.cpu_milli for node in nodes):
        best = max(nodes, key=_free_cpu)
        leased = sum(node.leased for node in nodes)
        return (
            f"It needs {_cores(needs.cpu_milli)}; the most free is {_cores(_free_cpu(best))} "
            f"on {best.name}, as {leased} attempt{'s' * (leased != 1)} run on "
            f"{_nodes(len(nodes))} that it may use."
        )
    if not any(_has_room(node, needs) for node in nodes):
        return "Each node lacks something of what it needs: cores here, memory or disk there."
    return ""


def _has_room(node: NodeView, needs: Needs) -> bool:
    return (
        _free_cpu(node) >= needs.cpu_milli
        and _free_memory(node) >= needs.memory_bytes
        and _free_disk(node) >= needs.disk_bytes
    )


def _free_cpu(node: NodeView) -> int:
    return max(0, node.cpu_milli - node.used_cpu_milli)


def _free_memory(node: NodeView) -> int:
    free = max(0, node.memory_bytes - node.used_memory_bytes)
    return min(free, node.memory_available_bytes) if node.memory_available_bytes else free


def _free_disk(node: NodeView) -> int:
    free = max(0, node.disk_bytes - node.used_disk_bytes)
    return min(free, node.disk_free_bytes) if node.disk_free_bytes else free


def _kind(needs: Needs) -> str:
    """What kind of node is asked for."""
    asked = [f"named {needs.node}"] if needs.node else []
    if needs.architecture:
        asked.append(f"of architecture {needs.architecture}")
    if needs.labels:
        labels = ", ".join(f"{key}={value}" for key, value in needs.labels)
        asked.append(f"with the label{'s' * (len(needs.labels) > 1)} {labels}")
    return _list(asked)


def _interesting(job: Job) -> list[TaskRecord]:
    """Tasks worth telling of: of a small job all, of others those that did not go smoothly."""
    if job.record.count <= TASKS_MAXIMUM:
        return job.tasks
    return [
        task
        for task in job.tasks
        if task.losses or task.failures or task.state not in (records.FINISHED, records.PENDING)
    ]


def _entry(entry: Entry, time_s: float) -> str:
    who, detail = entry.who, entry.detail
    reason = f": {detail}" if detail else ""
    words = {
        records.CAUSE_LEASED: f"placed on {who}{reason}",
        records.CAUSE_RUNNING: f"runs on {who}",
        records.CAUSE_ENDED: f"ended on {who}{reason}",
        records.CAUSE_LOST: f"lost with {who}{reason}",
        records.CAUSE_FAILED_AGAIN: f"failed on {who}{reason}",
        records.CAUSE_CANCEL_ASKED: f"to be cancelled{_by(who)}{reason}",
        records.CAUSE_CANCELLED: f"cancelled{_by(who)}{reason}",
        records.CAUSE_RETRY_ASKED: f"to be tried again{_by(who)}",
        records.CAUSE_GIVEN_UP: f"given up, as {who} did not end it in time",
        records.CAUSE_KEEPING: f"ended on {who}; {detail}",
        records.CAUSE_STOPPED: f"on {who} {detail}",
        records.CAUSE_THAWED: thawed(who),
        records.CAUSE_UNDELIVERED: f"never began on {who}{reason}; placed anew",
    }[entry.cause]
    attempt = f"attempt {entry.attempt} " if entry.attempt else ""
    return f"{attempt}{words}, {_ago(time_s - entry.time_s)}."


def _by(who: str) -> str:
    return f" ({who})" if who else ""


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1.0 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """A time for people: "7 days", "90 min", "5 s"."""
    for unit_s, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds:.0f} s"


def _cores(milli: int) -> str:
    return f"{milli / 1000:g} core{'' if milli == 1000 else 's'}"


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


def _nodes(count: int) -> str:
    return "the one node" if count == 1 else f"the {count} nodes"


def _list(words: Iterable[str]) -> str:
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last
