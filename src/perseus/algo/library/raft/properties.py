"""What must hold of Raft: figure 3 of the paper, and that the runs get somewhere."""

from perseus.algo import Id, View, always, eventually, sometimes
from perseus.algo.library.raft.messages import Entry, Role
from perseus.algo.library.raft.server import Raft


@always(Raft)
def one_leader_in_a_term(view: View[Raft]) -> bool:
    """Election safety (figure 3)."""
    server = view.changed
    if server.role is not Role.LEADER:
        return True
    leader: Id = view.ghost.setdefault(server.term, server.id)
    return leader == server.id


@always(Raft)
def what_is_committed_stays(view: View[Raft]) -> None:
    """State machine safety: no two servers commit different entries at one index (figure 3)."""
    server = view.changed
    life = (server.id, server.restarts)
    known: int = view.ghost.get(life, 0)
    if known == server.commit:
        return
    committed: dict[int, Entry] = view.ghost.setdefault("committed", {})
    checked = max(known, server.base)
    for index in range(checked + 1, server.commit + 1):
        entry = server.log[index - server.base - 1]
        first = committed.setdefault(index, entry)
        assert first == entry, f"{server.id} has {entry} at {index}, which was {first}"
    view.ghost[life] = server.commit


@always(Raft)
def a_leader_has_all_that_is_committed(view: View[Raft]) -> None:
    """Leader completeness (figure 3), looked at when a leader begins."""
    leader = view.changed
    if leader.role is not Role.LEADER or view.ghost.get(leader.id) == leader.term:
        return
    view.ghost[leader.id] = leader.term
    committed: int = max((server.commit for server in view.processes), default=0)
    higher = any(server.term > leader.term for server in view.processes)
    assert higher or leader.last_index >= committed, f"{leader.id} lacks entries up to {committed}"


@eventually(Raft, within_s=20.0)
def one_leads_and_all_follow(view: View[Raft]) -> bool:
    """The live servers agree who leads."""
    leaders = {server.id for server in view.processes if server.role is Role.LEADER}
    followed = {server.leader for server in view.processes}
    return len(leaders) == 1 and followed == leaders


@sometimes(Raft)
def a_second_leader_is_elected(view: View[Raft]) -> bool:
    """A leader is replaced."""
    return view.changed.role is Role.LEADER and view.changed.term > 1
