"""What properties of several algorithms share: notes on one life of a process, and on time.

A crash takes back what was not yet durable, so what a property noted of a process
holds for one of its *lives* only, from one start to the next crash.
"""

from collections.abc import Sequence
from typing import Any

from perseus.algo import View


def notes(view: View[Any]) -> dict[Any, Any]:
    """The property's own notes on the process that changed; empty after each of its starts."""
    process = view.changed
    found: tuple[int, dict[Any, Any]] | None = view.ghost.get(("life", process.id))
    if found is None or found[0] != process.restarts:
        found = (process.restarts, {})
        view.ghost["life", process.id] = found
    return found[1]


def fresh(view: View[Any], items: Sequence[Any]) -> range:
    """The places of what a growing list of the changed process has more than at the last
    look: all of it after a start."""
    mine = notes(view)
    seen: int = mine.get("seen", 0)
    mine["seen"] = len(items)
    return range(seen, len(items))


def lasts(view: View[Any], holds: bool, for_s: float) -> bool:
    """Whether it has held for so long without a break: "from some time on", as far as a run
    with an end can show it."""
    if not holds:
        view.ghost["since"] = None
        return False
    since = view.ghost.get("since")
    if since is None:
        since = view.ghost["since"] = view.now_s
    return view.now_s - since >= for_s
