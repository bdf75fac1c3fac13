"""A whole simulated cluster, and what must hold of it: the invariants of ARCHITECTURE.md.

``make sim`` runs it, and ``perseus sim tests.sim.cluster.layout:cluster --faults steady``:
Perseus measures its leases by monotonic clocks.
"""

from perseus.algo import Group, Layout, Process, View, always, at_end, eventually, sometimes
from perseus.filestore.namespace_tree import File, Inode
from perseus.ids import parse_attempt
from perseus.jobs import records
from tests.sim.cluster.agent import Agent
from tests.sim.cluster.clients import Submitter, Writer
from tests.sim.cluster.master import Master

AGENTS = 4

cluster = Layout(
    # What they send is what Perseus's machines take, protobuf's messages among it.
    master=Group(Master, 1, is_simulated=True),
    node=Group(Agent, AGENTS),
    submitter=Group(Submitter, 1, is_client=True),
    writer=Group(Writer, 2, is_client=True),
)


# Leases and epochs of attempts.


@always(Agent)
def a_task_runs_on_one_node(view: View[Agent]) -> None:
    """Invariant 3: a node stops its attempts before they are leased elsewhere."""
    mine = {parse_attempt(attempt)[:2] for attempt in view.changed.acts()}
    if not mine:
        return
    for other in view.processes:
        if other is not view.changed:
            for attempt in other.acts():
                assert parse_attempt(attempt)[:2] not in mine, f"{attempt} runs twice"


@always(Agent)
def an_epoch_has_one_holder(view: View[Agent]) -> None:
    """Invariant 2: the number of an attempt is given to one node, ever."""
    agent = view.changed
    for attempt in (*agent.queue, *agent.running):
        holder = view.ghost.setdefault(attempt, agent.id)
        assert holder == agent.id, f"{attempt} is leased to {agent.id} and was to {holder}"


@always(Master)
def an_end_is_final(view: View[Master]) -> None:
    """Invariants 1 and 4: what became of a task's attempt does not change."""
    master = view.changed
    if view.ghost.get("life") != master.restarts:
        # What was not committed when the master died has not happened.
        view.ghost.clear()
        view.ghost["life"] = master.restarts
    for job_id in master.changed:
        job = master.jobs.find(job_id)
        for task in job.tasks if job is not None else ():
            if task.state == records.FINISHED:
                first = view.ghost.setdefault((job_id, task.index), task.attempt)
                assert first == task.attempt, f"{job_id}.{task.index} finished twice"


# Once all is quiet.


@eventually(cluster, within_s=300.0)
def all_comes_to_rest(view: View[Process]) -> bool:
    """Jobs end, files are closed, replicas are made anew, garbage goes."""
    if view.now_s < view.ghost.get("next", 0.0) or not isinstance(view.changed, Agent):
        return False
    view.ghost["next"] = view.now_s + 1.0
    if not any(isinstance(one, Master) for one in view.processes):
        return False
    master, agents = _parts(view)
    if len(agents) < AGENTS or any(not agent.connected for agent in agents):
        return False
    if any(job.active for job in master.jobs.jobs().values()):
        return False
    files = [inode for inode in _inodes(master) if isinstance(inode, File)]
    known = {chunk for file in files for chunk, _ in file.parts}
    on_disks = {chunk for agent in agents for chunk in agent.held}
    is_whole = not master.replication.under_replicated and not master.replication.lost
    return all(file.writer is None for file in files) and is_whole and on_disks == known


@at_end(cluster)
def outputs_are_there_once(view: View[Process]) -> None:
    """Invariant 4: of a finished task, the output of the attempt that ended it, and no other."""
    master, agents = _parts(view)
    finished = {attempt: agent.id for agent in agents for attempt in agent.finished}
    for job in master.jobs.jobs().values():
        for task in job.tasks:
            if task.state != records.FINISHED:
                continue
            attempt = f"{job.job_id}.{task.index}.{task.attempt}"
            path = f"/jobs/{job.job_id}/{task.index}/stdout"
            said = master.namespace.inode_at(path)
            assert isinstance(said, File)
            content = said.inline.decode()
            assert content.startswith(f"{attempt} on "), f"{path} holds {content!r}"
            node = content.rpartition(" ")[2]
            assert finished.get(attempt, node) == node, f"{path} is of another node"


@at_end(cluster)
def no_acknowledged_job_is_lost(view: View[Process]) -> None:
    """Invariant 1: what was answered to a client is there."""
    master, _ = _parts(view)
    for client in view.processes:
        if isinstance(client, Submitter):
            for job_id, count in client.jobs.items():
                job = master.jobs.find(job_id)
                assert job is not None and job.record.count == count, f"{job_id} is lost"


@at_end(cluster)
def no_acknowledged_byte_is_lost(view: View[Process]) -> None:
    """Invariant 5: each byte that was acknowledged can be read from a live replica."""
    master, agents = _parts(view)
    for writer in view.processes:
        if not isinstance(writer, Writer):
            continue
        for path, size in writer.acknowledged.items():
            if writer.state[path] in ("removed", "open"):
                continue
            inode = master.namespace.find(path)
            if inode is None:
                assert size == 0, f"{path} of {size} bytes is gone"
                continue
            assert isinstance(inode, File)
            if inode.writer is not None:
                continue
            number = int(path.rpartition("/")[2])
            content = _content(master, agents, inode, path)
            wanted = bytes((offset * 7 + number) % 251 for offset in range(len(content)))
            assert content == wanted, f"{path} has bytes of others"
            closed = writer.state[path] == "closed"
            assert len(content) == size if closed else len(content) >= size, (
                f"{path} has {len(content)} of {size} bytes"
            )


@at_end(cluster)
def replicas_converge(view: View[Process]) -> None:
    """Invariants 5 and 6: sealed chunks have their replicas, all alike, and nothing is left of
    those that no file holds."""
    master, agents = _parts(view)
    held = {agent.id: agent.held for agent in agents}
    for inode in _inodes(master):
        if not isinstance(inode, File) or inode.writer is not None:
            continue
        for chunk, length in inode.parts:
            located = master.replication.located(chunk)
            assert located is not None
            copies = [held[node][chunk] for node in located.nodes if chunk in held[node]]
            contents = {copy.data[:length] for copy in copies if copy.sealed}
            assert len(contents) == 1, f"replicas of chunk {chunk} differ"


@sometimes(Master)
def a_task_is_lost_and_finishes(view: View[Master]) -> bool:
    """The runs do lose attempts, and tasks do get over it."""
    for job_id in view.changed.changed:
        job = view.changed.jobs.find(job_id)
        for task in job.tasks if job is not None else ():
            if task.state == records.FINISHED and task.losses:
                return True
    return False


@sometimes(Writer)
def a_chain_breaks_and_the_file_is_closed(view: View[Writer]) -> bool:
    """The runs do break chains."""
    writer = view.changed
    return bool(getattr(writer, "avoid", ())) and writer.state[writer.path] == "closed"


@sometimes(Agent)
def an_attempt_stands_still_and_goes_on(view: View[Agent]) -> bool:
    """The runs do have masters that come back to what is leased still."""
    return view.changed.thawed > 0


@sometimes(Agent)
def a_replica_is_copied(view: View[Agent]) -> bool:
    """The runs do make replicas anew."""
    fetched = any(held.sealed and held.version > 1 for held in view.changed.held.values())
    return fetched


def _parts(view: View[Process]) -> tuple[Master, list[Agent]]:
    (master,) = [one for one in view.processes if isinstance(one, Master)]
    return master, [one for one in view.processes if isinstance(one, Agent)]


def _inodes(master: Master) -> list[Inode]:
    return list(master.namespace._state.tree.inodes.values())


def _content(master: Master, agents: list[Agent], file: File, path: str) -> bytes:
    held = {agent.id: agent.held for agent in agents}
    content = b""
    for chunk, length in file.parts:
        located = master.replication.located(chunk)
        assert located is not None, f"chunk {chunk} of {path} is not known"
        copies = [
            held[node][chunk].data[:length]
            for node in located.nodes
            if chunk in held[node] and len(held[node][chunk].data) >= length
        ]
        assert copies, f"chunk {chunk} of {path} is on no node"
        content += copies[0]
    return content
