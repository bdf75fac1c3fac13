"""The JSON door: ``POST /perseus.v1.Service/Method`` over HTTP/1.1.

The body of a unary request is one JSON object, as is the answer. Where the RPC
streams, requests and responses are NDJSON: one object a line. An error is
``{"error": {...}}`` with its HTTP status; once a stream has begun it is the
stream's last line. ``perseus-timeout-s`` in the head sets a time limit.

The head of a streamed answer is sent with its first line, so that an error
before that has its own status. Who says ``perseus-raw: 1`` in the head gets long
byte strings of a stream behind their line, as they are (``json_codec.emit_raw``);
the answer's content type then ends with ``raw=1``. ``GET /`` and ``GET /healthz`` say that a
daemon is here; ``GET /ca`` gives the authority's certificate to the holder of
a join token, who compares it with his token before he says anything secret.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import h11

from perseus import __version__
from perseus.errors import (
    DeadlineError,
    InvalidError,
    NotFoundError,
    PerseusError,
    TooLargeError,
    UnavailableError,
)
from perseus.identity import roles
from perseus.rpc import json_codec, status
from perseus.rpc.call import Call, Caller
from perseus.rpc.http_connection import GoneError, Headers, HttpConnection
from perseus.rpc.registry import Method, Registry
from perseus.shellwords import as_word

LINE_MAXIMUM_BYTES = 16 << 20
BODY_TIMEOUT_S = 120.0
# What a caller may ask for in perseus-timeout-s.
TIMEOUT_MAXIMUM_S = 30 * 86400.0

_JSON = ("content-type", "application/json")
_NDJSON = ("content-type", "application/x-ndjson")
_RAW_NDJSON = ("content-type", "application/x-ndjson; raw=1")


class JsonDoor:
    """Answers requests of one daemon; holds no state of a connection."""

    def __init__(self, registry: Registry, ca_pem: bytes, cluster_id: str) -> None:
        self._registry = registry
        self._ca_pem = ca_pem
        self._cluster_id = cluster_id

    async def answer(
        self, connection: HttpConnection, request: h11.Request, caller: Caller
    ) -> None:
        """Answers one request of ``caller``."""
        path = _path(request.target)
        exchange = _Exchange(connection, (b"perseus-raw", b"1") in request.headers)
        try:
            if request.method == b"POST":
                await self._call(exchange, request, path, caller)
            elif request.method in (b"GET", b"HEAD") and path not in self._registry.methods:
                self._page(connection, path, caller)
            else:
                self._wrong_verb(connection, request.method.decode("ascii", "replace"), path)
        except PerseusError as error:
            await exchange.fail(error)

    def refuse(self, connection: HttpConnection, error: PerseusError) -> None:
        """Answers a request of somebody who may not call at all."""
        connection.respond(
            status.http_status(error), [_JSON], json_codec.dump(status.to_json(error)) + b"\n"
        )

    def broken(self, connection: HttpConnection, status_code: int, words: str) -> None:
        """Answers what is not HTTP, or too much of it; the connection ends."""
        kind = TooLargeError if status_code == 431 else InvalidError
        error = kind(words, hint="the door speaks HTTP/1.1: docs/http.md")
        body = json_codec.dump(status.to_json(error)) + b"\n"
        connection.respond(status_code, [("connection", "close"), _JSON], body)

    def _wrong_verb(self, connection: HttpConnection, verb: str, path: str) -> None:
        error = InvalidError(
            f"RPCs are called by POST, not by {verb}",
            hint=f"curl's -d makes it one: -d '{{}}' …{as_word(path)}",
        )
        body = json_codec.dump(status.to_json(error)) + b"\n"
        connection.respond(405, [_JSON, ("allow", "POST")], body)

    def _page(self, connection: HttpConnection, path: str, caller: Caller) -> None:
        self._registry.check_caller(caller)
        if path == "/ca":
            content, kind = self._ca_pem, ("content-type", "application/x-pem-file")
        elif path in ("/", "/healthz") and caller.role != roles.TOKEN:
            page: dict[str, Any] = {"status": "SERVING"}
            if path == "/":
                page |= {
                    "cluster_id": self._cluster_id,
                    "version": __version__,
                    "services": self._registry.service_names,
                }
            content, kind = json_codec.dump(page) + b"\n", _JSON
        else:
            raise NotFoundError(
                f"there is no page {path}", hint="call POST /perseus.v1.SERVICE/METHOD"
            )
        connection.respond(200, [kind], content)

    async def _call(
        self, exchange: "_Exchange", request: h11.Request, path: str, caller: Caller
    ) -> None:
        metadata = {
            name.decode("ascii"): value.decode("latin-1") for name, value in request.headers
        }
        timeout_s = _timeout_s(metadata)
        method = self._registry.find(path)
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        call = self._registry.admit(method, path, caller, metadata, deadline_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._serve(exchange, method, call)
        except TimeoutError:
            raise DeadlineError(
                f"{path} took longer than {timeout_s} s",
                hint="allow it more: perseus-timeout-s",
                maybe_done=True,
            ) from None

    async def _serve(self, exchange: "_Exchange", method: Method, call: Call) -> None:
        kind = method.type
        if kind.client_streaming:
            async with aclosing(exchange.messages(kind.request_class)) as requests:
                await self._respond(exchange, method, requests, call)
        else:
            exchange.check_length(call.metadata.get("content-length", ""))
            request = await exchange.message(kind.request_class)
            await self._respond(exchange, method, request, call)

    async def _respond(
        self, exchange: "_Exchange", method: Method, request: Any, call: Call
    ) -> None:
        if not method.type.server_streaming:
            response = await self._registry.respond(method, request, call)
            exchange.connection.respond(200, [_JSON], json_codec.emit(response) + b"\n")
            return
        stream: Any = self._registry.respond_stream(method, request, call)
        async with aclosing(stream) as responses:
            async for response in responses:
                await exchange.write(response)
        exchange.end()


class _Exchange:
    """One request and its answer, as lines of JSON."""

    def __init__(self, connection: HttpConnection, raw: bool) -> None:
        self.connection = connection
        self._raw = raw
        self._begun = False

    def check_length(self, declared: str) -> None:
        """What says itself that it is too large is not waited for."""
        if declared.isdecimal() and int(declared) > LINE_MAXIMUM_BYTES:
            raise _too_large()

    async def message(self, kind: Any) -> Any:
        """The request of a unary call."""
        parts: list[bytes] = []
        size_bytes = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for piece in self._body():
                    size_bytes += len(piece)
                    if size_bytes > LINE_MAXIMUM_BYTES:
                        raise _too_large()
                    parts.append(piece)
        except TimeoutError:
            raise DeadlineError(f"the request did not come within {BODY_TIMEOUT_S} s") from None
        return json_codec.parse(b"".join(parts), kind)

    async def messages(self, kind: Any) -> AsyncGenerator[Any, None]:
        """The requests of a streaming call; empty lines are passed over."""
        buffer = bytearray()
        async for piece in self._body():
            searched = len(buffer)
            buffer += piece
            begin = 0
            while (end := buffer.find(b"\n", max(searched, begin))) >= 0:
                line = bytes(buffer[begin:end])
                begin = end + 1
                if line.strip():
                    yield json_codec.parse(line, kind)
            del buffer[:begin]
            if len(buffer) > LINE_MAXIMUM_BYTES:
                raise _too_large()
        if buffer.strip():
            yield json_codec.parse(bytes(buffer), kind)

    async def _body(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self.connection.body():
                yield piece
        except h11.RemoteProtocolError as error:
            raise InvalidError(f"the request's body is not HTTP: {error}") from None
        except GoneError as error:
            raise UnavailableError(f"the caller went away: {error}") from None

    async def write(self, message: Any) -> None:
        """A message of a streamed answer."""
        self._begin()
        if self._raw:
            await self.connection.write(json_codec.emit_raw(message))
        else:
            await self.connection.write(json_codec.emit(message) + b"\n")

    def end(self) -> None:
        """Ends a streamed answer, also one without a line."""
        self._begin()
        self.connection.end()

    async def fail(self, error: PerseusError) -> None:
        """Tells the error: as the answer, or as the last line of one that has begun."""
        line = json_codec.dump(status.to_json(error)) + b"\n"
        if self._begun:
            await self.connection.write(line)
            self.connection.end()
        else:
            self.connection.respond(status.http_status(error), [_JSON], line)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            headers: Headers = [
                _RAW_NDJSON if self._raw else _NDJSON,
                ("cache-control", "no-store"),
            ]
            self.connection.begin(headers)


def _path(target: bytes) -> str:
    """Of a target in either form: "/path", and "http://host/path" as proxies write it."""
    text = target.decode("ascii", "replace").partition("?")[0]
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return "/" + rest.partition("/")[2]
    return text


def _timeout_s(metadata: dict[str, str]) -> float | None:
    text = metadata.get("perseus-timeout-s")
    if text is None:
        return None
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = -1.0
    if not 0 < timeout_s <= TIMEOUT_MAXIMUM_S:
        raise InvalidError(
            f"perseus-timeout-s: {text!r} is not a time in seconds",
            hint="as in perseus-timeout-s: 30",
        )
    return timeout_s


def _too_large() -> TooLargeError:
    return TooLargeError(
        f"a JSON request of more than {LINE_MAXIMUM_BYTES >> 20} MiB",
        hint="send it in pieces (Files.Write), or by gRPC",
    )
