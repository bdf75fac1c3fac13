"""The services of the protocol, by their descriptors."""

import re
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

# Importing them puts them into the pool.
from perseus.proto.v1 import (
    agent_pb2,
    algo_pb2,
    chunk_pb2,
    cluster_pb2,
    common_pb2,
    filestore_pb2,
    jobs_pb2,
)

PACKAGE = "perseus.v1"
_FILES = (agent_pb2, algo_pb2, chunk_pb2, cluster_pb2, filestore_pb2, jobs_pb2)


@dataclass(frozen=True, slots=True)
class MethodType:
    """What the protocol says of one RPC."""

    # "perseus.v1.Jobs"
    service: str
    # "Submit"
    name: str
    request_class: type[Message]
    response_class: type[Message]
    client_streaming: bool
    server_streaming: bool
    # A number of ``identity.roles``; 0 when the protocol names none.
    required_role: int
    node_may_call: bool

    @property
    def path(self) -> str:
        """ "/perseus.v1.Jobs/Submit", in gRPC and in HTTP."""
        return f"/{self.service}/{self.name}"

    @property
    def python_name(self) -> str:
        """The name of the method that implements it: ``get_info`` for GetInfo."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.name).lower()


def full_name(service_name: str) -> str:
    """``Jobs`` as ``perseus.v1.Jobs``; a name with dots stays as it is."""
    return service_name if "." in service_name else f"{PACKAGE}.{service_name}"


def methods_of(service_name: str) -> dict[str, MethodType]:
    """The RPCs of a service by name; raises KeyError for a service that is not known."""
    service: Any = descriptor_pool.Default().FindServiceByName(full_name(service_name))
    return {method.name: _method_type(service, method) for method in service.methods}


def all_services() -> list[str]:
    """Full names of all services of the protocol."""
    return [
        service.full_name
        for module in _FILES
        for service in module.DESCRIPTOR.services_by_name.values()
    ]


def _method_type(service: ServiceDescriptor, method: Any) -> MethodType:
    options = method.GetOptions()
    return MethodType(
        service.full_name,
        method.name,
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
        method.client_streaming,
        method.server_streaming,
        options.Extensions[common_pb2.required_role],
        options.Extensions[common_pb2.node_may_call],
    )
