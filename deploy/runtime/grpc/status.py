"""gRPC's status codes, and which error of a request becomes which."""

from enum import IntEnum

from deploy.runtime.content.coding import UnpackedTooLarge
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, Unavailable
from toolchain.errors import RequestError, ToolchainError


class GrpcStatus(IntEnum):
    """github.com/grpc/grpc/blob/master/doc/statuscodes.md"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class UnknownModel(RequestError):
    """A request for another model name or version than the one served."""


class InvalidToken(ToolchainError):
    """A call without a valid token."""


class UnknownMethod(ToolchainError):
    """A call of a method, or in an encoding, that this server does not have."""


class MessageTooLarge(RequestError):
    """A message that is larger than one may be."""


class SlowSender(ToolchainError):
    """A message that does not arrive."""


STATUSES: dict[type[ToolchainError], GrpcStatus] = {  # the first that fits
    InvalidToken: GrpcStatus.UNAUTHENTICATED,
    UnknownModel: GrpcStatus.NOT_FOUND,
    UnknownMethod: GrpcStatus.UNIMPLEMENTED,
    MessageTooLarge: GrpcStatus.RESOURCE_EXHAUSTED,
    UnpackedTooLarge: GrpcStatus.RESOURCE_EXHAUSTED,
    SlowSender: GrpcStatus.DEADLINE_EXCEEDED,
    RequestError: GrpcStatus.INVALID_ARGUMENT,
    Unavailable: GrpcStatus.UNAVAILABLE,
    DeadlineExceeded: GrpcStatus.DEADLINE_EXCEEDED,
    ClientDisconnected: GrpcStatus.CANCELLED,
    ToolchainError: GrpcStatus.INTERNAL,
}


def status_of(error: ToolchainError) -> GrpcStatus:
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))
