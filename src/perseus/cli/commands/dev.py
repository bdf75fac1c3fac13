"""``dev``: a local cluster of real daemons."""

import os
from pathlib import Path

from perseus.amounts import counted
from perseus.cli.commands.setup import parse_settings
from perseus.cli.fast import load_site
from perseus.cli.main import Invocation
from perseus.client.context import find
from perseus.errors import PerseusError
from perseus.shellwords import as_word

FOLDER = "perseus-dev"


def up(invocation: Invocation) -> int:
    """Starts it; the export line goes to stdout, for ``eval``."""
    load_site()
    from perseus.cli import devcluster

    options = invocation.options
    folder = Path(options.dir or FOLDER)
    settings = {
        **{key: str(value) for key, value in invocation.configuration.daemon_settings().items()},
        **parse_settings(options.set),
    }
    context = devcluster.up(options.nodes, folder, settings=settings)
    if invocation.console.as_json:
        invocation.console.json({"context": str(context), "nodes": options.nodes})
        return 0
    run = "1 node runs" if options.nodes == 1 else f"{options.nodes} nodes run"
    invocation.console.say(f"{run} in {folder}; use {'it' if options.nodes == 1 else 'them'} with:")
    invocation.console.line(f"export PERSEUS_CONTEXT={as_word(context)}")
    return 0


def down(invocation: Invocation) -> int:
    """Stops it."""
    load_site()
    from perseus.cli import devcluster

    folder = _folder(invocation)
    count = devcluster.down(folder, remove=invocation.options.remove)
    if invocation.console.as_json:
        invocation.console.json({"stopped": count})
    else:
        are = "is" if count == 1 else "are"
        invocation.console.say(f"{counted(count, 'node')} of {folder} {are} stopped")
    return 0


def status(invocation: Invocation) -> int:
    """A table of its nodes."""
    load_site()
    from perseus.cli import devcluster

    nodes = devcluster.status(_folder(invocation))
    if invocation.console.as_json:
        invocation.console.json(nodes)
        return 0
    rows = [
        (node.name + ("*" if node.is_master else ""), node.state, node.pid or "-", node.address)
        for node in nodes
    ]
    invocation.console.table(("NAME", "STATE", "PID", "ADDRESS"), rows)
    return 0


def kill(invocation: Invocation) -> int:
    """Ends a node at once."""
    return _change(invocation, "kill", "killed")


def pause(invocation: Invocation) -> int:
    """Freezes a node."""
    return _change(invocation, "pause", "paused")


def resume(invocation: Invocation) -> int:
    """Lets a frozen node go on."""
    return _change(invocation, "resume", "resumed")


def restart(invocation: Invocation) -> int:
    """Kills a node and starts it again."""
    return _change(invocation, "restart", "restarted")


def _change(invocation: Invocation, verb: str, done: str) -> int:
    load_site()
    from perseus.cli import devcluster

    node = invocation.options.node
    getattr(devcluster, verb)(_folder(invocation), node)
    if invocation.console.as_json:
        invocation.console.json({"node": node, "done": done})
    else:
        invocation.console.say(f"{node} is {done}")
    return 0


def _folder(invocation: Invocation) -> Path:
    """--dir, else the local cluster whose context is in use, else ./perseus-dev."""
    if invocation.options.dir:
        return Path(invocation.options.dir)
    try:
        context = find(os.environ)
    except PerseusError:
        context = None
    if context is not None and context.path:
        folder = Path(context.path).resolve().parent
        if (folder / "node-1" / "cluster.json").exists():
            return folder
    return Path(FOLDER)
