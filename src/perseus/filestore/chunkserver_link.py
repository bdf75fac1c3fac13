"""The chunkserver's end of the socket pair to its agent (see ``control_messages``)."""

import socket
import threading
from contextlib import suppress

from perseus.filestore import control_messages as messages
from perseus.proto.v1 import agent_pb2


class Link:
    """Sends from any thread, receives in one."""

    def __init__(self, control: socket.socket) -> None:
        self._socket = control
        self._socket.setblocking(True)
        self._sending = threading.Lock()
        self._stream = control.makefile("rb")

    def send(self, message: messages.ToAgent) -> None:
        """Sends a message; quiet when the agent has gone, for then all ends anyway."""
        frame = messages.encode(message)
        with self._sending, suppress(OSError):
            self._socket.sendall(frame)

    def send_event(self, event: agent_pb2.ChunkEvent) -> None:
        """Sends a ChunkEvent."""
        self.send(messages.Events([event.SerializeToString()]))

    def receive(self) -> messages.ToChunkserver | None:
        """The next message; None when the agent has gone."""
        try:
            head = self._stream.read(messages.LENGTH.size)
            if len(head) < messages.LENGTH.size:
                return None
            size = messages.frame_size(head)
            body = self._stream.read(size)
        except OSError:
            return None
        return messages.to_chunkserver.decode(body) if len(body) == size else None
