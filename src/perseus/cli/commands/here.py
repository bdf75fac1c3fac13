"""``version``, ``--version`` and ``help``."""

import perseus
from perseus.cli import parser
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.errors import PerseusError
from perseus.settings import PROTOCOL_MAXIMUM, PROTOCOL_MINIMUM


def version(invocation: Invocation) -> int:
    """Of this program, and of the cluster where one answers."""
    cluster = ""
    try:
        context = invocation.context(may_start=False)
        if context is not None:
            cluster = invocation.cluster.info().version
    except PerseusError:
        pass
    return _tell_version(invocation, cluster)


def version_alone(invocation: Invocation) -> int:
    """Of this program, as ``--version``; no cluster is asked."""
    return _tell_version(invocation, "")


def _tell_version(invocation: Invocation, cluster: str) -> int:
    if invocation.console.as_json:
        protocol = [PROTOCOL_MINIMUM, PROTOCOL_MAXIMUM]
        invocation.console.json(
            {"version": perseus.__version__, "protocol": protocol, "cluster_version": cluster}
        )
        return 0
    invocation.console.line(f"perseus {perseus.__version__}")
    if cluster:
        invocation.console.say(f"the cluster runs {cluster}")
    return 0


def show_help(invocation: Invocation) -> int:
    """The help of a command."""
    node = parser.build_parser()
    for word in invocation.options.topic:
        choices = parser.children(node)
        if word not in choices:
            raise UsageError(f"there is no command {word!r}", hint="perseus help")
        node = choices[word]  # type: ignore[assignment]
    text = node.format_help().rstrip()
    if invocation.console.as_json:
        invocation.console.json({"help": text})
    else:
        invocation.console.line(text)
    return 0
