"""The standard services, health and reflection, behind the same role check."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from perseus.errors import NotFoundError
from perseus.identity import roles
from perseus.rpc.call import Call
from perseus.rpc.registry import Registry

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
# The same messages under the name that newer clients ask for first.
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

# Codes of gRPC, as numbers in reflection's answers.
_INVALID_ARGUMENT, _NOT_FOUND = 3, 5


def add_standard_services(registry: Registry) -> None:
    """Adds health and reflection for viewers; call it after all other services are added."""
    registry.add(HEALTH, Health(registry), role=roles.VIEWER)
    registry.add(REFLECTION, Reflection(registry), role=roles.VIEWER)
    registry.alias(REFLECTION, REFLECTION_V1)


class Health:
    """grpc.health.v1.Health: what answers serves."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def check(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> health_pb2.HealthCheckResponse:
        """SERVING for the daemon ("") and each of its services; raises NotFoundError."""
        if request.service and request.service not in self._registry.service_names:
            raise NotFoundError(f"there is no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def list(
        self, request: health_pb2.HealthListRequest, call: Call
    ) -> health_pb2.HealthListResponse:
        """All services, all serving."""
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        names = ["", *self._registry.service_names]
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(names, serving))

    async def watch(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now; then nothing until the daemon ends, for it does not change."""
        known = not request.service or request.service in self._registry.service_names
        kind = health_pb2.HealthCheckResponse
        yield kind(status=kind.SERVING if known else kind.SERVICE_UNKNOWN)
        await asyncio.get_running_loop().create_future()


class Reflection:
    """grpc.reflection: descriptors of what is served, for clients without our protos."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pool: Any = descriptor_pool.Default()

    async def server_reflection_info(
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], call: Call
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answers each request in turn."""
        async for request in requests:
            yield self._answer(request)

    def _answer(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        response = reflection_pb2.ServerReflectionResponse(
            valid_host=request.host, original_request=request
        )
        try:
            self._fill(request, response)
        except KeyError as error:
            response.error_response.error_code = _NOT_FOUND
            response.error_response.error_message = f"not found: {error}"
        return response

    def _fill(
        self,
        request: reflection_pb2.ServerReflectionRequest,
        response: reflection_pb2.ServerReflectionResponse,
    ) -> None:
        pool = self._pool
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._registry.service_names:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _add_files(response, pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                symbol = request.file_containing_symbol
                _add_files(response, pool.FindFileContainingSymbol(symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                extended = pool.FindMessageTypeByName(wanted.containing_type)
                found = pool.FindExtensionByNumber(extended, wanted.extension_number)
                _add_files(response, found.file)
            case "all_extension_numbers_of_type":
                extended = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                answer = response.all_extension_numbers_response
                answer.base_type_name = extended.full_name
                answer.extension_number.extend(
                    sorted(extension.number for extension in pool.FindAllExtensions(extended))
                )
            case _:
                response.error_response.error_code = _INVALID_ARGUMENT
                response.error_response.error_message = "the request asks for nothing"


def _add_files(response: reflection_pb2.ServerReflectionResponse, file: Any) -> None:
    """The file and all that it imports, those that are imported first."""
    files: dict[str, bytes] = {}

    def add(wanted: Any) -> None:
        if wanted.name in files:
            return
        files[wanted.name] = b""
        for dependency in wanted.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        wanted.CopyToProto(proto)
        files[wanted.name] = proto.SerializeToString()

    add(file)
    response.file_descriptor_response.file_descriptor_proto.extend(files.values())
