"""What is wrong with a request in JSON, in the words of who wrote it.

The library that reads it names fields as ``camelCase``, and takes a number where text belongs
for a defect. It is looked for here only once that library has refused the request.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

# What surrounds it is said by the path already.
_FRAME = re.compile(r"Failed to parse \w+ field: | at [\w.]+\.?$")


class Trouble(NamedTuple):
    """What is said of a request, and what its writer can do."""

    message: str
    hint: str


def find(text: bytes, kind: Descriptor) -> Trouble | None:
    """The first trouble that has a name here: an unknown field, a word that is none, no text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return next(_of_message(value, kind, kind.name), None)


def _of_message(value: Any, kind: Descriptor, where: str) -> Iterator[Trouble]:
    if not isinstance(value, dict):
        yield Trouble(f"{where} is no object", f"write it as {{…}}; {fields_of(kind)}")
        return
    known = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    for name, given in value.items():
        if name not in known:
            yield Trouble(f"{where} has no field {name[:80]!r}", fields_of(kind))
        elif given is not None:
            yield from _of_field(given, known[name], f"{where}.{known[name].name}")


def _of_field(value: Any, field: FieldDescriptor, where: str) -> Iterator[Trouble]:
    below = field.message_type
    if below is not None and below.GetOptions().map_entry:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from _of_value(one, below.fields_by_name["value"], f"{where}[{key[:80]!r}]")
        else:
            yield Trouble(f"{where} is no object", 'write it as {"NAME": VALUE}')
    elif not field.is_repeated:
        yield from _of_value(value, field, where)
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _of_value(one, field, f"{where}[{place}]")
    else:
        yield Trouble(f"{where} is no list", "write it as [VALUE, VALUE]")


def _of_value(value: Any, field: FieldDescriptor, where: str) -> Iterator[Trouble]:
    if field.message_type is not None:
        yield from _of_message(value, field.message_type, where)
    elif field.type == FieldDescriptor.TYPE_STRING and not isinstance(value, str):
        yield Trouble(f"{where} is no text but {json.dumps(value)[:80]}", "put it in quotes")
    elif field.enum_type is not None and isinstance(value, str):
        words = [one.name for one in field.enum_type.values if one.number]
        if value not in field.enum_type.values_by_name:
            yield Trouble(f"{where} cannot be {value[:80]!r}", f"it is one of {', '.join(words)}")
    elif said := _refused(value, field):
        page = page_of(cast(Descriptor, field.containing_type))
        yield Trouble(f"{where} cannot be {json.dumps(value)[:80]}: {said}", f"what it is: {page}")


def _refused(value: Any, field: FieldDescriptor) -> str:
    """What is said of a number or of bytes where it stands alone; empty when nothing is."""
    alone = message_factory.GetMessageClass(cast(Descriptor, field.containing_type))()
    try:
        json_format.ParseDict({field.name: [value] if field.is_repeated else value}, alone)
    except json_format.ParseError as error:
        return _FRAME.sub("", str(error)).rstrip(".")
    return ""


def fields_of(kind: Descriptor) -> str:
    """A hint that names the fields of a message and the page about it."""
    names = ", ".join(field.name for field in kind.fields) or "none"
    return f"the fields of {kind.name} are: {names}; {page_of(kind)}"


def page_of(kind: Descriptor) -> str:
    """Where the reference speaks of a message."""
    return f"docs/reference/protocol.md#{kind.name.lower()}"
