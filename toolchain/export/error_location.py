"""torch's export errors -> one line with the operation and the file and line in the user's code.

Knows how torch's exceptions are built (2.15); knows nothing of models.
"""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from toolchain.errors import ExportError

PLACE = re.compile(r'File "([^"]+)", line (\d+), in')
OPERATION = re.compile(r"OpOverload\(op='([^']+)'")
LIBRARY_PATHS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
ADVICE = {
    "GuardOnDataDependentSymNode": "control flow that depends on the image; use torch.where or torch.cond",
    "GuardOnDataDependentSymNodeError": "control flow that depends on the image; use torch.where or torch.cond",
}


def capture_error(error: BaseException) -> ExportError:
    """The error for a model whose forward() torch.export could not trace."""
    if "specialized it to be a constant" in str(error):
        return ExportError(
            "the model cannot be exported: it works for one batch size only (a reshape or view with a fixed number?); "
            "write x.flatten(1) or x.reshape(x.shape[0], ...)"
        )
    name = type(error).__name__
    reason = ADVICE.get(name) or f"{name}: {_first_line(error)}"
    return ExportError(f"{_raise_location(error)}the model cannot be exported: {reason}")


def translation_error(error: BaseException) -> ExportError:
    """The error for a traced model that contains an operation without an ONNX equivalent."""
    text = "\n".join(str(cause) for cause in _chain(error))
    node = next((node for cause in _chain(error) for node in _nodes(cause)), None)
    match = OPERATION.search(text)
    operation = match.group(1) if match else str(node.target) if node is not None else ""
    place = _source_location(node.meta.get("stack_trace") or "") if node is not None else ""
    if "No ONNX function found" in text or "No decompositions registered" in text:
        reason = f"operation {operation} has no ONNX equivalent; rewrite it with other operations"
    else:
        last = list(_chain(error))[-1]
        reason = f"operation {operation or 'unknown'}: {type(last).__name__}: {_first_line(last)}"
    return ExportError(f"{place}the model cannot be exported: {reason}")


def _raise_location(error: BaseException) -> str:
    frames = [
        frame
        for cause in _chain(error)
        for frame in traceback.extract_tb(cause.__traceback__)
        if not frame.filename.startswith(LIBRARY_PATHS)
    ]
    inside = [frame for frame in frames if frame.name == "forward"] or frames[-1:]
    if not inside:
        return ""
    # the deepest frame of the user's own code, which may be a helper that forward() calls
    last = frames[-1] if frames[-1] in frames[frames.index(inside[-1]) :] else inside[-1]
    return f"{last.filename}:{last.lineno}: `{(last.line or '').strip()}`: "


def _source_location(stack: str) -> str:
    places = [place for place in PLACE.findall(stack) if not place[0].startswith(LIBRARY_PATHS)]
    return f"{places[-1][0]}:{places[-1][1]}: " if places else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _nodes(error: BaseException) -> Iterator[torch.fx.Node]:
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("node")
        if isinstance(node, torch.fx.Node):
            yield node


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
