"""Distributed algorithms that read like the textbook and run unchanged everywhere.

The whole public surface::

    class Echo(Process):                    one process; the algorithm is a class of them
        timeout_s = 1.0                     options are class attributes
        client, clients = Caller, 3         who uses it while it is simulated, and how many
        term: int = durable(0)              survives a crash
        log: list[Entry] = durable([])      so do lists, dicts and sets

        def start(self): ...                at birth, and again after each crash
        @on(Ping)                           a handler for each type of message
        def ping(self, sender, message): ...
        def unhandled(self, sender, message): ...       one without a handler is a mistake, else

    self.id   self.peers   self.everyone   self.majority   self.now   self.random
    self.send(to, message)                  may be lost, late, doubled, out of order
    self.broadcast(message)                 to all peers; to="acceptors" for another group
    self.after(seconds, handler, *args)     a Timer; (low, high) draws the seconds; .cancel()
    self.handle(sender, message)            now: what a message of another layer carried
    self.request(to, message, timeout_s=, on_reply=, on_timeout=)   self.reply(message)
    self.asker                              keep it, and self.reply(message, asker) later
    self.spawn(Class, name, **options)      a process beside this one   self.stop()
    self.group(name)                        the ids of a named group
    self.restarts                           how often it has started before

    @always(Echo)   @eventually(Echo, within_s=10)   @sometimes(Echo)   @at_end(Echo)
    def it_holds(view): ...                 a View: .processes .changed .ghost .now_s .began_s
    Layout(servers=Group(Server, 3), clients=Group(Client, 2))           more than one class
    Id   Timer   Asker                      for annotations: a name, of after, of self.asker

A run follows from its seed: chance is ``self.random``, with ``random()``, ``uniform(low,
high)`` and ``below(count)``, and time is ``self.now``; not ``random``, ``time`` or ``id()``.
Messages are frozen dataclasses. One handler is one atomic step: it runs, what is
durable is persisted, then what was sent leaves. It never waits. An exception in
it is a crash of its node, and the algorithm must survive crashes.
"""

from perseus.algo.durability import durable
from perseus.algo.layout import Group, Layout
from perseus.algo.process import Asker, Id, Process, Timer, on
from perseus.algo.properties import View, always, at_end, eventually, sometimes

__all__ = [
    "Asker",
    "Group",
    "Id",
    "Layout",
    "Process",
    "Timer",
    "View",
    "always",
    "at_end",
    "durable",
    "eventually",
    "on",
    "sometimes",
]
