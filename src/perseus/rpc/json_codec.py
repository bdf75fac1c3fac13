"""Messages as proto3 JSON, one per line where there are many.

Names are taken in snake_case or camelCase and given in snake_case; 64-bit
integers are given as strings, bytes as base64, and fields with their default
value are left out, all as proto3 JSON has it. A field that is not known is an
error, for a mistyped name must not be dropped in silence.
"""

import re
from typing import Any, cast

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from perseus.errors import InvalidError
from perseus.rpc import json_trouble

# Shorter ones are base64 within the line also for who takes raw bytes.
RAW_MINIMUM_BYTES = 4 << 10

_LEVELS = re.compile(r"Failed to parse \w+ field: ")

# Several times as fast as ``json`` with the long base64 strings of output.
_encoder = msgspec.json.Encoder()


def parse(text: bytes, kind: type[Message]) -> Message:
    """A message from JSON; nothing at all is the empty message. Raises InvalidError."""
    message = kind()
    text = text.strip()
    if not text:
        return message
    try:
        if not text.startswith(b"{"):
            raise json_format.ParseError("a JSON object begins with {")
        return json_format.Parse(text, message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(text, kind, error) from None


def _refusal(text: bytes, kind: type[Message], error: Exception) -> InvalidError:
    # Of each level the same words once more; the path at the end says as much.
    said = _LEVELS.sub("", str(error)).rstrip(".")
    descriptor = cast(Descriptor, kind.DESCRIPTOR)
    found = json_trouble.find(text, descriptor)
    said, hint = found or (said, json_trouble.fields_of(descriptor))
    return InvalidError(f"the request is not a {kind.__name__} in JSON: {said}", hint=hint)


def emit(message: Message) -> bytes:
    """A message as one line of JSON, without the line's end."""
    return dump(json_format.MessageToDict(message, preserving_proto_field_name=True))


def emit_raw(message: Message) -> bytes:
    """A message as one line; its long byte strings follow the line as they are, in the order
    and with the sizes that the key "raw_bytes" names."""
    raw = {
        field.name: value
        for field, value in message.ListFields()
        if isinstance(value, bytes) and len(value) >= RAW_MINIMUM_BYTES
    }
    if not raw:
        return emit(message) + b"\n"
    rest = type(message)()
    rest.CopyFrom(message)
    for name in raw:
        rest.ClearField(name)
    answer = json_format.MessageToDict(rest, preserving_proto_field_name=True)
    answer["raw_bytes"] = {name: len(value) for name, value in raw.items()}
    return b"".join((dump(answer), b"\n", *raw.values()))


def dump(value: Any) -> bytes:
    """A JSON value as one line."""
    return _encoder.encode(value)
