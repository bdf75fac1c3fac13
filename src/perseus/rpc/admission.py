"""Whether a TLS server has admitted a client, told from outside by what crosses the wire.

The relay cannot read what it carries, but a server that asks for a certificate
says nothing of its own before it has seen one. Its first answer, and another to
a client that has to begin anew, start with a handshake record. What it says
later, in answer to the client's certificate, is an encrypted record: an alert, which is
short, or the beginning of the conversation. A pure machine.
"""

_APPLICATION_DATA = b"\x17\x03"
_HEADER_BYTES = 5
# An encrypted alert has 2 bytes, what its kind and the cipher add comes to 24 at most.
_ALERT_MAXIMUM_BYTES = 26


class Admission:
    """Of one connection. A turn is what one side says before the other speaks again."""

    def __init__(self) -> None:
        self.is_admitted = False
        self._turns = 0
        self._client_spoke = False

    def client_spoke(self) -> None:
        """Bytes have come from the client."""
        self._client_spoke = True

    def server_spoke(self, data: bytes | memoryview) -> None:
        """Bytes have come from the server, these."""
        if not self._client_spoke:
            return
        self._client_spoke = False
        self._turns += 1
        if self._turns > 1 and bytes(data[:2]) == _APPLICATION_DATA:
            length = int.from_bytes(data[3:_HEADER_BYTES], "big")
            self.is_admitted = length > _ALERT_MAXIMUM_BYTES
