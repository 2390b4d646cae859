"""Why a request that fits the model got no inference."""

from toolchain.errors import ToolchainError

RESTART_S = 10


class Unavailable(ToolchainError):
    """Not now: `reason` is a word for counting; try again after `retry_after_s`."""

    def __init__(self, message: str, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason, self.retry_after_s = reason, retry_after_s


class DeadlineExceeded(ToolchainError):
    """The request's time ran out before the engine could start on it."""


class ClientDisconnected(ToolchainError):
    """The client left before the engine could start on its request."""


class EngineFault(ToolchainError):
    """The engine failed on a request that fits the model."""


def engine_fault(error: BaseException) -> EngineFault:
    return EngineFault(f"the engine failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
