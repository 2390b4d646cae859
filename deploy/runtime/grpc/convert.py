"""gRPC messages <-> what all protocols share: ModelInferRequest -> InferenceRequest, InferenceResult ->
ModelInferResponse, plain dictionaries -> messages. Pure functions; knows neither gRPC's server nor the engine.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np

from deploy.runtime.protocol.requests import InferenceRequest, OutputEntry, ReadRegion, RequestBody, build_request
from deploy.runtime.protocol.responses import WriteRegion, output_data
from deploy.runtime.protocol.tensors import DTYPES, Parameters, Tensor, printable
from deploy.runtime.protocol.top_k import NAME, top_k
from deploy.runtime.scheduling.fair_queue import InferenceResult
from toolchain.errors import RequestError
from toolchain.records.manifest import Manifest
from toolchain.records.output import SOFTMAX, OutputKind

# Which list of InferTensorContents holds which datatype (open_inference_grpc.proto)
UNLIMITED_US = 1 << 62
MAX_TYPED = 4 << 20  # numbers in a typed list; raw contents have no such limit
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parameters_of(given: Any) -> Parameters:
    """A map of InferParameter as a dictionary; RequestError for a parameter without a value."""
    found: Parameters = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise RequestError(f"parameter '{printable(name)}' has no value")
        found[name] = getattr(parameter, kind)
    return found


def request_from_message(message: Any, manifest: Manifest, read: ReadRegion, left_s: float | None) -> InferenceRequest:
    """RequestError names what does not fit. left_s: seconds until the client's own deadline."""
    tensors = [
        Tensor(one.name, one.datatype, list(one.shape), parameters=parameters_of(one.parameters))
        for one in message.inputs
    ]
    asked = RequestBody(
        tensors,
        [OutputEntry(one.name, parameters_of(one.parameters)) for one in message.outputs],
        message.id,
        parameters_of(message.parameters),
    )
    raws = _raw_contents(message, tensors)
    call = build_request(asked, raws, manifest.inputs, manifest.outputs, read, manifest.preprocessing)
    if left_s is None:
        return call
    return msgspec.structs.replace(call, timeout_us=min(call.timeout_us or UNLIMITED_US, max(1, int(left_s * 1e6))))


def _raw_contents(message: Any, tensors: Sequence[Tensor]) -> list[memoryview | None]:
    """Each tensor's bytes: from raw_input_contents, which skips tensors in shared memory, or from its own typed
    list."""
    here = [number for number, tensor in enumerate(tensors) if "shared_memory_region" not in tensor.parameters]
    raws: list[memoryview | None] = [None] * len(tensors)
    if message.raw_input_contents:
        if any(message.inputs[number].HasField("contents") for number in here):
            raise RequestError("inputs have contents and raw_input_contents: expected one of them")
        if len(message.raw_input_contents) != len(here):
            raise RequestError(f"expected {len(here)} raw_input_contents, got {len(message.raw_input_contents)}")
        for number, raw in zip(here, message.raw_input_contents, strict=True):
            raws[number] = memoryview(raw)
    else:
        for number in here:
            raws[number] = _typed_contents(tensors[number], message.inputs[number].contents)
    return raws


def _typed_contents(tensor: Tensor, contents: Any) -> memoryview:
    """A typed list as bytes; RequestError for numbers that the datatype cannot hold."""
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise RequestError(
            f"input '{printable(tensor.name)}': {printable(tensor.datatype)} has no typed contents; send it raw"
        )
    values = getattr(contents, field)
    if field == "bytes_contents":
        return memoryview(b"".join(len(value).to_bytes(4, "little") + value for value in values))
    expected = min(prod(tensor.shape), MAX_TYPED)
    if len(values) > expected:  # each becomes an object
        raise RequestError(
            f"input '{printable(tensor.name)}': {len(values)} numbers in contents, expected at most {expected}; "
            "send it raw"
        )
    wide, dtype = np.asarray(values), DTYPES.get(tensor.datatype)
    if dtype is None:
        raise RequestError(f"input '{printable(tensor.name)}': the model takes no {tensor.datatype}")
    narrow = wide.astype(dtype)
    if wide.size and wide.dtype.kind in "iu" and not np.array_equal(narrow, wide):
        raise RequestError(f"input '{printable(tensor.name)}': contents has numbers that {dtype} cannot hold")
    return memoryview(narrow.tobytes())


def response_from_result(
    types: Mapping[str, Any],
    request: InferenceRequest,
    result: InferenceResult,
    model: tuple[str, str, Sequence[str]],
    times: Mapping[str, float],
    write: WriteRegion,
    kind: OutputKind = SOFTMAX,
) -> Any:
    """model: name, release, labels; kind: what its outputs say."""
    name, release, labels = model
    response = types["ModelInferResponse"](model_name=name, model_version=release, id=request.id)
    for wanted in request.outputs:
        found = output_data(wanted, result.outputs[wanted.name], labels, kind)
        response.outputs.add(name=wanted.name, datatype=found.datatype, shape=found.shape)
        raw = found.raw()
        if wanted.region is not None:
            write(wanted.region, raw)
            raw = b""  # clients match these to the outputs by position
        response.raw_output_contents.append(raw)
    if request.top_k:
        best = top_k(next(iter(result.outputs.values())), request.top_k, labels, kind)
        response.parameters[NAME].string_param = msgspec.json.encode(best).decode()
    if request.timings:
        for stage, seconds in times.items():
            response.parameters[f"{stage}_ms"].double_param = round(seconds * 1e3, 3)
    return response


def message_from(kind: Any, record: Any) -> Any:
    """A message of class `kind` with the fields of the same names in `record` (a dictionary or a Struct)."""
    plain = msgspec.to_builtins(record)
    return kind(**_fields(kind.DESCRIPTOR.fields_by_name, plain))


def _fields(names: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(names[name], value) for name, value in plain.items() if name in names}


def _value(field: Any, value: Any) -> Any:
    """Nested dictionaries, reduced to the fields that the message has."""
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return value
    inner = field.message_type.fields_by_name
    return _fields(inner, value) if isinstance(value, dict) else [_fields(inner, one) for one in value]
