"""Raft: a log that a majority agrees on, and a state machine that follows it.

From Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm"
(2014), and Ongaro's dissertation (2014): pre-vote (9.6), one-server membership
changes (4.1), snapshots (5), sessions for exactly-once commands (6.3) and
linearizable reads by a round of heartbeats (6.4).

``Raft`` replicates commands; what they do is a subclass's to say (``apply``, ``answer``,
``save``, ``restore``), as a function of the state and the command alone.
``Service`` takes requests at every server and brings them to the leader.
"""

from perseus.algo.library.raft import properties
from perseus.algo.library.raft.messages import (
    ChangeServers,
    Done,
    Entry,
    NotLeader,
    Propose,
    Query,
    Role,
    Snapshot,
)
from perseus.algo.library.raft.server import Raft
from perseus.algo.library.raft.service import Service

__all__ = [
    "ChangeServers",
    "Done",
    "Entry",
    "NotLeader",
    "Propose",
    "Query",
    "Raft",
    "Role",
    "Service",
    "Snapshot",
    "properties",
]
