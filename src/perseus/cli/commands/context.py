"""``context``: which cluster commands speak to."""

import os

from perseus.cli.main import Invocation
from perseus.client import context as contexts
from perseus.client import store
from perseus.errors import PerseusError


def ls(invocation: Invocation) -> int:
    """A table of contexts; * marks the one in use. Where that cannot be used, which is when a
    person looks for another, it is told beside the table."""
    current, trouble = None, ""
    try:
        current = contexts.find(os.environ)
    except PerseusError as error:
        trouble = str(error)
    known = store.known(os.environ)
    in_use = os.path.realpath(current.path) if current is not None else ""
    if current is not None and all(os.path.realpath(one.path) != in_use for one in known):
        known.insert(0, current)
    if invocation.console.as_json:
        invocation.console.json(
            [
                {
                    "name": one.name,
                    "current": os.path.realpath(one.path) == in_use,
                    "cluster_id": one.cluster_id,
                    "address": one.address,
                    "socket": one.socket,
                    "file": one.path,
                }
                for one in known
            ]
        )
        return _end(invocation, trouble)
    rows = [
        (
            "*" if os.path.realpath(one.path) == in_use else "",
            one.name,
            one.cluster_id,
            one.address or one.socket,
            one.path,
        )
        for one in known
    ]
    invocation.console.table(("", "NAME", "CLUSTER", "ADDRESS", "FILE"), rows)
    if not rows:
        invocation.console.say("none; perseus init, join, login or dev up make one")
    return _end(invocation, trouble)


def _end(invocation: Invocation, trouble: str) -> int:
    if trouble:
        invocation.console.say(trouble)
    return 125 if trouble else 0


def use(invocation: Invocation) -> int:
    """Makes a context the one in use."""
    name = invocation.options.name
    context = store.use(name, os.environ)
    if invocation.console.as_json:
        invocation.console.json({"name": context.name, "file": context.path})
    else:
        invocation.console.say(f"context {context.name} is in use")
    if os.environ.get("PERSEUS_CONTEXT"):
        invocation.console.warn("PERSEUS_CONTEXT is set and goes before it: unset PERSEUS_CONTEXT")
    return 0
