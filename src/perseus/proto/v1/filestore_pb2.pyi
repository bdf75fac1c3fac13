from perseus.proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_KIND_UNSPECIFIED: _ClassVar[FileKind]
    FILE_KIND_FILE: _ClassVar[FileKind]
    FILE_KIND_DIRECTORY: _ClassVar[FileKind]
FILE_KIND_UNSPECIFIED: FileKind
FILE_KIND_FILE: FileKind
FILE_KIND_DIRECTORY: FileKind

class FileInfo(_message.Message):
    __slots__ = ("path", "inode", "kind", "size_bytes", "modified_at_s", "created_at_s", "open", "replicas", "chunks", "live_replicas", "owner", "checksum", "has_checksum", "in_master")
    PATH_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_S_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    LIVE_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    HAS_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    IN_MASTER_FIELD_NUMBER: _ClassVar[int]
    path: str
    inode: int
    kind: FileKind
    size_bytes: int
    modified_at_s: float
    created_at_s: float
    open: bool
    replicas: int
    chunks: int
    live_replicas: int
    owner: str
    checksum: int
    has_checksum: bool
    in_master: bool
    def __init__(self, path: _Optional[str] = ..., inode: _Optional[int] = ..., kind: _Optional[_Union[FileKind, str]] = ..., size_bytes: _Optional[int] = ..., modified_at_s: _Optional[float] = ..., created_at_s: _Optional[float] = ..., open: _Optional[bool] = ..., replicas: _Optional[int] = ..., chunks: _Optional[int] = ..., live_replicas: _Optional[int] = ..., owner: _Optional[str] = ..., checksum: _Optional[int] = ..., has_checksum: _Optional[bool] = ..., in_master: _Optional[bool] = ...) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("path", "after", "limit")
    PATH_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    path: str
    after: str
    limit: int
    def __init__(self, path: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("entries", "more")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[FileInfo]
    more: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class MakeDirectoryRequest(_message.Message):
    __slots__ = ("path", "parents")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    parents: bool
    def __init__(self, path: _Optional[str] = ..., parents: _Optional[bool] = ...) -> None: ...

class RenameRequest(_message.Message):
    __slots__ = ("source", "target", "replace")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    replace: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., replace: _Optional[bool] = ...) -> None: ...

class RemoveRequest(_message.Message):
    __slots__ = ("path", "recursive")
    PATH_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    path: str
    recursive: bool
    def __init__(self, path: _Optional[str] = ..., recursive: _Optional[bool] = ...) -> None: ...

class RemoveResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: int
    def __init__(self, removed: _Optional[int] = ...) -> None: ...

class DiskUsageRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class DiskUsageResponse(_message.Message):
    __slots__ = ("files", "directories", "size_bytes", "replica_bytes", "capacity_bytes", "free_bytes", "chunks", "chunks_under_replicated", "chunks_lost")
    FILES_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPLICA_BYTES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_UNDER_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_LOST_FIELD_NUMBER: _ClassVar[int]
    files: int
    directories: int
    size_bytes: int
    replica_bytes: int
    capacity_bytes: int
    free_bytes: int
    chunks: int
    chunks_under_replicated: int
    chunks_lost: int
    def __init__(self, files: _Optional[int] = ..., directories: _Optional[int] = ..., size_bytes: _Optional[int] = ..., replica_bytes: _Optional[int] = ..., capacity_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., chunks: _Optional[int] = ..., chunks_under_replicated: _Optional[int] = ..., chunks_lost: _Optional[int] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("path", "replace", "visible_at_close", "replicas", "parents", "attempt", "stderr")
    PATH_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_AT_CLOSE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    path: str
    replace: bool
    visible_at_close: bool
    replicas: int
    parents: bool
    attempt: str
    stderr: bool
    def __init__(self, path: _Optional[str] = ..., replace: _Optional[bool] = ..., visible_at_close: _Optional[bool] = ..., replicas: _Optional[int] = ..., parents: _Optional[bool] = ..., attempt: _Optional[str] = ..., stderr: _Optional[bool] = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("path", "create", "parents")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    create: bool
    parents: bool
    def __init__(self, path: _Optional[str] = ..., create: _Optional[bool] = ..., parents: _Optional[bool] = ...) -> None: ...

class WriteLease(_message.Message):
    __slots__ = ("inode", "epoch", "lease_s", "size_bytes", "inline", "replicas")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    lease_s: float
    size_bytes: int
    inline: bytes
    replicas: int
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ..., lease_s: _Optional[float] = ..., size_bytes: _Optional[int] = ..., inline: _Optional[bytes] = ..., replicas: _Optional[int] = ...) -> None: ...

class AllocateChunkRequest(_message.Message):
    __slots__ = ("inode", "epoch", "near_node", "avoid_nodes")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEAR_NODE_FIELD_NUMBER: _ClassVar[int]
    AVOID_NODES_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    near_node: str
    avoid_nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ..., near_node: _Optional[str] = ..., avoid_nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class ChunkGrant(_message.Message):
    __slots__ = ("chunk", "version", "chain", "grant", "offset_bytes")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    chain: _containers.RepeatedCompositeFieldContainer[ReplicaLocation]
    grant: bytes
    offset_bytes: int
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., chain: _Optional[_Iterable[_Union[ReplicaLocation, _Mapping]]] = ..., grant: _Optional[bytes] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class ReplicaLocation(_message.Message):
    __slots__ = ("node_id", "node_name", "address")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node_name: str
    address: str
    def __init__(self, node_id: _Optional[str] = ..., node_name: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class SealChunkRequest(_message.Message):
    __slots__ = ("inode", "epoch", "chunk", "length_bytes", "failed_nodes", "checksum", "failed_by", "failure")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAILED_NODES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    FAILED_BY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    chunk: int
    length_bytes: int
    failed_nodes: _containers.RepeatedScalarFieldContainer[str]
    checksum: int
    failed_by: str
    failure: str
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ..., chunk: _Optional[int] = ..., length_bytes: _Optional[int] = ..., failed_nodes: _Optional[_Iterable[str]] = ..., checksum: _Optional[int] = ..., failed_by: _Optional[str] = ..., failure: _Optional[str] = ...) -> None: ...

class SealChunkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RenewWriteLeaseRequest(_message.Message):
    __slots__ = ("inode", "epoch")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class RenewWriteLeaseResponse(_message.Message):
    __slots__ = ("lease_s",)
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    lease_s: float
    def __init__(self, lease_s: _Optional[float] = ...) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("inode", "epoch", "inline", "size_bytes", "checksum", "has_checksum")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    HAS_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    inline: bytes
    size_bytes: int
    checksum: int
    has_checksum: bool
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ..., inline: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., checksum: _Optional[int] = ..., has_checksum: _Optional[bool] = ...) -> None: ...

class AbandonRequest(_message.Message):
    __slots__ = ("inode", "epoch")
    INODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    inode: int
    epoch: int
    def __init__(self, inode: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class AbandonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LocateRequest(_message.Message):
    __slots__ = ("path", "inode", "offset_bytes", "wait_s")
    PATH_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    path: str
    inode: int
    offset_bytes: int
    wait_s: float
    def __init__(self, path: _Optional[str] = ..., inode: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., wait_s: _Optional[float] = ...) -> None: ...

class Layout(_message.Message):
    __slots__ = ("info", "inline", "chunks")
    INFO_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    info: FileInfo
    inline: bytes
    chunks: _containers.RepeatedCompositeFieldContainer[LocatedChunk]
    def __init__(self, info: _Optional[_Union[FileInfo, _Mapping]] = ..., inline: _Optional[bytes] = ..., chunks: _Optional[_Iterable[_Union[LocatedChunk, _Mapping]]] = ...) -> None: ...

class LocatedChunk(_message.Message):
    __slots__ = ("chunk", "version", "offset_bytes", "length_bytes", "sealed", "replicas")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    offset_bytes: int
    length_bytes: int
    sealed: bool
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaLocation]
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., sealed: _Optional[bool] = ..., replicas: _Optional[_Iterable[_Union[ReplicaLocation, _Mapping]]] = ...) -> None: ...

class ReportReplicaRequest(_message.Message):
    __slots__ = ("chunk", "node_id", "message", "corrupt")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    node_id: str
    message: str
    corrupt: bool
    def __init__(self, chunk: _Optional[int] = ..., node_id: _Optional[str] = ..., message: _Optional[str] = ..., corrupt: _Optional[bool] = ...) -> None: ...

class ReportReplicaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("path", "offset_bytes", "length_bytes", "follow")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset_bytes: int
    length_bytes: int
    follow: bool
    def __init__(self, path: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ReadPiece(_message.Message):
    __slots__ = ("data", "offset_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class WritePiece(_message.Message):
    __slots__ = ("path", "replace", "append", "parents", "replicas", "visible", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    replace: bool
    append: bool
    parents: bool
    replicas: int
    visible: bool
    data: bytes
    def __init__(self, path: _Optional[str] = ..., replace: _Optional[bool] = ..., append: _Optional[bool] = ..., parents: _Optional[bool] = ..., replicas: _Optional[int] = ..., visible: _Optional[bool] = ..., data: _Optional[bytes] = ...) -> None: ...
