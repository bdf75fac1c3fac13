"""``nodes`` and what changes them."""

from perseus.cli import runspec, units
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.client.messages import NodeInfo
from perseus.shellwords import as_word

# A clock that is off by more is worth a word.
CLOCK_SKEW_MAXIMUM_S = 2.0
HEADS = ("NAME", "ADDRESS", "STATE", "CPU", "MEMORY", "DISK", "LOAD", "TASKS", "VERSION")


def ls(invocation: Invocation) -> int:
    """A table of the nodes."""
    nodes = sorted(invocation.cluster.nodes(), key=lambda node: node.name)
    if invocation.console.as_json:
        invocation.console.json(nodes)
        return 0
    invocation.console.table(HEADS, [_row(node) for node in nodes])
    for node in nodes:
        if abs(node.clock_skew_s) > CLOCK_SKEW_MAXIMUM_S:
            way = "ahead of" if node.clock_skew_s > 0 else "behind"
            off_s = abs(node.clock_skew_s)
            invocation.console.say(
                f"{node.name} has a clock {off_s:.0f} s {way} the master's; perseus doctor"
            )
    return 0


def _row(node: NodeInfo) -> tuple[object, ...]:
    resources, load = node.capacity.resources, node.load
    # A node that has come just now, or was never heard, has told neither yet.
    is_measured, is_loaded = resources.cpu > 0, load.memory_available_bytes > 0
    return (
        node.name + ("*" if node.is_master else ""),
        node.address or "-",
        node.state,
        f"{resources.cpu:g}" if is_measured else "-",
        _room(load.memory_available_bytes, resources.memory_bytes) if is_loaded else "-",
        _room(load.disk_free_bytes, resources.disk_bytes) if is_loaded else "-",
        f"{load.cpu:.0%}" if is_loaded else "-",
        node.tasks,
        node.version or "-",
    )


def _room(free_bytes: int, all_bytes: int) -> str:
    return f"{units.format_size(free_bytes)}/{units.format_size(all_bytes)}"


def drain(invocation: Invocation) -> int:
    """No new tasks for these nodes."""
    return _set_draining(invocation, True)


def undrain(invocation: Invocation) -> int:
    """Tasks for these nodes again."""
    return _set_draining(invocation, False)


def _set_draining(invocation: Invocation, draining: bool) -> int:
    for name in invocation.options.node:
        _show(invocation, invocation.cluster.update_node(name, draining=draining))
    return 0


def label(invocation: Invocation) -> int:
    """Sets labels; an empty value takes one away."""
    labels = dict(_label(word) for word in invocation.options.label)
    _show(invocation, invocation.cluster.update_node(invocation.options.node, labels=labels))
    return 0


def _label(word: str) -> tuple[str, str]:
    if word.endswith("=") and word != "=":
        return word[:-1], ""
    return runspec.pair(word, "label")


def rm(invocation: Invocation) -> int:
    """The nodes leave for good."""
    for name in invocation.options.node:
        invocation.cluster.remove_node(name, force=invocation.options.force)
        if invocation.console.as_json:
            invocation.console.json({"removed": name})
        else:
            invocation.console.say(f"node {name} is out of the cluster")
    return 0


def _show(invocation: Invocation, node: NodeInfo) -> None:
    if invocation.console.as_json:
        invocation.console.json(node)
        return
    labels = " ".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    invocation.console.say(f"node {node.name} is {node.state}  {labels}".rstrip())


def parse_labels(words: list[str]) -> dict[str, str]:
    """``--label NAME=VALUE`` of a new node."""
    labels = dict(runspec.pair(word, "--label") for word in words)
    if len(labels) < len(words):
        names = [runspec.pair(word, "--label")[0] for word in words]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            f"the label {twice} is given twice",
            hint=f"a label has one value: --label {as_word(f'{twice}={labels[twice]}')}",
        )
    return labels
