from perseus.proto.v1 import common_pb2 as _common_pb2
from perseus.proto.v1 import cluster_pb2 as _cluster_pb2
from perseus.proto.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "attempt_events", "chunk_events")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_EVENTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    attempt_events: _containers.RepeatedCompositeFieldContainer[AttemptEvent]
    chunk_events: _containers.RepeatedCompositeFieldContainer[ChunkEvent]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., attempt_events: _Optional[_Iterable[_Union[AttemptEvent, _Mapping]]] = ..., chunk_events: _Optional[_Iterable[_Union[ChunkEvent, _Mapping]]] = ...) -> None: ...

class MasterMessage(_message.Message):
    __slots__ = ("welcome", "heartbeat_answer", "directives", "acknowledged_attempts", "state_mark")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ANSWER_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVES_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STATE_MARK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat_answer: HeartbeatAnswer
    directives: _containers.RepeatedCompositeFieldContainer[Directive]
    acknowledged_attempts: _containers.RepeatedScalarFieldContainer[str]
    state_mark: StateMark
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat_answer: _Optional[_Union[HeartbeatAnswer, _Mapping]] = ..., directives: _Optional[_Iterable[_Union[Directive, _Mapping]]] = ..., acknowledged_attempts: _Optional[_Iterable[str]] = ..., state_mark: _Optional[_Union[StateMark, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_minimum", "protocol_maximum", "version", "address", "chunk_address", "capacity", "attempts", "replicas", "certificate_expires_at_s", "replicas_unknown", "state_mark", "frozen", "certificate_begins_at_s")
    PROTOCOL_MINIMUM_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    STATE_MARK_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_BEGINS_AT_S_FIELD_NUMBER: _ClassVar[int]
    protocol_minimum: int
    protocol_maximum: int
    version: str
    address: str
    chunk_address: str
    capacity: _cluster_pb2.Capacity
    attempts: _containers.RepeatedScalarFieldContainer[str]
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaReport]
    certificate_expires_at_s: float
    replicas_unknown: bool
    state_mark: StateMark
    frozen: bool
    certificate_begins_at_s: float
    def __init__(self, protocol_minimum: _Optional[int] = ..., protocol_maximum: _Optional[int] = ..., version: _Optional[str] = ..., address: _Optional[str] = ..., chunk_address: _Optional[str] = ..., capacity: _Optional[_Union[_cluster_pb2.Capacity, _Mapping]] = ..., attempts: _Optional[_Iterable[str]] = ..., replicas: _Optional[_Iterable[_Union[ReplicaReport, _Mapping]]] = ..., certificate_expires_at_s: _Optional[float] = ..., replicas_unknown: _Optional[bool] = ..., state_mark: _Optional[_Union[StateMark, _Mapping]] = ..., frozen: _Optional[bool] = ..., certificate_begins_at_s: _Optional[float] = ...) -> None: ...

class StateMark(_message.Message):
    __slots__ = ("run", "number")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    run: int
    number: int
    def __init__(self, run: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "lease_s", "session", "node_id", "node_name", "grant_key")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    GRANT_KEY_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    lease_s: float
    session: int
    node_id: str
    node_name: str
    grant_key: bytes
    def __init__(self, protocol: _Optional[int] = ..., lease_s: _Optional[float] = ..., session: _Optional[int] = ..., node_id: _Optional[str] = ..., node_name: _Optional[str] = ..., grant_key: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("number", "load", "time_s")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    load: _cluster_pb2.Load
    time_s: float
    def __init__(self, number: _Optional[int] = ..., load: _Optional[_Union[_cluster_pb2.Load, _Mapping]] = ..., time_s: _Optional[float] = ...) -> None: ...

class HeartbeatAnswer(_message.Message):
    __slots__ = ("number", "time_s")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    time_s: float
    def __init__(self, number: _Optional[int] = ..., time_s: _Optional[float] = ...) -> None: ...

class AttemptEvent(_message.Message):
    __slots__ = ("attempt", "running", "ended", "keeping")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    KEEPING_FIELD_NUMBER: _ClassVar[int]
    attempt: str
    running: AttemptRunning
    ended: AttemptEnded
    keeping: AttemptKeeping
    def __init__(self, attempt: _Optional[str] = ..., running: _Optional[_Union[AttemptRunning, _Mapping]] = ..., ended: _Optional[_Union[AttemptEnded, _Mapping]] = ..., keeping: _Optional[_Union[AttemptKeeping, _Mapping]] = ...) -> None: ...

class AttemptRunning(_message.Message):
    __slots__ = ("at_s", "pid")
    AT_S_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    at_s: float
    pid: int
    def __init__(self, at_s: _Optional[float] = ..., pid: _Optional[int] = ...) -> None: ...

class AttemptKeeping(_message.Message):
    __slots__ = ("at_s", "ending", "output_bytes")
    AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    at_s: float
    ending: _jobs_pb2.Ending
    output_bytes: int
    def __init__(self, at_s: _Optional[float] = ..., ending: _Optional[_Union[_jobs_pb2.Ending, _Mapping]] = ..., output_bytes: _Optional[int] = ...) -> None: ...

class AttemptEnded(_message.Message):
    __slots__ = ("at_s", "ending", "stdout", "stderr", "cpu_s", "memory_peak_bytes", "wall_s")
    AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    at_s: float
    ending: _jobs_pb2.Ending
    stdout: Output
    stderr: Output
    cpu_s: float
    memory_peak_bytes: int
    wall_s: float
    def __init__(self, at_s: _Optional[float] = ..., ending: _Optional[_Union[_jobs_pb2.Ending, _Mapping]] = ..., stdout: _Optional[_Union[Output, _Mapping]] = ..., stderr: _Optional[_Union[Output, _Mapping]] = ..., cpu_s: _Optional[float] = ..., memory_peak_bytes: _Optional[int] = ..., wall_s: _Optional[float] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("size_bytes", "inline", "inode", "truncated")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    inline: bytes
    inode: int
    truncated: bool
    def __init__(self, size_bytes: _Optional[int] = ..., inline: _Optional[bytes] = ..., inode: _Optional[int] = ..., truncated: _Optional[bool] = ...) -> None: ...

class Directive(_message.Message):
    __slots__ = ("start", "stop", "discard", "fetch", "delete", "seal", "thaw")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    THAW_FIELD_NUMBER: _ClassVar[int]
    start: StartAttempt
    stop: StopAttempt
    discard: DiscardAttempt
    fetch: FetchChunk
    delete: DeleteChunk
    seal: SealReplica
    thaw: ThawAttempts
    def __init__(self, start: _Optional[_Union[StartAttempt, _Mapping]] = ..., stop: _Optional[_Union[StopAttempt, _Mapping]] = ..., discard: _Optional[_Union[DiscardAttempt, _Mapping]] = ..., fetch: _Optional[_Union[FetchChunk, _Mapping]] = ..., delete: _Optional[_Union[DeleteChunk, _Mapping]] = ..., seal: _Optional[_Union[SealReplica, _Mapping]] = ..., thaw: _Optional[_Union[ThawAttempts, _Mapping]] = ...) -> None: ...

class StartAttempt(_message.Message):
    __slots__ = ("attempt", "spec", "task_index", "task_count", "user", "parallel")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TASK_INDEX_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FIELD_NUMBER: _ClassVar[int]
    attempt: str
    spec: _jobs_pb2.TaskSpec
    task_index: int
    task_count: int
    user: str
    parallel: int
    def __init__(self, attempt: _Optional[str] = ..., spec: _Optional[_Union[_jobs_pb2.TaskSpec, _Mapping]] = ..., task_index: _Optional[int] = ..., task_count: _Optional[int] = ..., user: _Optional[str] = ..., parallel: _Optional[int] = ...) -> None: ...

class StopAttempt(_message.Message):
    __slots__ = ("attempt", "signal", "grace_s", "cancel")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    attempt: str
    signal: int
    grace_s: float
    cancel: bool
    def __init__(self, attempt: _Optional[str] = ..., signal: _Optional[int] = ..., grace_s: _Optional[float] = ..., cancel: _Optional[bool] = ...) -> None: ...

class DiscardAttempt(_message.Message):
    __slots__ = ("attempt",)
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    attempt: str
    def __init__(self, attempt: _Optional[str] = ...) -> None: ...

class ThawAttempts(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, attempts: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchChunk(_message.Message):
    __slots__ = ("chunk", "version", "length_bytes", "sources")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    length_bytes: int
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., length_bytes: _Optional[int] = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteChunk(_message.Message):
    __slots__ = ("chunk", "below_version")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    BELOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    below_version: int
    def __init__(self, chunk: _Optional[int] = ..., below_version: _Optional[int] = ...) -> None: ...

class SealReplica(_message.Message):
    __slots__ = ("chunk", "version", "length_bytes", "probe")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    length_bytes: int
    probe: bool
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., length_bytes: _Optional[int] = ..., probe: _Optional[bool] = ...) -> None: ...

class ReplicaReport(_message.Message):
    __slots__ = ("chunk", "version", "length_bytes", "sealed", "corrupt", "fenced")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    length_bytes: int
    sealed: bool
    corrupt: bool
    fenced: bool
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., length_bytes: _Optional[int] = ..., sealed: _Optional[bool] = ..., corrupt: _Optional[bool] = ..., fenced: _Optional[bool] = ...) -> None: ...

class ChunkEvent(_message.Message):
    __slots__ = ("present", "corrupt", "failure", "deleted")
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    present: ReplicaReport
    corrupt: CorruptReplica
    failure: ChunkFailure
    deleted: int
    def __init__(self, present: _Optional[_Union[ReplicaReport, _Mapping]] = ..., corrupt: _Optional[_Union[CorruptReplica, _Mapping]] = ..., failure: _Optional[_Union[ChunkFailure, _Mapping]] = ..., deleted: _Optional[int] = ...) -> None: ...

class CorruptReplica(_message.Message):
    __slots__ = ("chunk", "version", "offset_bytes")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    offset_bytes: int
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class ChunkFailure(_message.Message):
    __slots__ = ("chunk", "version", "message", "disk_full")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DISK_FULL_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    version: int
    message: str
    disk_full: bool
    def __init__(self, chunk: _Optional[int] = ..., version: _Optional[int] = ..., message: _Optional[str] = ..., disk_full: _Optional[bool] = ...) -> None: ...

class ReadOutputRequest(_message.Message):
    __slots__ = ("attempt", "stderr", "offset_bytes", "follow")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    attempt: str
    stderr: bool
    offset_bytes: int
    follow: bool
    def __init__(self, attempt: _Optional[str] = ..., stderr: _Optional[bool] = ..., offset_bytes: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class OutputPiece(_message.Message):
    __slots__ = ("data", "offset_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., offset_bytes: _Optional[int] = ...) -> None: ...
