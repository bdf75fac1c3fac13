"""What must hold of broadcasts (modules 3.1, 3.2, 3.9 and 6.1)."""

from typing import Any

from perseus.algo import Id, View, always, eventually, sometimes
from perseus.algo.library.broadcast.causal import Causal
from perseus.algo.library.broadcast.reliable import BestEffort, Broadcast, Key, Reliable
from perseus.algo.library.broadcast.total import TotalOrder
from perseus.algo.library.ghosts import fresh, lasts, notes


@always(Broadcast)
@always(TotalOrder)
def what_is_delivered_was_said_and_comes_once(view: View[Any]) -> None:
    """No creation, no duplication."""
    process, said, seen = view.changed, view.ghost, notes(view)
    said[process.id] = max(process.said, said.get(process.id, 0))
    for place in fresh(view, process.delivered):
        origin, number = key = process.delivered[place]
        assert number <= said.get(origin, 0), f"{origin} never said {number}"
        assert key not in seen, f"{process.id} delivers {key} twice"
        seen[key] = True


@eventually(Broadcast, within_s=90.0)
@eventually(TotalOrder, within_s=90.0)
def all_hear_what_the_living_say(view: View[Any]) -> bool:
    """Validity."""
    living = {process.id for process in view.processes}
    wanted = sum(process.said for process in view.processes)
    if any(process.said < process.items for process in view.processes):
        return False
    return all(
        sum(origin in living for origin, _ in process.delivered) == wanted
        for process in view.processes
    )


def all_agree(view: View[Any]) -> bool:
    """Agreement: what one of the living delivers, all of them do. Nothing comes after it."""
    some = view.changed
    is_over = len(view.processes) <= len(some.everyone) - some.deaths
    length = len(some.delivered)
    right = is_over and all(len(process.delivered) == length for process in view.processes)
    if right and view.ghost.get("length") != length:
        # Looked at closely when something is new, and not at each step.
        right = len({frozenset(process.delivered) for process in view.processes}) == 1
    view.ghost["length"] = length if right else None
    return lasts(view, right, 5.0)


eventually(Reliable, within_s=90.0)(all_agree)
eventually(TotalOrder, within_s=90.0)(all_agree)


@always(Causal)
def causes_come_before_effects(view: View[Causal]) -> None:
    """Causal delivery, by the true past of each item: all that its origin delivered before."""
    process = view.changed
    mine = notes(view)
    delivered: set[Key] = mine.setdefault("delivered", set())
    pasts: dict[Key, frozenset[Key]] = view.ghost.setdefault("pasts", {})
    for place in fresh(view, process.delivered):
        key = process.delivered[place]
        if key[0] == process.id:
            pasts[key] = frozenset(delivered)
        missing = pasts.get(key, frozenset()) - delivered
        assert not missing, f"{process.id} delivers {key} before {sorted(missing)}"
        delivered.add(key)


@always(TotalOrder)
def all_deliver_in_one_order(view: View[TotalOrder]) -> None:
    """Total order and uniform agreement: each has delivered a beginning of one sequence."""
    process = view.changed
    order: list[Key] = view.ghost.setdefault("order", [])
    for place in fresh(view, process.delivered):
        item = process.delivered[place]
        if place == len(order):
            order.append(item)
        assert order[place] == item, f"{process.id} has {item} where others have {order[place]}"


@sometimes(BestEffort)
def an_item_is_delivered_of_a_process_that_is_down(view: View[BestEffort]) -> bool:
    """What was said outlives who said it, at least for a while."""
    delivered = view.changed.delivered
    living: list[Id] = [process.id for process in view.processes]
    return bool(delivered) and delivered[-1][0] not in living


@sometimes(Causal)
def an_item_waits_for_its_causes(view: View[Causal]) -> bool:
    """It came too early."""
    return bool(view.changed.waiting)


@sometimes(TotalOrder)
def everybody_is_heard(view: View[TotalOrder]) -> bool:
    """Also those that do not lead."""
    heard = {origin for origin, _ in view.changed.delivered}
    return len(heard) == len(view.changed.everyone)
