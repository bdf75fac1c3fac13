"""Keeps a gRPC server with a port of its own away from the process' limit of descriptors.

gRPC takes every connection, and corrupts its memory when there is no descriptor
left for one. The chunkserver's port cannot lie behind a front, for its bytes
should not be copied once more. So a thread looks whenever connections come.
Where more than half of the descriptors are taken the kernel drops what else
wants to connect (who means it tries again within a second or so), and the
thread ends connections from which no call was admitted, the oldest first, until
they take no more than a quarter.

A connection is ended by shutting its socket down; the descriptor stays gRPC's,
to close. What a flood can still do: a member whose connecting falls into it waits
for some seconds, or is cut off, and tries again.
"""

import ctypes
import logging
import os
import select
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

from perseus.runtime import descriptors

BACKLOG_MAXIMUM = 512
# Between two looks while there are too many.
LOOK_S = 0.005
# Between two looks that found nobody to end.
HELPLESS_S = 0.1
_LOG_INTERVAL_S = 60.0
# Of Linux: a socket filter, here of the one instruction "drop it" (BPF_RET | BPF_K, 0).
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)

_log = logging.getLogger("perseus.rpc")


class StrangerGuard:
    """Of the listener at ``port``, which this process has open already."""

    def __init__(self, port: int, limit: int | None = None) -> None:
        self._port = port
        self._limit = limit or descriptors.limit()
        self._listener = _find_listener(port)
        # Those who wait to be taken cannot be turned away any more.
        self._listener.listen(min(BACKLOG_MAXIMUM, self._limit // 8))
        self._stop, self._stopping = os.pipe2(os.O_CLOEXEC)
        # Peers whose calls were admitted, the latest last.
        self._members: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        # Connections that were strangers' at the look before, the oldest first.
        self._seen: dict[str, None] = {}
        self._logged_s = -_LOG_INTERVAL_S

    def start(self) -> None:
        """Begins to look, in a thread of its own."""
        threading.Thread(target=self._run, name="stranger-guard", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread."""
        os.close(self._stopping)

    def admitted(self, peer: str) -> None:
        """A call was admitted from ``peer``, which is written as gRPC does."""
        name = unquote(peer.partition(":")[2])
        with self._lock:
            self._members[name] = None
            self._members.move_to_end(name)
            if len(self._members) > self._limit:
                self._members.popitem(last=False)

    def _run(self) -> None:
        with self._listener, select.epoll() as epoll:
            # Edge-triggered: woken by each connection that comes, and never by one that waits.
            epoll.register(self._listener, select.EPOLLIN | select.EPOLLET)
            epoll.register(self._stop, select.EPOLLIN)
            while self._stop not in dict(epoll.poll()):
                while self._taken() >= self._limit // 2:
                    time.sleep(LOOK_S if self._relieve() else HELPLESS_S)
                self._let_in(True)
        os.close(self._stop)

    def _taken(self) -> int:
        """How many descriptors are taken without a gap: the lowest free one's number."""
        try:
            lowest = os.dup(self._stop)
        except OSError:
            return self._limit
        os.close(lowest)
        return lowest

    def _relieve(self) -> int:
        """Lets nobody in, and ends strangers' connections; how many.

        Where there is none to end, those who come are members, and let in.
        """
        self._let_in(False)
        with self._lock:
            members = set(self._members)
        strangers = [name for name, _ in self._connections() if name not in members]
        known = set(strangers)
        old = [name for name in self._seen if name in known]
        order = old + [name for name in strangers if name not in self._seen]
        leaving = set(order[: max(0, len(order) - self._limit // 4)])
        for name, connection in self._connections():
            if name in leaving:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._let_in(not leaving)
        self._seen = dict.fromkeys(name for name in order if name not in leaving)
        if leaving and time.monotonic() - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = time.monotonic()
            _log.warning("ended %d connections that nobody made himself known on", len(leaving))
        return len(leaving)

    def _let_in(self, do: bool) -> None:
        """Whether the kernel takes connections; this acts at once, and on those alone
        that are still to be made."""
        with suppress(OSError):
            if do:
                self._listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            else:
                code = ctypes.create_string_buffer(_DROP_ALL)
                program = struct.pack("HP", 1, ctypes.addressof(code))
                self._listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def _connections(self) -> Iterator[tuple[str, socket.socket]]:
        """Those that were made to the port, each with its peer's name."""
        for connection in _own_sockets():
            with suppress(OSError):
                if connection.getsockname()[1] == self._port:
                    yield _name(connection.getpeername()), connection


def _own_sockets() -> Iterator[socket.socket]:
    """The internet sockets of this process, one at a time under a descriptor of ours.

    What has a number may change at any moment; the duplicate does not.
    """
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError as error:
        _log.warning("connections cannot be looked through: %s", error)
        return
    for number in numbers:
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            duplicate = os.dup(int(number))
        except OSError:
            continue
        with socket.socket(fileno=duplicate) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6):
                yield found


def _find_listener(port: int) -> socket.socket:
    for found in _own_sockets():
        is_listener = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if is_listener and found.getsockname()[1] == port:
            return found.dup()
    raise LookupError(f"this process does not listen at port {port}")


def _name(address: tuple[object, ...]) -> str:
    """An address as gRPC writes it, without its kind."""
    host, port = str(address[0]).removeprefix("::ffff:"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
