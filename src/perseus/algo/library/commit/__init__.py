"""Atomic commit: all processes of a transaction commit it, or all abort it.

``TwoPhaseCommit`` is from Gray, "Notes on Data Base Operating Systems" (1978): the
coordinator asks for votes, decides, and tells. Promises, under any faults whose victims
come back with their disks: no process commits what another aborts, and what is committed
had every process's vote. It *blocks*: who has voted yes waits for the coordinator, however
long that is down, unless another knows the outcome.

``ThreePhaseCommit`` is from Skeen, "Nonblocking Commit Protocols" (1981): before the
commit all learn that all voted yes, so that those who live can end a transaction whose
coordinator crashed. Promises the same, without blocking, and only where a message arrives
within a known time (``hop_s``) and silence therefore means a crash; who crashes takes no
part in what was under way, and asks how it ended. A partition looks like crashes to both
sides, and they may end differently: where that can happen, nothing both does not block and
is safe, and consensus on the outcome (Gray and Lamport 2006) blocks only without a majority.
After a crash of all at once it waits for ever; finding who crashed last is left out.
"""

from perseus.algo.library.commit.messages import CommitClient, State
from perseus.algo.library.commit.three_phase import ThreePhaseCommit
from perseus.algo.library.commit.two_phase import TwoPhaseCommit

__all__ = ["CommitClient", "State", "ThreePhaseCommit", "TwoPhaseCommit"]
