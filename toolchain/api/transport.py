"""What a client needs of a transport, whichever it is, and when it sends a request again."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.runtime.protocol.top_k import TopClass
from toolchain.api.inputs import TensorPayload
from toolchain.errors import DeviceError

CallResultT = TypeVar("CallResultT")
logger = logging.getLogger(__name__)
DEFAULT_BATCH = 1  # images in a request, where the server does not say how many it takes


class ServerBusyError(DeviceError):
    """The server asks to come back in retry_after_s seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServedModel(msgspec.Struct, frozen=True):
    """size: of one image [height, width, channels]; classes: how many outputs; most: images in one request."""

    name: str
    release: str
    input: str
    output: str
    size: tuple[int, ...]
    classes: int
    most: int


@dataclass(frozen=True)
class ServerReply:
    """scores: float32 [images, outputs]; top: the best classes of each image, none where the server names none."""

    scores: NDArray[np.float32]
    top: Sequence[Sequence[TopClass]]


class Transport(Protocol):
    """One connection to one server."""

    def describe(self, model: str | None) -> ServedModel: ...
    def infer(self, model: ServedModel, payload: TensorPayload, top_k: int) -> ServerReply: ...
    def is_ready(self) -> bool: ...
    def close(self) -> None: ...


def call_patiently(call: Callable[[], CallResultT], retries: int, limit_s: float) -> CallResultT:
    """What `call` returns. A server that is busy is asked again when it says, at most `retries` times and for no
    longer than limit_s altogether."""
    end = time.monotonic() + limit_s
    for left in range(retries, -1, -1):
        try:
            return call()
        except ServerBusyError as busy:
            if not left or time.monotonic() + busy.retry_after_s > end:
                raise DeviceError(
                    f"{busy}; asked {retries - left + 1} times: try later, or allow more: Client(url, retries=N)"
                ) from busy
            logger.info(f"{busy}; again in {busy.retry_after_s:g} s")
            time.sleep(busy.retry_after_s)
    raise AssertionError("retries: expected 0 or more")
