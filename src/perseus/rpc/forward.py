"""Passing on what another daemon serves: a node's door to its master.

``registry.add("Jobs", forwarding("Jobs", stub_of, address))`` serves every RPC
of a service by calling the same one at the master, with the metadata that says
for whom; the master believes it of nodes, and never more than role user.
Streams pass in both directions, cancellation and time limits as well.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from perseus.errors import PerseusError
from perseus.rpc import services
from perseus.rpc.call import Call
from perseus.rpc.registry import ON_BEHALF, represent
from perseus.rpc.stubs import AioStub


def forwarding(service_name: str, channel: Callable[[], Any], address: Callable[[], str]) -> object:
    """An implementation for ``Registry.add`` that forwards the whole service.

    ``channel`` gives the ``grpc.aio`` channel to the master as it is now, and
    ``address`` where it leads, for messages; both may raise UnavailableError.
    """
    forwarder = _Forwarder(service_name, channel, address)
    return SimpleNamespace(
        **{
            kind.python_name: forwarder.many(kind.name)
            if kind.server_streaming
            else forwarder.one(kind.name)
            for kind in services.methods_of(service_name).values()
        }
    )


class _Forwarder:
    """Makes handlers; keeps the stub of the channel it saw last."""

    def __init__(
        self, service_name: str, channel: Callable[[], Any], address: Callable[[], str]
    ) -> None:
        self._service_name = service_name
        self._channel = channel
        self._address = address
        self._known: tuple[Any, AioStub] | None = None

    def one(self, name: str) -> Callable[[Any, Call], Any]:
        """A handler with one response."""

        async def forward(request: Any, call: Call) -> Any:
            with _Requests(request) as requests:
                return await self._stub().call(
                    name, requests, timeout_s=call.remaining_s(), metadata=_metadata(call)
                )

        return forward

    def many(self, name: str) -> Callable[[Any, Call], Any]:
        """A handler with many responses."""

        async def forward(request: Any, call: Call) -> AsyncIterator[Any]:
            with _Requests(request) as requests:
                stream: Any = self._stub().stream(
                    name, requests, timeout_s=call.remaining_s(), metadata=_metadata(call)
                )
                async with aclosing(stream) as responses:
                    async for response in responses:
                        yield response

        return forward

    def _stub(self) -> AioStub:
        channel = self._channel()
        if self._known is None or self._known[0] is not channel:
            self._known = (channel, AioStub(channel, self._service_name, self._address()))
        return self._known[1]


class _Requests:
    """A request, or a stream of them, on its way through.

    gRPC only cancels its call when the stream of requests raises; here the
    cause is kept, and raised in place of what became of the call.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._cause: PerseusError | None = None

    def __enter__(self) -> Any:
        return self._pass() if hasattr(self._request, "__aiter__") else self._request

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._cause is not None:
            raise self._cause

    async def _pass(self) -> AsyncIterator[Any]:
        try:
            async for request in self._request:
                yield request
        except PerseusError as error:
            self._cause = error
            raise


def _metadata(call: Call) -> dict[str, str]:
    return {ON_BEHALF: represent(call.caller)}
