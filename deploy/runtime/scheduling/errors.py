"""Errors of a request that fits the model but got no inference."""

from toolchain.errors import RequestError, ToolchainError

RESTART_S = 10


class Unavailable(ToolchainError):
    """The server cannot take the request now; reason: a label for the metrics; retry_after_s: when to try again."""

    def __init__(self, message: str, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason, self.retry_after_s = reason, retry_after_s


class DeadlineExceeded(ToolchainError):
    """The request's deadline passed before the engine could start on it."""


class ClientDisconnected(ToolchainError):
    """The client disconnected before the engine could start on its request."""


class EngineFault(ToolchainError):
    """The engine failed on a request that fits the model."""


def engine_fault(error: BaseException) -> EngineFault:
    return EngineFault(f"the engine failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def rejection_reason(error: ToolchainError) -> str:
    """The metrics label of a request that got no inference."""
    match error:
        case RequestError():
            return "bad_request"
        case Unavailable():
            return error.reason
        case DeadlineExceeded():
            return "deadline"
        case ClientDisconnected():
            return "client_gone"
        case _:
            return "engine_fault"
