"""Loads a torch.export program (.pt2) as a module that runs, can be copied and pickled, and is never trained.

A .pt2 file may contain pickles; they are read without running code, or refused.
"""

import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from toolchain.errors import ModelError

WEIGHTS_ONLY_VARIABLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
EXPORT_HINT = (
    "torch.export.save(torch.export.export(model.eval(), (images,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'model.pt2')"
)
# aten.batch_norm(input, weight, bias, running_mean, running_var, training, ...) and aten.dropout(input, p, train)
TRAINING_FLAG = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}


class ProgramModule(nn.Module):
    """An exported program as a module. Copying or unpickling rebuilds it from the file's bytes, because torch's own
    module of a program supports neither. train() and eval() have no effect."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.training = False
        self._content = content
        import_module("torchvision")  # a program may hold its operations, which are registered by that
        self.program = torch.export.load(BytesIO(content)).module()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.program(x)
        return answer

    def train(self, mode: bool = True) -> "ProgramModule":  # noqa: ARG002  # the signature is torch's
        return self

    def __reduce__(self) -> tuple[type["ProgramModule"], tuple[bytes]]:
        return ProgramModule, (self._content,)


def load_program(path: Path) -> ProgramModule:
    """The program in `path`; ModelError when it is not a program, contains code, or was exported in training mode."""
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path}: not a complete torch.export program; save it again: {EXPORT_HINT}") from error
    if any("custom_obj" in name for name in names):
        raise ModelError(
            f"{path}: contains custom objects, which run code when loaded; export plain tensors: {EXPORT_HINT}"
        )
    try:
        with _weights_only_loading():
            program = ProgramModule(content)
    except Exception as error:  # torch raises what its unpickler, its schema or its assertions happen to raise
        first = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"{path}: torch.export cannot read it ({type(error).__name__}: {first}); save it: {EXPORT_HINT}"
        ) from error
    _check_mode(program, path)
    return program


def _check_mode(program: ProgramModule, path: Path) -> None:
    graph = program.program.graph
    for node in graph.nodes:
        position = TRAINING_FLAG.get(str(node.target))
        if position is not None and len(node.args) > position and node.args[position] is True:
            raise ModelError(
                f"{path}: was exported in training mode ({node.target}); call model.eval() first: {EXPORT_HINT}"
            )


@contextmanager
def _weights_only_loading() -> Iterator[None]:
    """Read pickles inside the archive with torch's weights-only unpickler, and keep its tracebacks out of the log."""
    before, loggers = (
        os.environ.get(WEIGHTS_ONLY_VARIABLE),
        [logging.getLogger(f"torch.{name}") for name in ("export", "_export")],
    )
    levels = [logger.level for logger in loggers]
    os.environ[WEIGHTS_ONLY_VARIABLE] = "1"
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        os.environ.pop(WEIGHTS_ONLY_VARIABLE)
        if before is not None:
            os.environ[WEIGHTS_ONLY_VARIABLE] = before
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
