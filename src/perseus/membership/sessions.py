"""The master's outbound queues, one for each node's live session.

Effects reach the session that was live when their step was taken, or none: an
OpenSession, which comes first among the effects of a node's Connect, replaces the
queue of the older session and ends its stream. What waits rides in one message.
"""

import asyncio
from collections import deque

from perseus.errors import LeaseLostError, PerseusError, UnavailableError
from perseus.membership.events import AcknowledgeAttempts, Direct, EndSession, OpenSession
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Effect

# Directives and acknowledgements that wait for one node; above it its stream is ended,
# and the new Hello sets right what was lost with it.
OUTBOX_MAXIMUM = 50_000
MESSAGE_MAXIMUM_DIRECTIVES = 1024
MESSAGE_MAXIMUM_BYTES = 1 << 20


class Outbox:
    """What waits to be sent to one session."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._directives: deque[agent_pb2.Directive] = deque()
        self._acknowledged: list[str] = []
        # The latest heartbeat to answer; 0 for none. It answers those before it, too.
        self._heartbeat = 0
        self._heartbeat_at_s = 0.0
        # How far the master's state was on disk when it came.
        self._state_mark: agent_pb2.StateMark | None = None
        self._wake = asyncio.Event()
        self._ended = False
        self._error: PerseusError | None = None

    def direct(self, directive: agent_pb2.Directive) -> None:
        """Adds a directive."""
        self._directives.append(directive)
        self._added()

    def acknowledge(self, attempts: tuple[str, ...]) -> None:
        """Adds acknowledgements."""
        self._acknowledged.extend(attempts)
        self._added()

    def answer(
        self, heartbeat: int, time_s: float, state_mark: agent_pb2.StateMark | None = None
    ) -> None:
        """Answers a heartbeat, and tells how far the master's state is on disk; ``time_s`` is
        now, since 1970, by the master's clock."""
        self._heartbeat = heartbeat
        self._heartbeat_at_s = time_s
        self._state_mark = state_mark
        self._wake.set()

    def end(self, error: PerseusError | None = None) -> None:
        """No more is sent: ``take`` raises the error, or returns None. The first end counts."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._directives.clear()
            self._acknowledged.clear()
            self._wake.set()

    async def take(self) -> agent_pb2.MasterMessage | None:
        """All that waits, up to the size of a message; waits while there is nothing."""
        await self._wake.wait()
        if self._ended:
            if self._error is not None:
                raise self._error
            return None
        message = agent_pb2.MasterMessage()
        if self._heartbeat:
            message.heartbeat_answer.number = self._heartbeat
            message.heartbeat_answer.time_s = self._heartbeat_at_s
            if self._state_mark is not None:
                message.state_mark.CopyFrom(self._state_mark)
            self._heartbeat = 0
        message.acknowledged_attempts.extend(self._acknowledged)
        self._acknowledged.clear()
        size_bytes = 0
        while self._directives and size_bytes < MESSAGE_MAXIMUM_BYTES:
            size_bytes += self._directives[0].ByteSize()
            message.directives.append(self._directives.popleft())
            if len(message.directives) == MESSAGE_MAXIMUM_DIRECTIVES:
                break
        if not self._directives:
            self._wake.clear()
        return message

    def _added(self) -> None:
        if self._ended:
            return
        if len(self._directives) + len(self._acknowledged) > OUTBOX_MAXIMUM:
            self.end(UnavailableError(f"more than {OUTBOX_MAXIMUM} messages wait for this node"))
        self._wake.set()


class Sessions:
    """Delivers what the machines have for nodes."""

    # The effects that it delivers.
    effects = (Direct, AcknowledgeAttempts, OpenSession, EndSession)

    def __init__(self) -> None:
        self._outboxes: dict[str, Outbox] = {}

    def deliver(self, effect: Effect) -> bool:
        """Delivers one of ``effects``; False for any other. Never blocks."""
        match effect:
            case Direct(node_id, directive):
                if (outbox := self._outboxes.get(node_id)) is not None:
                    outbox.direct(directive)
            case AcknowledgeAttempts(node_id, attempts):
                if (outbox := self._outboxes.get(node_id)) is not None:
                    outbox.acknowledge(attempts)
            case OpenSession(node_id, session):
                self._end(node_id, LeaseLostError("this node has a newer stream"))
                self._outboxes[node_id] = Outbox(session)
            case EndSession(node_id, reason):
                self._end(node_id, LeaseLostError(f"this node's session is over: {reason}"))
            case _:
                return False
        return True

    def outbox(self, node_id: str, session: int) -> Outbox:
        """The queue of a session; raises LeaseLostError when it is over already."""
        outbox = self._outboxes.get(node_id)
        if outbox is None or outbox.session != session:
            raise LeaseLostError("this node has a newer stream")
        return outbox

    def close(self, node_id: str, session: int) -> None:
        """The stream of a session has ended: nothing waits for it any more."""
        outbox = self._outboxes.get(node_id)
        if outbox is not None and outbox.session == session:
            outbox.end()
            del self._outboxes[node_id]

    def close_all(self) -> None:
        """Ends every stream, when the master stops."""
        for node_id in list(self._outboxes):
            self._end(node_id, UnavailableError("the master is stopping"))

    def _end(self, node_id: str, error: PerseusError) -> None:
        outbox = self._outboxes.pop(node_id, None)
        if outbox is not None:
            outbox.end(error)
