from perseus.proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_UNSPECIFIED: _ClassVar[TaskState]
    TASK_STATE_PENDING: _ClassVar[TaskState]
    TASK_STATE_LEASED: _ClassVar[TaskState]
    TASK_STATE_RUNNING: _ClassVar[TaskState]
    TASK_STATE_FINISHED: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_LOST: _ClassVar[TaskState]
    TASK_STATE_CANCELLED: _ClassVar[TaskState]

class EndingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDING_UNSPECIFIED: _ClassVar[EndingKind]
    ENDING_EXITED: _ClassVar[EndingKind]
    ENDING_SIGNALED: _ClassVar[EndingKind]
    ENDING_TIME_LIMIT: _ClassVar[EndingKind]
    ENDING_OUTPUT_LIMIT: _ClassVar[EndingKind]
    ENDING_CANCELLED: _ClassVar[EndingKind]
    ENDING_NOT_STARTED: _ClassVar[EndingKind]
    ENDING_NODE_FAILURE: _ClassVar[EndingKind]
    ENDING_DISK_LIMIT: _ClassVar[EndingKind]
TASK_STATE_UNSPECIFIED: TaskState
TASK_STATE_PENDING: TaskState
TASK_STATE_LEASED: TaskState
TASK_STATE_RUNNING: TaskState
TASK_STATE_FINISHED: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_LOST: TaskState
TASK_STATE_CANCELLED: TaskState
ENDING_UNSPECIFIED: EndingKind
ENDING_EXITED: EndingKind
ENDING_SIGNALED: EndingKind
ENDING_TIME_LIMIT: EndingKind
ENDING_OUTPUT_LIMIT: EndingKind
ENDING_CANCELLED: EndingKind
ENDING_NOT_STARTED: EndingKind
ENDING_NODE_FAILURE: EndingKind
ENDING_DISK_LIMIT: EndingKind

class TaskSpec(_message.Message):
    __slots__ = ("argv", "environment", "working_directory", "stdin_inline", "stdin_path", "files", "resources", "labels", "architecture", "node", "retries", "failure_retries", "time_limit_s", "priority", "output_limit_bytes", "pure", "grace_s")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ARGV_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    STDIN_INLINE_FIELD_NUMBER: _ClassVar[int]
    STDIN_PATH_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_RETRIES_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PURE_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    argv: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    working_directory: str
    stdin_inline: bytes
    stdin_path: str
    files: _containers.RepeatedCompositeFieldContainer[PlacedFile]
    resources: _common_pb2.Resources
    labels: _containers.ScalarMap[str, str]
    architecture: str
    node: str
    retries: int
    failure_retries: int
    time_limit_s: float
    priority: int
    output_limit_bytes: int
    pure: bool
    grace_s: float
    def __init__(self, argv: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., working_directory: _Optional[str] = ..., stdin_inline: _Optional[bytes] = ..., stdin_path: _Optional[str] = ..., files: _Optional[_Iterable[_Union[PlacedFile, _Mapping]]] = ..., resources: _Optional[_Union[_common_pb2.Resources, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., architecture: _Optional[str] = ..., node: _Optional[str] = ..., retries: _Optional[int] = ..., failure_retries: _Optional[int] = ..., time_limit_s: _Optional[float] = ..., priority: _Optional[int] = ..., output_limit_bytes: _Optional[int] = ..., pure: _Optional[bool] = ..., grace_s: _Optional[float] = ...) -> None: ...

class PlacedFile(_message.Message):
    __slots__ = ("name", "path")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "count", "name", "request_id", "parallel")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FIELD_NUMBER: _ClassVar[int]
    spec: TaskSpec
    count: int
    name: str
    request_id: str
    parallel: int
    def __init__(self, spec: _Optional[_Union[TaskSpec, _Mapping]] = ..., count: _Optional[int] = ..., name: _Optional[str] = ..., request_id: _Optional[str] = ..., parallel: _Optional[int] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("submit", "detach")
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    submit: SubmitRequest
    detach: bool
    def __init__(self, submit: _Optional[_Union[SubmitRequest, _Mapping]] = ..., detach: _Optional[bool] = ...) -> None: ...

class Ending(_message.Message):
    __slots__ = ("kind", "exit_code", "signal", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: EndingKind
    exit_code: int
    signal: int
    message: str
    def __init__(self, kind: _Optional[_Union[EndingKind, str]] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("index", "state", "attempt", "node", "ending", "started_at_s", "ended_at_s", "cpu_s", "memory_peak_bytes", "stdout_bytes", "stderr_bytes", "keeping")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDOUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDERR_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEEPING_FIELD_NUMBER: _ClassVar[int]
    index: int
    state: TaskState
    attempt: int
    node: str
    ending: Ending
    started_at_s: float
    ended_at_s: float
    cpu_s: float
    memory_peak_bytes: int
    stdout_bytes: int
    stderr_bytes: int
    keeping: bool
    def __init__(self, index: _Optional[int] = ..., state: _Optional[_Union[TaskState, str]] = ..., attempt: _Optional[int] = ..., node: _Optional[str] = ..., ending: _Optional[_Union[Ending, _Mapping]] = ..., started_at_s: _Optional[float] = ..., ended_at_s: _Optional[float] = ..., cpu_s: _Optional[float] = ..., memory_peak_bytes: _Optional[int] = ..., stdout_bytes: _Optional[int] = ..., stderr_bytes: _Optional[int] = ..., keeping: _Optional[bool] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "name", "user", "state", "count", "submitted_at_s", "ended_at_s", "exit_code", "spec", "task_counts", "tasks", "folder", "keeping")
    class TaskCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    KEEPING_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    user: str
    state: TaskState
    count: int
    submitted_at_s: float
    ended_at_s: float
    exit_code: int
    spec: TaskSpec
    task_counts: _containers.ScalarMap[int, int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    folder: str
    keeping: int
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., user: _Optional[str] = ..., state: _Optional[_Union[TaskState, str]] = ..., count: _Optional[int] = ..., submitted_at_s: _Optional[float] = ..., ended_at_s: _Optional[float] = ..., exit_code: _Optional[int] = ..., spec: _Optional[_Union[TaskSpec, _Mapping]] = ..., task_counts: _Optional[_Mapping[int, int]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., folder: _Optional[str] = ..., keeping: _Optional[int] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id", "first_task")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_TASK_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    first_task: int
    def __init__(self, job_id: _Optional[str] = ..., first_task: _Optional[int] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("active", "limit")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    active: bool
    limit: int
    def __init__(self, active: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "more")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    more: bool
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("job_id", "timeout_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    timeout_s: float
    def __init__(self, job_id: _Optional[str] = ..., timeout_s: _Optional[float] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("job_id", "task", "stdout", "stderr", "follow", "stdout_offset_bytes", "stderr_offset_bytes")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    STDOUT_OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDERR_OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    task: int
    stdout: bool
    stderr: bool
    follow: bool
    stdout_offset_bytes: int
    stderr_offset_bytes: int
    def __init__(self, job_id: _Optional[str] = ..., task: _Optional[int] = ..., stdout: _Optional[bool] = ..., stderr: _Optional[bool] = ..., follow: _Optional[bool] = ..., stdout_offset_bytes: _Optional[int] = ..., stderr_offset_bytes: _Optional[int] = ...) -> None: ...

class FollowEvent(_message.Message):
    __slots__ = ("job_id", "task", "stdout", "stderr", "state", "node", "attempt", "message", "ending", "missing")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    task: int
    stdout: bytes
    stderr: bytes
    state: TaskState
    node: str
    attempt: int
    message: str
    ending: Ending
    missing: bool
    def __init__(self, job_id: _Optional[str] = ..., task: _Optional[int] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., state: _Optional[_Union[TaskState, str]] = ..., node: _Optional[str] = ..., attempt: _Optional[int] = ..., message: _Optional[str] = ..., ending: _Optional[_Union[Ending, _Mapping]] = ..., missing: _Optional[bool] = ...) -> None: ...

class KillRequest(_message.Message):
    __slots__ = ("job_id", "signal")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    signal: int
    def __init__(self, job_id: _Optional[str] = ..., signal: _Optional[int] = ...) -> None: ...

class KillResponse(_message.Message):
    __slots__ = ("tasks", "keeping")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    KEEPING_FIELD_NUMBER: _ClassVar[int]
    tasks: int
    keeping: int
    def __init__(self, tasks: _Optional[int] = ..., keeping: _Optional[int] = ...) -> None: ...

class RetryRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class WhyRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class WhyResponse(_message.Message):
    __slots__ = ("sentences",)
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    sentences: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sentences: _Optional[_Iterable[str]] = ...) -> None: ...
