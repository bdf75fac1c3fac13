"""Echo, as short as it is."""

from perseus.algo import Id, Process, on
from perseus.algo.workloads.echo import Echo, EchoOk


class Node(Process):
    """Answers."""

    @on(Echo)
    def echo(self, sender: Id, message: Echo) -> None:
        self.reply(EchoOk(message.echo))
