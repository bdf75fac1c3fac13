"""Problems to solve: for each its messages, clients that try a solution, and what must hold.

The problems, and the names and fields of their messages, are those of Maelstrom's workloads
(jepsen-io/maelstrom, doc/workloads.md), so that a solution runs there too. A solution is a
class whose handlers answer the messages::

    from perseus.algo.workloads.echo import Echo, EchoOk

    class Node(Process):
        @on(Echo)
        def echo(self, sender, message):
            self.reply(EchoOk(message.echo))

    perseus sim node.py:Node --workload echo

The clients are ordinary processes: the same layout runs wherever processes run. What a
client and a node exchange may be lost or late, but does not come twice.
"""

from importlib import import_module

from perseus.algo.layout import DEFAULT_GROUP, Group, Layout
from perseus.algo.process import Process
from perseus.errors import InvalidError

# Each name with the class of its clients.
CLIENTS = {
    "echo": "echo:EchoClient",
    "unique-ids": "unique_ids:GenerateClient",
    "broadcast": "broadcast:BroadcastClient",
    "g-set": "g_set:SetClient",
    "g-counter": "counters:GrowingClient",
    "pn-counter": "counters:CounterClient",
    "kafka": "kafka:LogClient",
    "lin-kv": "lin_kv:KvClient",
    "txn-list-append": "txn_list_append:TransactionClient",
}


def client_of(workload: str) -> type[Process]:
    """The class of a problem's clients, whose properties are the problem's; InvalidError."""
    place = CLIENTS.get(workload)
    if place is None:
        raise InvalidError(
            f"there is no workload {workload!r}", hint=f"--workload {'|'.join(CLIENTS)}"
        )
    module, name = place.split(":")
    kind: type[Process] = getattr(import_module(f"{__name__}.{module}"), name)
    return kind


def layout(workload: str, kind: object) -> Layout:
    """Nodes of the class that solves it, and the problem's clients beside them."""
    client = client_of(workload)
    if not (isinstance(kind, type) and issubclass(kind, Process)):
        raise InvalidError(
            f"a workload is solved by one class of processes, and not by {kind!r}",
            hint="FILE:CLASS, without --workload for a Layout",
        )
    clients = Group(client, client.clients, is_client=True, is_connected=True)
    return Layout(**{DEFAULT_GROUP: Group(kind), "client": clients})
