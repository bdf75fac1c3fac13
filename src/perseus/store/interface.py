"""What the master asks of a store, whichever it is.

A store is an ordered map from bytes to bytes. It promises:

- A commit is durable when it returns, and so is every commit called before it.
- A commit is all or nothing, also when the process is killed or the power fails.
- Commits take effect in the order in which they were called.
- A commit that was called happens even when its caller is cancelled.
- A commit that finds no room on the disk waits for it, and all later ones behind it:
  the state machine in memory has moved on, so it can be neither refused nor left out.
  ``shortage`` says that it is so, to those who may still refuse.
- A commit that fails otherwise is final: it and every later one raise the same error,
  for only a restart can bring memory and disk together.

``store.conformance`` checks all of it against any implementation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from perseus.errors import FullError
from perseus.runtime.machine import Write


class Store(Protocol):
    """An ordered, durable map from bytes to bytes. Hot state is the machines' to keep."""

    @property
    def schema_version(self) -> int:
        """The version of the layout in which the keys lie on disk."""

    def items(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """All durable keys that begin with ``prefix`` and their values, sorted by key."""

    async def commit(self, writes: Sequence[Write]) -> None:
        """Durable when it returns, after every commit called before; see the module.

        The write of a key that comes later in ``writes`` wins. No writes: a barrier,
        which costs next to nothing when nothing is under way. Raises CorruptError when
        the file is damaged, FullError when it is closed while it waits for room,
        UnavailableError else.
        """

    def shortage(self) -> FullError | None:
        """Why nothing that takes room should be begun just now; None while there is room."""

    def commit_latency_s(self) -> float:
        """How long a commit takes: the slowest of the last minute or the one under way, if
        that is longer already."""

    def backup(self, path: Path) -> None:
        """Writes a consistent copy to ``path``, replacing it; blocks, so call it in a thread."""

    def close(self) -> None:
        """Waits for what was committed, then releases the store. Safe to call twice."""
