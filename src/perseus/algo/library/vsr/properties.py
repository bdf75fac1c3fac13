"""What must hold of Viewstamped Replication, and that the runs get somewhere."""

from typing import Any

from perseus.algo import View, always, eventually, sometimes
from perseus.algo.library.vsr.messages import Request
from perseus.algo.library.vsr.replica import Replica, Status
from perseus.algo.library.vsr.storage import InMemory


@always(Replica)
def one_request_is_committed_for_a_place(view: View[Replica]) -> None:
    """What one replica commits at a place, all do."""
    replica = view.changed
    seen: dict[Any, int] = view.ghost.setdefault("seen", {})
    first: dict[int, Request] = view.ghost.setdefault("first", {})
    life = (replica.id, replica.restarts)
    for place in range(seen.get(life, 0), replica.commit):
        request = replica.log[place]
        known = first.setdefault(place, request)
        said = f"{replica.id} commits {request} at {place + 1}, which was {known}"
        assert known == request, said
    seen[life] = replica.commit


@always(Replica)
def a_view_has_one_order(view: View[Replica]) -> bool:
    """Two backups of a view do not hold different requests at the place they have got to."""
    replica = view.changed
    if replica.status is not Status.NORMAL or replica.is_primary or not replica.log:
        return True
    last = replica.log[-1]
    known: Request = view.ghost.setdefault((replica.view, len(replica.log)), last)
    return known == last


@always(Replica)
def views_only_grow(view: View[Replica]) -> bool:
    """In one life, no replica goes back to an earlier view."""
    replica = view.changed
    life = (replica.id, replica.restarts)
    before: int = view.ghost.get(life, replica.view)
    view.ghost[life] = replica.view
    return replica.view >= before


@eventually(Replica, within_s=20.0)
def all_who_live_are_normal_in_one_view(view: View[Replica]) -> bool:
    """And all of them commit something new in it."""
    commits = [replica.commit for replica in view.processes]
    first: int = view.ghost.setdefault("first", max(commits, default=0))
    is_normal = all(replica.status is Status.NORMAL for replica in view.processes)
    views = {replica.view for replica in view.processes}
    return is_normal and len(views) == 1 and min(commits, default=0) > first


@sometimes(Replica)
def a_second_view_begins(view: View[Replica]) -> bool:
    """A primary is replaced."""
    return view.changed.is_primary and view.changed.view > 0


@sometimes(Replica)
def a_primary_takes_over_a_request(view: View[Replica]) -> bool:
    """A new primary finds a request that was not known to be committed."""
    return view.changed.is_primary and view.changed.taken_over > 0


@sometimes(InMemory)
def a_replica_recovers(view: View[InMemory]) -> bool:
    """And knows what had been committed before its crash."""
    replica = view.changed
    return replica.restarts > 0 and replica.status is Status.NORMAL and replica.commit > 0
