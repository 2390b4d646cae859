"""What can go wrong, as one tree. Every message says what was found, what was expected and what to type next.

ToolchainError            exit 1
├── UsageError            exit 2: the command line
├── RecipeError           exit 2: a recipe's key, type, step or order, with file and place
├── DataError             a data set that is missing, corrupt or does not fit the model
├── ModelError            a checkpoint or module that cannot be loaded, or whose weights are not finite
├── StepError             a library failed in a compression step
├── ExportError           torch -> ONNX failed, or the ONNX answers differently
├── BackendError          ONNX -> artifact failed, or the back end is not installed here
├── AccuracyError         no candidate meets the accuracy threshold
├── RefusedError          a step that does not pay, where the recipe says refuse = true
├── ParityError           two ways of running the model disagree
├── RecordError           a manifest, report or bundle that cannot be trusted: wrong format, changed byte
├── DeviceError           this device cannot run this bundle
│   └── LostDevice        this process can no longer use its device; a new one can
├── RequestError          a client's request that does not fit the model (HTTP 400)
└── DockerError           no engine, port in use, container died, disk full
    └── UnknownImage      exit 2: no image of that name
"""

import os


class ToolchainError(Exception):
    """One line for a person: found, expected, what to type next."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: the line. Raises, for its traceback, where that was asked for."""
        if os.environ.get("TOOLCHAIN_DEBUG", "") not in ("", "0"):
            raise NotImplementedError
        return [f"{type(self).__name__}: {self}"]


class UsageError(ToolchainError):
    exit_code = 2


class RecipeError(ToolchainError):
    exit_code = 2


class DataError(ToolchainError):
    pass


class ModelError(ToolchainError):
    pass


class StepError(ToolchainError):
    pass


class ExportError(ToolchainError):
    pass


class BackendError(ToolchainError):
    pass


class AccuracyError(ToolchainError):
    pass


class RefusedError(ToolchainError):
    pass


class ParityError(ToolchainError):
    pass


class RecordError(ToolchainError):
    pass


class DeviceError(ToolchainError):
    pass


class LostDevice(DeviceError):
    pass


class RequestError(ToolchainError):
    pass


class DockerError(ToolchainError):
    pass


class UnknownImage(DockerError):
    exit_code = 2


def printable(text: str) -> str:
    """Text of a stranger, for a terminal: without control characters, which could move its cursor or change its title;
    lines and tabs are kept."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
