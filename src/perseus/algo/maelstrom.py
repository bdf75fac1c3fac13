"""Runs a process under Maelstrom: its protocol of JSON lines on stdin and stdout.

As jepsen-io/maelstrom's doc/protocol.md has it: the first message is ``init``, which names
this node and all others; a body has a ``type``, perhaps a ``msg_id`` (asks for a reply) and
``in_reply_to``. A dataclass ``ReadOk(value)`` is the body ``{"type": "read_ok", "value": ...}``,
so an algorithm for Maelstrom defines the workload's messages as classes::

    @dataclass(frozen=True)
    class Echo:
        echo: Any

    @dataclass(frozen=True)
    class EchoOk:
        echo: Any

    class Server(Process):
        @on(Echo)
        def echo(self, sender, message):
            self.reply(EchoOk(message.echo))
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, cast

import msgspec

from perseus.algo.codec import Codec
from perseus.algo.driver import Driver, MemoryJournal
from perseus.algo.kept import opened
from perseus.algo.layout import DEFAULT_GROUP, Layout
from perseus.algo.process import Envelope, Id, Place, Process
from perseus.algo.values import Values
from perseus.errors import InvalidError

# Maelstrom's own numbers of errors.
MALFORMED, NOT_SUPPORTED, CRASH = 12, 10, 13
LINE_MAXIMUM_BYTES = 16 << 20


class Bridge:
    """One node; ``write`` takes the lines that it says."""

    def __init__(self, kind: type[Process], write: Callable[[str], None]) -> None:
        self._kind = kind
        self._write = write
        codec = Codec.of(Layout.of(kind))
        self._values = Values(codec)
        self._types = {snake(c.__name__): c for c in codec._classes.values()}
        self._driver: Driver | None = None
        self._id = ""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, line: str) -> None:
        """One line from Maelstrom."""
        try:
            envelope = json.loads(line)
            source, body = envelope["src"], envelope["body"]
            kind = body["type"]
        except (ValueError, KeyError, TypeError):
            raise InvalidError(f"this is no message of Maelstrom: {line[:200]}") from None
        if kind == "init":
            self._begin(source, body)
        elif self._driver is None:
            self._error(source, body, CRASH, "init has not come yet")
        else:
            self._hand_on(source, body, kind)

    def _begin(self, source: Id, body: dict[str, Any]) -> None:
        self._id = body["node_id"]
        groups = {DEFAULT_GROUP: tuple(body["node_ids"])}
        self._driver = Driver(
            # Its clients are in no group.
            MemoryJournal(),
            self._transmit,
            self._failed,
            self._values,
            knows=lambda to: True,
        )
        self._driver.start(self._kind, Place(self._id, DEFAULT_GROUP, groups))
        self._say(source, {"type": "init_ok", "in_reply_to": body.get("msg_id")})

    def _hand_on(self, source: Id, body: dict[str, Any], kind: str) -> None:
        found = self._types.get(kind)
        if found is None:
            self._error(source, body, NOT_SUPPORTED, f"there is no message {kind}")
            return
        try:
            message = from_body(found, body)
        except InvalidError as error:
            self._error(source, body, MALFORMED, error.message)
            return
        assert self._driver is not None
        number = body.get("msg_id") or 0
        self._driver.deliver(self._id, source, message, number, body.get("in_reply_to") or 0)

    def _transmit(self, sender: Id, envelope: Envelope, mark: int) -> None:
        body = to_body(opened(envelope.message))
        if envelope.number:
            body["msg_id"] = envelope.number
        if envelope.answers:
            body["in_reply_to"] = envelope.answers
        self._say(envelope.to, body)

    def _error(self, to: Id, body: dict[str, Any], code: int, text: str) -> None:
        answer = {"type": "error", "code": code, "text": text}
        self._say(to, answer | {"in_reply_to": body.get("msg_id")})

    def _say(self, to: Id, body: dict[str, Any]) -> None:
        self._write(json.dumps({"src": self._id, "dest": to, "body": body}))

    def _failed(self, process: Process, error: BaseException) -> None:
        if not self.over.done():
            self.over.set_exception(error)


def snake(name: str) -> str:
    """``ReadOk`` as ``read_ok``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _key(name: str) -> str:
    """``from_`` as ``from``, which is no name in Python."""
    return name.removesuffix("_")


def to_body(message: Any) -> dict[str, Any]:
    """A message as a body; what is None is left out."""
    if not is_dataclass(message):
        raise InvalidError(f"{message!r} is no dataclass")
    items = ((_key(field.name), getattr(message, field.name)) for field in fields(message))
    body = {name: msgspec.to_builtins(value) for name, value in items if value is not None}
    return {"type": snake(type(message).__name__), **body}


def from_body(kind: type, body: dict[str, Any]) -> Any:
    """A body as a message, checked by the types of its fields; raises InvalidError."""
    names = {_key(name): name for name in cast(Any, kind).__dataclass_fields__}
    inside = {names[key]: value for key, value in body.items() if key in names}
    try:
        return msgspec.convert(inside, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{body.get('type')}: {error}") from None


async def serve(kind: type[Process]) -> None:
    """Runs until stdin ends; raises what a handler raised."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_MAXIMUM_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    bridge = Bridge(kind, write)

    async def read() -> None:
        while line := await reader.readline():
            if line.strip():
                bridge.take(line.decode())

    reading = asyncio.ensure_future(read())
    await asyncio.wait((reading, bridge.over), return_when=asyncio.FIRST_COMPLETED)
    for each in (reading, bridge.over):
        if each.done():
            each.result()
        else:
            each.cancel()
