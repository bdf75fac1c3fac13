"""``perseus algo``: distributed algorithms for real."""

import asyncio

from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.errors import InternalError, PerseusError


def maelstrom(invocation: Invocation) -> int:
    """One node under Maelstrom, until stdin ends."""
    from perseus.algo.maelstrom import serve
    from perseus.sim.load import load

    groups = load(invocation.options.target).groups
    if len(groups) != 1:
        raise UsageError("a Layout of several groups cannot run under Maelstrom", hint="FILE:CLASS")
    ((_, group),) = groups.items()
    try:
        asyncio.run(serve(group.kind))
    except PerseusError:
        raise
    except Exception as error:
        raise InternalError(
            f"a handler raised {type(error).__name__}: {error}", hint="which ends the node"
        ) from error
    return 0
