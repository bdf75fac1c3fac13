from perseus.proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FaultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_UNSPECIFIED: _ClassVar[FaultKind]
    FAULT_KILL: _ClassVar[FaultKind]
    FAULT_PAUSE: _ClassVar[FaultKind]
    FAULT_DEAF: _ClassVar[FaultKind]
    FAULT_SLOW: _ClassVar[FaultKind]
    FAULT_HEAL: _ClassVar[FaultKind]
FAULT_UNSPECIFIED: FaultKind
FAULT_KILL: FaultKind
FAULT_PAUSE: FaultKind
FAULT_DEAF: FaultKind
FAULT_SLOW: FaultKind
FAULT_HEAL: FaultKind

class Letter(_message.Message):
    __slots__ = ("to", "sender", "life", "mark", "clock", "number", "answers", "content")
    TO_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    to: str
    sender: str
    life: int
    mark: int
    clock: int
    number: int
    answers: int
    content: bytes
    def __init__(self, to: _Optional[str] = ..., sender: _Optional[str] = ..., life: _Optional[int] = ..., mark: _Optional[int] = ..., clock: _Optional[int] = ..., number: _Optional[int] = ..., answers: _Optional[int] = ..., content: _Optional[bytes] = ...) -> None: ...

class Letters(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[Letter]
    def __init__(self, letters: _Optional[_Iterable[_Union[Letter, _Mapping]]] = ...) -> None: ...

class CarryResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BefallRequest(_message.Message):
    __slots__ = ("kind", "deaf_to", "loss", "delay_s")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEAF_TO_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    DELAY_S_FIELD_NUMBER: _ClassVar[int]
    kind: FaultKind
    deaf_to: _containers.RepeatedScalarFieldContainer[str]
    loss: float
    delay_s: float
    def __init__(self, kind: _Optional[_Union[FaultKind, str]] = ..., deaf_to: _Optional[_Iterable[str]] = ..., loss: _Optional[float] = ..., delay_s: _Optional[float] = ...) -> None: ...

class LookRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProcessStatus(_message.Message):
    __slots__ = ("process", "state", "restarts", "deaf_to", "loss", "delay_s", "sent", "heard", "dropped", "ending", "stuck_s", "stuck_in", "stuck_at")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    DEAF_TO_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    DELAY_S_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    STUCK_S_FIELD_NUMBER: _ClassVar[int]
    STUCK_IN_FIELD_NUMBER: _ClassVar[int]
    STUCK_AT_FIELD_NUMBER: _ClassVar[int]
    process: str
    state: str
    restarts: int
    deaf_to: _containers.RepeatedScalarFieldContainer[str]
    loss: float
    delay_s: float
    sent: int
    heard: int
    dropped: int
    ending: str
    stuck_s: float
    stuck_in: str
    stuck_at: str
    def __init__(self, process: _Optional[str] = ..., state: _Optional[str] = ..., restarts: _Optional[int] = ..., deaf_to: _Optional[_Iterable[str]] = ..., loss: _Optional[float] = ..., delay_s: _Optional[float] = ..., sent: _Optional[int] = ..., heard: _Optional[int] = ..., dropped: _Optional[int] = ..., ending: _Optional[str] = ..., stuck_s: _Optional[float] = ..., stuck_in: _Optional[str] = ..., stuck_at: _Optional[str] = ...) -> None: ...
