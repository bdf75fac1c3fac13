"""One HTTP/1.1 connection on the server's side, over any asyncio transport.

It moves bytes and knows HTTP (by h11), no RPC: ``JsonDoor`` decides what a
request means. All is bounded: the head (16 KiB, 100 headers), the body and its time
by the caller, what is buffered by pausing the transport. When the peer goes
away, the task that serves the connection is cancelled, and with it the handler.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import h11

# From the start of a connection until its first request is there.
FIRST_REQUEST_TIMEOUT_S = 10.0
# Between two requests.
IDLE_TIMEOUT_S = 300.0
# h11 holds a head that has not ended to as much.
HEAD_MAXIMUM_BYTES = 16 << 10
HEADERS_MAXIMUM = 100
UNREAD_MAXIMUM_BYTES = 256 << 10
# What is read and thrown away after an early answer, so that the peer gets to read it.
DISCARD_MAXIMUM_BYTES = 32 << 20
DISCARD_TIMEOUT_S = 5.0

Headers = list[tuple[str, str]]


class GoneError(Exception):
    """The peer went away or says no more."""


class HttpConnection(asyncio.Protocol):
    """``answer`` is called for each request, one after the other, in one task; ``refuse``
    with a status and words for what is not HTTP, after which the connection ends."""

    def __init__(
        self,
        answer: Callable[["HttpConnection", h11.Request], Awaitable[None]],
        refuse: Callable[["HttpConnection", int, str], None],
        on_closed: Callable[["HttpConnection"], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer = answer
        self._refuse = refuse
        self._on_closed = on_closed
        self._http = h11.Connection(h11.SERVER, HEAD_MAXIMUM_BYTES)
        self._is_head = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._unread_bytes = 0
        self._reading = True
        self._head: h11.Response | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._unread_bytes += len(data)
        if self._waiter is not None:
            self._wake()
        elif self._unread_bytes > UNREAD_MAXIMUM_BYTES and self._reading:
            self._transport.pause_reading()
            self._reading = False

    def connection_lost(self, error: Exception | None) -> None:
        # A peer that ends its sending side is taken for gone as well: eof_received
        # of the base class lets the transport close, which leads here.
        if self._task is not None:
            self._task.cancel()
        self._on_closed(self)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def close(self) -> None:
        """Ends the connection and whatever it serves."""
        if self.transport is not None:
            self.transport.abort()

    async def closed(self) -> None:
        """Closes, and returns when the handler that ran has ended."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the request's body, in pieces."""
        while True:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise GoneError(f"a body was interrupted by {type(event).__name__}")
            yield bytes(event.data)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole response in one write; to HEAD all but the body."""
        headers = [*headers, ("content-length", str(len(body)))]
        response = h11.Response(status_code=status, headers=headers)
        parts = [self._http.send(response)]
        if body and not self._is_head:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))

    def begin(self, headers: Headers) -> None:
        """Starts a response of unknown length; its head goes out with the first piece."""
        self._head = h11.Response(status_code=200, headers=headers)

    async def write(self, piece: bytes) -> None:
        """A piece of a response that was begun; waits while the peer does not read."""
        head = self._take_head()
        self._transport.write(head + (self._http.send(h11.Data(data=piece)) or b""))
        if self._writable is not None:
            await self._writable

    def end(self) -> None:
        """Ends a response that was begun."""
        head = self._take_head()
        self._transport.write(head + (self._http.send(h11.EndOfMessage()) or b""))

    @property
    def _transport(self) -> asyncio.Transport:
        if self.transport is None or self.transport.is_closing():
            raise GoneError("the peer went away")
        return self.transport

    def _take_head(self) -> bytes:
        head, self._head = self._head, None
        return b"" if head is None else (self._http.send(head) or b"")

    async def _serve(self) -> None:
        try:
            timeout_s = FIRST_REQUEST_TIMEOUT_S
            while (request := await self._request(timeout_s)) is not None:
                await self._answer(self, request)
                if not await self._reusable():
                    break
                timeout_s = IDLE_TIMEOUT_S
        except h11.RemoteProtocolError as error:
            with contextlib.suppress(GoneError):
                self._refuse_broken(error)
        except (GoneError, h11.LocalProtocolError, TimeoutError):
            pass
        finally:
            if self.transport is not None:
                self.transport.close()

    def _refuse_broken(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(self, error.error_status_hint, str(error))

    async def _request(self, timeout_s: float) -> h11.Request | None:
        """The next request; None when the peer has no more."""
        handle = asyncio.get_running_loop().call_later(timeout_s, self.close)
        try:
            event = await self._event()
        finally:
            handle.cancel()
        if not isinstance(event, h11.Request):
            return None
        self._is_head = event.method == b"HEAD"
        _check_head(event)
        return event

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.PAUSED:
                raise GoneError("the peer sends more than it may")
            if event is not h11.NEED_DATA:
                return cast(h11.Event, event)
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._transport.write(self._http.send(go_on) or b"")
            await self._wait()

    async def _wait(self) -> None:
        self._unread_bytes = 0
        if not self._reading:
            self._transport.resume_reading()
            self._reading = True
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _reusable(self) -> bool:
        """Makes ready for the next request, if there can be one."""
        if self._http.their_state is h11.SEND_BODY:
            if self._http.they_are_waiting_for_100_continue:
                return False
            async with asyncio.timeout(DISCARD_TIMEOUT_S):
                await self._discard()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _discard(self) -> None:
        left_bytes = DISCARD_MAXIMUM_BYTES
        async for piece in self.body():
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise GoneError("too much to throw away")


def _check_head(request: h11.Request) -> None:
    """What h11 does not look at in a head that comes in one piece."""
    size_bytes = len(request.method) + len(request.target)
    size_bytes += sum(len(name) + len(value) for name, value in request.headers)
    if size_bytes > HEAD_MAXIMUM_BYTES or len(request.headers) > HEADERS_MAXIMUM:
        raise h11.RemoteProtocolError(
            f"a head of more than {HEAD_MAXIMUM_BYTES >> 10} KiB or {HEADERS_MAXIMUM} headers",
            error_status_hint=431,
        )
