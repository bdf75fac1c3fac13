"""The protocol's reference page, from the protos and their comments."""

import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from perseus.proto.v1 import common_pb2

ROOT = Path(__file__).resolve().parent.parent
# Numbers of fields in descriptor.proto; they make up the paths of comments.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE, FILE_SYNTAX = 4, 5, 6, 12
MESSAGE_FIELD, SERVICE_METHOD, ENUM_VALUE = 2, 2, 2

Field = descriptor_pb2.FieldDescriptorProto
File = descriptor_pb2.FileDescriptorProto
Comments = dict[tuple[int, ...], str]

INTRODUCTION = """\
# The protocol, perseus.v1

Made from `proto/perseus/v1/*.proto` by `make docs`; do not edit.

Every RPC is served as gRPC and, by the same handler, as JSON:
`POST /perseus.v1.Service/Method` (see [http.md](../http.md)). Beside each RPC
stands the least role that may call it.
"""


def _files() -> list[File]:
    """The protos of perseus.v1 with their comments."""
    protos = sorted(str(path) for path in (ROOT / "proto/perseus/v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "descriptors")
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"),
                *("--include_source_info", f"--descriptor_set_out={target}", *protos),
            ],
            check=True,
        )
        found = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    return [file for file in found.file if file.package == "perseus.v1"]


@cache
def _words() -> dict[str, str]:
    """The meanings that common.proto gives to field names once for all messages."""
    text = (ROOT / "proto/perseus/v1/common.proto").read_text()
    return dict(re.findall(r"(?m)^//   (\w+): (.+)$", text))


def _meaning(path: tuple[int, ...], name: str, comments: Comments) -> str:
    """A field's own comment, or else what its name means everywhere."""
    return comments.get(path) or _words().get(name, "")


def _comments(file: File) -> Comments:
    return {
        tuple(place.path): " ".join((place.leading_comments or place.trailing_comments).split())
        for place in file.source_code_info.location
        if place.leading_comments or place.trailing_comments
    }


def page() -> str:
    """The whole page as Markdown."""
    return INTRODUCTION + "".join(_file(file) for file in _files())


def undocumented() -> list[str]:
    """RPCs, fields and enum values without a comment, as Service.Method or Message.field."""
    return [name for file in _files() for name in _bare(file, _comments(file))]


def ambiguous() -> list[str]:
    """Shared words whose one meaning stands for fields of several types, or for no field."""
    types: dict[str, set[str]] = {name: set() for name in _words()}
    for file in _files():
        comments = _comments(file)
        for path, message in _messages(file):
            for index, field in enumerate(message.field):
                if (*path, MESSAGE_FIELD, index) not in comments and field.name in types:
                    types[field.name].add(_kind(field, message))
    return [
        f"shared word {name} of {' and '.join(sorted(found)) or 'no field'}"
        for name, found in types.items()
        if len(found) != 1
    ]


def _kind(field: Field, message: descriptor_pb2.DescriptorProto) -> str:
    """Its type; all whole numbers are of one."""
    return re.sub(r"\bu?int(32|64)\b", "int", _type(field, message))


def _bare(file: File, comments: Comments) -> list[str]:
    bare = []
    for number, service in enumerate(file.service):
        for index, method in enumerate(service.method):
            if (FILE_SERVICE, number, SERVICE_METHOD, index) not in comments:
                bare.append(f"RPC {service.name}.{method.name}")
    for path, message in _messages(file):
        for index, field in enumerate(message.field):
            if not _meaning((*path, MESSAGE_FIELD, index), field.name, comments):
                bare.append(f"field {message.name}.{field.name}")
    for number, enum in enumerate(file.enum_type):
        for index, value in enumerate(enum.value):
            known = (FILE_ENUM, number, ENUM_VALUE, index) in comments
            if not known and value.number != 0:
                bare.append(f"value {enum.name}.{value.name}")
    return bare


def _messages(file: File) -> list[tuple[tuple[int, ...], descriptor_pb2.DescriptorProto]]:
    """Each message with its path; the entries of maps are left out."""
    return [((FILE_MESSAGE, number), message) for number, message in enumerate(file.message_type)]


def _file(file: File) -> str:
    comments = _comments(file)
    name = file.name.rpartition("/")[2]
    parts = [f"\n## {name}\n\n{comments.get((FILE_SYNTAX,), '')}\n"]
    parts += [_service(file, number, comments) for number in range(len(file.service))]
    parts += [_message(path, message, comments) for path, message in _messages(file)]
    parts += [_enum(file, number, comments) for number in range(len(file.enum_type))]
    return "".join(parts)


def _service(file: File, number: int, comments: Comments) -> str:
    service = file.service[number]
    lines = [f"\n### service {service.name}\n\n"]
    if text := comments.get((FILE_SERVICE, number)):
        lines.append(f"{text}\n\n")
    lines.append("| RPC | takes | gives | role | what it does |\n|---|---|---|---|---|\n")
    for index, method in enumerate(service.method):
        takes = "stream " * method.client_streaming + _link(method.input_type)
        gives = "stream " * method.server_streaming + _link(method.output_type)
        text = _cell(comments.get((FILE_SERVICE, number, SERVICE_METHOD, index), ""))
        lines.append(f"| `{method.name}` | {takes} | {gives} | {_role(method)} | {text} |\n")
    return "".join(lines)


def _role(method: descriptor_pb2.MethodDescriptorProto) -> str:
    options: Any = method.options.Extensions
    role = common_pb2.Role.Name(options[common_pb2.required_role])
    nodes = options[common_pb2.node_may_call]
    return role.removeprefix("ROLE_").lower() + (", nodes" if nodes else "")


def _message(
    path: tuple[int, ...], message: descriptor_pb2.DescriptorProto, comments: Comments
) -> str:
    lines = [f"\n### {message.name}\n"]
    if text := comments.get(path):
        lines.append(f"\n{text}\n")
    if not message.field:
        return "".join([*lines, "\nNo fields.\n"])
    lines.append("\n| field | type | meaning |\n|---|---|---|\n")
    for index, field in enumerate(message.field):
        text = _cell(_meaning((*path, MESSAGE_FIELD, index), field.name, comments))
        lines.append(f"| `{field.name}` | {_type(field, message)} | {text} |\n")
    return "".join(lines)


def _type(field: Field, message: descriptor_pb2.DescriptorProto) -> str:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{nested.name}"):
            return f"map of {_scalar(nested.field[0])} to {_scalar(nested.field[1])}"
    repeated = "repeated " if field.label == Field.LABEL_REPEATED else ""
    optional = "optional " if field.proto3_optional else ""
    chosen = field.HasField("oneof_index") and not field.proto3_optional
    choice = f", one of `{message.oneof_decl[field.oneof_index].name}`" if chosen else ""
    return f"{repeated}{optional}{_scalar(field)}{choice}"


def _scalar(field: Field) -> str:
    if field.type_name:
        return _link(field.type_name)
    return str(Field.Type.Name(field.type)).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})"


def _enum(file: File, number: int, comments: Comments) -> str:
    enum = file.enum_type[number]
    lines = [f"\n### {enum.name}\n"]
    if text := comments.get((FILE_ENUM, number)):
        lines.append(f"\n{text}\n")
    lines.append("\n| value | number | meaning |\n|---|---|---|\n")
    for index, value in enumerate(enum.value):
        text = _cell(comments.get((FILE_ENUM, number, ENUM_VALUE, index), ""))
        lines.append(f"| `{value.name}` | {value.number} | {text} |\n")
    return "".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
