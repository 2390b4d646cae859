"""Arrays -> bytes of an Open Inference Protocol v2 reply, and the readable reply to image files. Pure functions.

Values that are not finite become null in JSON, which has no NaN; request binary outputs to get them. Knows no HTTP.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from deploy.runtime.protocol.requests import InferenceRequest, RequestedOutput
from deploy.runtime.protocol.shared_memory import RegionSlice
from deploy.runtime.protocol.tensors import DATATYPES
from deploy.runtime.protocol.top_k import NAME, label_at, top_indices, top_k
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Array

encode = msgspec.json.encode
DATATYPE_OF = {np.dtype(name): datatype for name, datatype in DATATYPES.items()}


def top_classes(output: Array, count: int, labels: Sequence[str], kind: OutputKind = SOFTMAX) -> list[list[str]]:
    """'score:index:label' of the best classes of each row (classification extension); where one output stands for two
    classes, their probabilities."""
    rows = output.reshape(output.shape[0], -1)
    if kind.is_binary(rows.shape[1]):
        rows = kind.class_values(rows)
    return [
        [f"{row[index]:f}:{index}:{label_at(index, labels)}".rstrip(":") for index in top_indices(row, count)]
        for row in rows
    ]


def encode_strings(elements: Sequence[str]) -> bytes:
    """A BYTES tensor: each element after its length in four little-endian bytes."""
    encoded = [element.encode() for element in elements]
    return b"".join(len(element).to_bytes(4, "little") + element for element in encoded)


WriteRegion = Callable[[RegionSlice, bytes], None]


def refuse_write(place: RegionSlice, content: bytes) -> None:
    """The `write` of clients that may not use shared memory: their requests are refused earlier."""
    raise AssertionError(f"{len(content)} bytes for {place}")


class OutputData(NamedTuple):
    """An output in protocol terms: classes as strings, or the tensor."""

    datatype: str
    shape: list[int]
    classes: list[str] | None
    tensor: Array

    def raw(self) -> bytes:
        return self.tensor.tobytes() if self.classes is None else encode_strings(self.classes)


def output_data(
    wanted: RequestedOutput, output: Array, labels: Sequence[str], kind: OutputKind = SOFTMAX
) -> OutputData:
    if not wanted.classes:
        return OutputData(DATATYPE_OF[output.dtype], list(output.shape), None, output)
    rows = top_classes(output, wanted.classes, labels, kind)
    return OutputData("BYTES", [len(rows), len(rows[0])], [element for row in rows for element in row], output)


def encode_output(
    wanted: RequestedOutput,
    output: Array,
    labels: Sequence[str],
    write: WriteRegion = refuse_write,
    kind: OutputKind = SOFTMAX,
) -> tuple[dict[str, Any], bytes]:
    """An output's JSON and, where binary is requested, its bytes; neither holds data that goes to shared memory."""
    found = output_data(wanted, output, labels, kind)
    record: dict[str, Any] = {"name": wanted.name, "datatype": found.datatype, "shape": found.shape}
    if wanted.region is not None:
        write(wanted.region, found.raw())
        return record, b""  # no parameters: Triton's C++ client would take them for those of binary data
    if wanted.binary:
        raw = found.raw()
        record["parameters"] = {"binary_data_size": len(raw)}
        return record, raw
    record["data"] = output.ravel().tolist() if found.classes is None else found.classes
    return record, b""


def encode_response(
    request: InferenceRequest,
    outputs: Mapping[str, Array],
    model: str,
    version: str,
    labels: Sequence[str],
    parameters: Mapping[str, float] | None = None,
    write: WriteRegion = refuse_write,
    kind: OutputKind = SOFTMAX,
) -> tuple[bytes, int | None]:
    """The reply's body and the length of its JSON header (None: it is all JSON)."""
    shapes, kept = tuple(outputs[wanted.name].shape for wanted in request.outputs), request.response_header
    if kept is not None and kept.shapes == shapes:
        return _encode_after_header(kept.text, request, outputs, write)
    parts = [encode_output(wanted, outputs[wanted.name], labels, write, kind) for wanted in request.outputs]
    record: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [part for part, _ in parts]}
    if request.id:
        record["id"] = request.id
    if request.top_k:
        record[NAME] = top_k(next(iter(outputs.values())), request.top_k, labels, kind)
    if parameters:
        record["parameters"] = parameters
    header = encode(record)
    if kept is not None:
        kept.shapes, kept.text = shapes, header
    if not any(wanted.binary and wanted.region is None for wanted in request.outputs):
        return header, None
    return b"".join([header, *(raw for _, raw in parts)]), len(header)


def _encode_after_header(
    header: bytes, request: InferenceRequest, outputs: Mapping[str, Array], write: WriteRegion
) -> tuple[bytes, int | None]:
    """The reply where no tensor is in the JSON."""
    parts = [header]
    for wanted in request.outputs:
        raw = outputs[wanted.name].tobytes()
        if wanted.region is None:
            parts.append(raw)
        else:
            write(wanted.region, raw)
    return (b"".join(parts), len(header)) if len(parts) > 1 else (header, None)


def encode_image_response(
    request: InferenceRequest,
    outputs: Mapping[str, Array],
    model: str,
    version: str,
    labels: Sequence[str],
    times_ms: Mapping[str, float],
    kind: OutputKind = SOFTMAX,
) -> bytes:
    """The readable reply to image files: the best classes of each, then the outputs; a line each."""
    parts = [encode_output(wanted, outputs[wanted.name], labels)[0] for wanted in request.outputs]
    images = [
        b"[\n   " + b",\n   ".join(encode(one) for one in best) + b"\n  ]"
        for best in top_k(next(iter(outputs.values())), request.top_k, labels, kind)
    ]
    lines = [
        b' "model_name": ' + encode(model),
        b' "model_version": ' + encode(version),
        b' "top_k": [\n  ' + b",\n  ".join(images) + b"\n ]",
        b' "times_ms": ' + encode(times_ms),
        b' "outputs": [\n  ' + b",\n  ".join(encode(part) for part in parts) + b"\n ]",
    ]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"
