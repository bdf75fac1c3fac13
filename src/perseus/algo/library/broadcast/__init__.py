"""Broadcast: what one says to all, with more and more promised of what they hear.

From Cachin, Guerraoui, Rodrigues, "Introduction to Reliable and Secure Distributed
Programming" (2011), chapters 3 and 6. In all of them nothing is delivered that was not said, or
twice, and what a process says that does not die for good, all the living deliver.

| class | promises besides |
|---|---|
| ``BestEffort`` | nothing: what one says that dies, some may hear and others not |
| ``Reliable`` | agreement: what one of the living delivers, all of them do |
| ``Causal`` | and what was heard before something was said is delivered before it |
| ``TotalOrder`` | and all deliver the same in the same order; what the dead heard too |

The first three stand on perfect links, which keep what is under way through crashes. The last
stands on Raft, for total order is consensus (Chandra and Toueg 1996): a sequencer with
epochs would need an agreement on each hand-over, what the sequencer before it had
numbered included, and so would be Raft's election and log by another name.

One process of the group dies for good during a run (``mortal``).
"""

from perseus.algo.library.broadcast import properties
from perseus.algo.library.broadcast.causal import Causal
from perseus.algo.library.broadcast.reliable import BestEffort, Broadcast, Reliable
from perseus.algo.library.broadcast.total import TotalOrder

__all__ = ["BestEffort", "Broadcast", "Causal", "Reliable", "TotalOrder", "properties"]
