from perseus.proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteFrame(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadFrame(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WriteOpen(_message.Message):
    __slots__ = ("chunk", "version", "grant", "chain", "offset_bytes")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    grant: bytes
    chain: _containers.RepeatedScalarFieldContainer[str]
    offset_bytes: int
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., grant: _Optional[bytes] = ..., chain: _Optional[_Iterable[str]] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class WriteHeader(_message.Message):
    __slots__ = ("offset_bytes", "length_bytes", "checksum", "sync")
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    offset_bytes: int
    length_bytes: int
    checksum: int
    sync: bool
    def __init__(self, offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., checksum: _Optional[int] = ..., sync: _Optional[bool] = ...) -> None: ...

class WriteAck(_message.Message):
    __slots__ = ("length_bytes", "failed_address", "error")
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAILED_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    length_bytes: int
    failed_address: str
    error: _common_pb2.Error
    def __init__(self, length_bytes: _Optional[int] = ..., failed_address: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReadChunkRequest(_message.Message):
    __slots__ = ("chunk", "version", "offset_bytes", "length_bytes", "wait_s")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    offset_bytes: int
    length_bytes: int
    wait_s: float
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., wait_s: _Optional[float] = ...) -> None: ...

class ReadHeader(_message.Message):
    __slots__ = ("offset_bytes", "length_bytes", "checksum")
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    offset_bytes: int
    length_bytes: int
    checksum: int
    def __init__(self, offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., checksum: _Optional[int] = ...) -> None: ...
