"""What clients of all problems have in common: one request after the other, and a history."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, Process, View, always, eventually
from perseus.algo.history import Operation

# Maelstrom's numbers of errors.
TIMEOUT, NOT_SUPPORTED, UNAVAILABLE, MALFORMED, CRASH, ABORT = 0, 10, 11, 12, 13, 14
KEY_MISSING, KEY_EXISTS, PRECONDITION_FAILED, CONFLICT = 20, 21, 22, 30
# After these what was asked for may have happened, or happen later; after others it has not.
INDEFINITE = (TIMEOUT, CRASH)


@dataclass(frozen=True, slots=True)
class Error:
    """The answer when there is no other."""

    code: int
    text: str = ""


class Caller(Process):
    """Asks one node or another, waits for the answer or long enough, and asks the next thing."""

    clients = 3
    servers = "n"
    pause_s = (0.0, 1.0)
    patience_s = 2.0

    # By class of request the class of its answer, beside Error.
    answers: ClassVar[Mapping[type, type]] = {}

    def start(self) -> None:
        self.nodes = self.group(self.servers)
        # In the order of their beginnings. A request without an answer has no end.
        self.history: list[Operation] = []
        # An answer that does not fit its question.
        self.strange = ""
        self.after(self.pause_s, self._call)

    def draw(self) -> tuple[Id, Any]:
        """Whom to ask next, and what."""
        raise AssertionError("a subclass knows")

    def learn(self, node: Id, operation: Operation) -> None:
        """An answer that fits has come."""

    @property
    def number(self) -> int:
        """Which of the clients this is, from 0."""
        return self.everyone.index(self.id)

    def any_node(self) -> Id:
        """One of the nodes."""
        return self.nodes[self.random.below(len(self.nodes))]

    def _call(self) -> None:
        node, what = self.draw()
        self.history.append(Operation(self.id, what, self.now))
        self.request(
            node,
            what,
            timeout_s=self.patience_s,
            on_reply=self._answered,
            on_timeout=self._next,
        )

    def _answered(self, node: Id, answer: Any) -> None:
        operation = self.history[-1]
        if isinstance(answer, Error):
            if answer.code not in INDEFINITE:
                operation.end(self.now, answer)
        elif isinstance(answer, self.answers[type(operation.what)]):
            operation.end(self.now, answer)
            self.learn(node, operation)
        else:
            self.strange = f"{node} answers {operation.what} with {answer}"
        self._next()

    def _next(self) -> None:
        self.after(self.pause_s, self._call)


def has_failed(operation: Operation) -> bool:
    """It is known not to have happened."""
    return isinstance(operation.result, Error)


def is_done(operation: Operation) -> bool:
    """It is known to have happened."""
    return operation.is_over and not isinstance(operation.result, Error)


@always(Caller)
def answers_fit_their_questions(view: View[Caller]) -> None:
    """A read is answered by what was read, and so on."""
    assert not view.changed.strange, view.changed.strange


@eventually(Caller, within_s=60.0)
def every_client_is_answered(view: View[Caller]) -> bool:
    """When the faults are over, the nodes work again."""
    begun = view.ghost.setdefault("begun", {})
    for client in view.processes:
        seen, is_answered = begun.get(client.id, (len(client.history), False))
        fresh = client.history[seen:]
        is_answered = is_answered or any(is_done(operation) for operation in fresh)
        # The last one may still be under way.
        begun[client.id] = (max(seen, len(client.history) - 1), is_answered)
    return all(is_answered for _, is_answered in begun.values())
