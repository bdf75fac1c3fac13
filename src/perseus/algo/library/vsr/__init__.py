"""Viewstamped Replication: a log in an order that a view's primary gives, and a map that follows.

From Liskov and Cowling, "Viewstamped Replication Revisited" (2012), and Oki and Liskov,
"Viewstamped Replication" (1988). In each *view* one replica is primary; which one follows
from the view's number. It gives requests their places, and what a majority has is
committed. Who hears nothing of the primary starts the next view, whose primary begins with
the best log of a majority.

``Vsr`` keeps log and view on disk: after a crash it goes on where it was. ``InMemory`` keeps
the log in memory alone, as the paper does: after a crash it takes part in nothing until the
others have told it what it may have known (``Recovery``). It keeps the view's number on disk,
as the paper of 1988 does. The later paper keeps nothing; then what a replica sent before
it crashed arrives after it has recovered and promised something else, and a request that
was committed is lost (Michael, Ports, Sharma and Szekeres, "Recovering Shared Objects
Without Stable Storage", 2017).

Promises: no two replicas commit different requests for one place; a request is done once,
and each answer fits one copy of the map (reads go through the log as well). While a
majority is up and hears each other, requests get through. ``Vsr`` promises this whatever
crashes; ``InMemory`` while those that have crashed and not yet recovered are fewer than half.
The log is kept whole: cutting it is as in Raft (``library.raft``) and left out here.
"""

from perseus.algo.library.vsr import properties as _properties
from perseus.algo.library.vsr.replica import Replica, Status
from perseus.algo.library.vsr.storage import InMemory, Vsr

__all__ = ["InMemory", "Replica", "Status", "Vsr"]

# Importing them is what registers them.
assert _properties
