"""One dispatch for gRPC and JSON: what is served, who may call it, what errors become.

``Registry.add("Jobs", implementation)`` binds each RPC of the service to the
method of the implementation that has its name in snake case::

    async def submit(self, request, call) -> SubmitResponse          unary
    async def follow(self, request, call): yield FollowEvent(...)    server streaming
    async def write(self, requests, call) -> FileInfo                client streaming
    async def connect(self, requests, call): yield ...               both

where ``requests`` is an async iterator and ``call`` a ``rpc.call.Call``. Every
door (gRPC, JSON over TLS, JSON over the Unix socket) goes through ``admit`` and
then ``respond`` or ``respond_stream``: the one place of a daemon where roles are
checked and exceptions become errors of the protocol. The chunkserver, a process
of its own with one service, asks the same ``check_role`` (docs/decisions/0010).
"""

import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from google.protobuf.message import Message

from perseus import versions
from perseus.errors import InternalError, InvalidError, NotFoundError, PerseusError, RefusedError
from perseus.identity import roles
from perseus.rpc import services
from perseus.rpc.call import Call, Caller
from perseus.rpc.services import MethodType

# Metadata by which a node says for whom it calls: "NAME;ROLE", the name percent-encoded.
ON_BEHALF = "perseus-on-behalf"
ON_BEHALF_CEILING = roles.USER

# By this a caller learns which versions are spoken, so it is served whatever those are.
VERSIONS_PATH = "/perseus.v1.Cluster/GetInfo"

_log = logging.getLogger("perseus.rpc")


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC and what serves it."""

    type: MethodType
    handler: Callable[[Any, Call], Any]
    required_role: int
    node_may_call: bool


class Registry:
    """The services of one daemon."""

    def __init__(self, check_caller: Callable[[Caller], None] | None = None) -> None:
        """``check_caller`` raises RefusedError for those who may not call at all any more,
        such as a node that was removed; it is asked at every call."""
        self._methods: dict[str, Method] = {}
        self._check_caller = check_caller

    def add(self, service_name: str, implementation: object, role: int = 0) -> None:
        """Serves a service; ``role`` is required where its RPCs name none (health, reflection).

        Raises InternalError when an RPC has no role or no method of the right kind.
        """
        bound = [_bind(kind, implementation, role) for kind in _methods(service_name)]
        for method in bound:
            if method.type.path in self._methods:
                raise InternalError(f"{method.type.path} is served twice")
        self._methods.update({method.type.path: method for method in bound})

    def alias(self, service_name: str, other_name: str) -> None:
        """Serves what was added as ``service_name`` under another full name as well."""
        prefix = f"/{services.full_name(service_name)}/"
        for path, method in list(self._methods.items()):
            if path.startswith(prefix):
                self._methods[f"/{other_name}/{path.removeprefix(prefix)}"] = method

    @property
    def methods(self) -> Mapping[str, Method]:
        """All that is served, by path."""
        return self._methods

    @property
    def service_names(self) -> list[str]:
        """Full names of all services, sorted."""
        return sorted({path.split("/")[1] for path in self._methods})

    def find(self, path: str) -> Method:
        """The method of a path; raises NotFoundError."""
        method = self._methods.get(path)
        if method is None:
            raise NotFoundError(f"there is no RPC {path!r} here", hint=self._near(path))
        return method

    def _near(self, path: str) -> str:
        service = path.rpartition("/")[0] + "/"
        methods = sorted(each.removeprefix(service) for each in self._methods if service in each)
        if methods:
            return f"{service.strip('/')} has: {', '.join(methods)}"
        return f"services are: {', '.join(self.service_names)}"

    def check_caller(self, caller: Caller) -> None:
        """Raises RefusedError for those who may not call anything any more."""
        if self._check_caller is not None:
            self._check_caller(caller)

    def admit(
        self,
        method: Method,
        path: str,
        caller: Caller,
        metadata: Mapping[str, str],
        deadline_s: float | None,
    ) -> Call:
        """The interceptor: the call, or RefusedError when the caller may not make it."""
        self.check_caller(caller)
        if versions.OFFER in metadata and path != VERSIONS_PATH:
            versions.check_offer(metadata[versions.OFFER])
        behalf = metadata.get(ON_BEHALF)
        if behalf is not None:
            caller = _represented(caller, behalf)
        check_role(caller, path, method.required_role, method.node_may_call)
        return Call(caller, path, deadline_s, metadata)

    async def respond(self, method: Method, request: Any, call: Call) -> Message:
        """Runs a handler with one response; raises only PerseusError (or is cancelled)."""
        try:
            response = await method.handler(request, call)
            _check_response(method, response)
            return response  # type: ignore[no-any-return]
        except Exception as error:
            raise translated(error, call.path) from None

    async def respond_stream(
        self, method: Method, request: Any, call: Call
    ) -> AsyncIterator[Message]:
        """Runs a handler with many responses; close it with ``aclose`` when done early."""
        try:
            async with aclosing(method.handler(request, call)) as responses:
                async for response in responses:
                    _check_response(method, response)
                    yield response
        except Exception as error:
            raise translated(error, call.path) from None


def check_role(caller: Caller, path: str, required_role: int, node_may_call: bool) -> None:
    """Raises RefusedError when the caller's role does not reach for the RPC."""
    if not roles.allows(caller.role, required_role, node_may_call):
        word = roles.WORDS[required_role]
        raise RefusedError(
            f"{caller} may not call {path}, which takes role {word}",
            hint=f"an admin can make a token for that role: perseus token create --role {word}",
        )


def represent(caller: Caller) -> str:
    """The metadata by which a node says that it calls for ``caller``.

    Raises RefusedError for callers that cannot be represented: nodes speak for
    themselves, and so do holders of tokens.
    """
    role = roles.capped(caller.role, ON_BEHALF_CEILING)
    if role == roles.UNSPECIFIED or caller.via_node_id:
        raise RefusedError(
            f"{caller} is not passed on to the master", hint="call the master itself"
        )
    return f"{quote(caller.name, safe='')};{roles.WORDS[role]}"


def translated(error: Exception, path: str) -> PerseusError:
    """The error for the caller; what is not expected is logged under an id and not shown."""
    if isinstance(error, PerseusError):
        return error
    number = secrets.token_hex(4)
    _log.error("internal error %s in %s", number, path, exc_info=error)
    return InternalError(
        f"{path} failed by a defect of Perseus (error {number})",
        hint=f"the daemon's log says more: look for {number}",
        maybe_done=True,
    )


def _represented(node: Caller, behalf: str) -> Caller:
    """Whom a node calls for; never more than a user, whatever the node says."""
    if node.kind != "node":
        raise RefusedError(f"{node} is not a node and cannot call on behalf of others")
    name, _, word = behalf.partition(";")
    role = roles.capped(roles.parse(word), ON_BEHALF_CEILING)
    if role == roles.UNSPECIFIED or not name:
        raise InvalidError(f"{ON_BEHALF}: {behalf!r} is not NAME;ROLE")
    origin = f"{node.origin} via node {node.name}"
    return Caller(unquote(name), role, "user", origin=origin, via_node_id=node.node_id)


def _methods(service_name: str) -> list[MethodType]:
    try:
        return list(services.methods_of(service_name).values())
    except KeyError:
        raise InternalError(f"the protocol has no service {service_name!r}") from None


def _bind(kind: MethodType, implementation: object, role: int) -> Method:
    required = kind.required_role or role
    if required == roles.UNSPECIFIED:
        raise InternalError(f"{kind.path} has no required_role in the protocol")
    handler = getattr(implementation, kind.python_name, None)
    where = f"{type(implementation).__name__}.{kind.python_name}"
    if handler is None:
        raise InternalError(f"{where} is missing: nothing serves {kind.path}")
    is_right = (
        inspect.isasyncgenfunction(handler)
        if kind.server_streaming
        else inspect.iscoroutinefunction(handler)
    )
    if not is_right:
        shape = "an async generator" if kind.server_streaming else "a coroutine function"
        raise InternalError(f"{where} is not {shape}, which {kind.path} takes")
    return Method(kind, handler, required, kind.node_may_call)


def _check_response(method: Method, response: object) -> None:
    expected = method.type.response_class
    if not isinstance(response, expected):
        raise TypeError(f"the handler gave {type(response).__name__}, not {expected.__name__}")
