"""Step 1: a process that answers."""

from perseus.algo import Process, on
from perseus.algo.workloads.echo import Echo, EchoOk


class Node(Process):
    """Says back what it hears."""

    @on(Echo)
    def echo(self, sender, message):
        self.reply(EchoOk(message.echo))
