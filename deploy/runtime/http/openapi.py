"""The REST interface as an OpenAPI 3.1 document, with the model's own shapes: manifest -> plain dictionaries. No HTTP.

Schemas are msgspec's, of the structs that the endpoints decode and encode; by hand are only the forms of this model's
tensors and the inference reply, which is encoded without a struct (responses.py). The web page's files are left out.
access.py decides who may request what: the document says only how to send a token, and that a server may require none.
"""

from typing import Any

import msgspec
import numpy as np

from deploy.runtime.http import shared_memory
from deploy.runtime.http.messages import Error
from deploy.runtime.protocol import metadata, repository
from deploy.runtime.protocol.requests import HEADER_LENGTH, RequestBody
from deploy.runtime.protocol.shared_memory import RegionStatus
from deploy.runtime.protocol.statistics import Statistics
from deploy.runtime.protocol.tensors import DATATYPES
from deploy.runtime.protocol.top_k import TopClass
from toolchain import __version__
from toolchain.records.certificate import Certificate
from toolchain.records.manifest import Manifest
from toolchain.records.tensors import TensorSpec

Json = dict[str, Any]
Schema = type[msgspec.Struct] | str  # a struct, or the name of a component
REFERENCE = "#/components/schemas/{name}"
STRUCTS = (
    Certificate,
    Error,
    RegionStatus,
    RequestBody,
    Statistics,
    metadata.Liveness,
    metadata.ModelConfig,
    metadata.ModelMetadata,
    metadata.Readiness,
    metadata.ServerMetadata,
    metadata.ServerSummary,
    repository.IndexRequest,
    repository.IndexedModel,
    shared_memory.Registration,
    TopClass,
)
SIZE = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}
OCTETS = f"JSON of {HEADER_LENGTH} bytes (0: none), then tensors; without that header an image file."
REGION_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
MODEL_NAME = REGION_NAME | {"schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}}
IMAGE_TYPES = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
FORM: Json = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary", "description": "An image file; several: a batch."}},
    "description": "An image file in each file field, of any name.",
}
REFUSALS = {  # of an inference, in addition to those of every call
    "400": "What was found in the request, what was expected, what to do.",
    "413": "The body is too large, as it is or once unpacked.",
    "415": "A Content-Encoding other than gzip or deflate.",
    "503": "Not ready, or too much to do: try again after Retry-After seconds.",
    "504": "The engine had not begun before the request's time was over.",
}


def document(manifest: Manifest) -> Json:
    """Every path that is answered, with its request and its replies."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{manifest.name} by Edge Toolchain",
            "version": __version__,
            "description": "One image classifier by the Open Inference Protocol v2 and its extensions: "
            f"{', '.join(metadata.EXTENSIONS)}. Where there is an admin port, metrics and shared memory are there.",
        },
        "paths": _server_paths() | _model_paths(manifest) | _repository_paths() | _region_paths(),
        "components": {
            "schemas": _schemas(manifest),
            "responses": {"Refused": _json_response("Why not.", Error)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _server_paths() -> Json:
    plain = {"200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": TEXT}}}}
    page = {"application/json": {"schema": _ref(metadata.ServerSummary)}, "text/html": {"schema": TEXT}}
    ready = _get("Whether every check passed and it serves.", metadata.Readiness, "503")
    return {
        "/": _path("get", "What is here; the web page for whoever asks for HTML.", {"200": _content("What.", page)}),
        "/v2": _get("The server.", metadata.ServerMetadata),
        "/v2/openapi.json": _get("This document.", "Any"),
        "/v2/health/live": _get("Whether the process answers.", metadata.Liveness),
        "/v2/health/ready": ready,
        "/healthz": ready,
        "/v2/models/stats": _get("What was served so far.", Statistics),
        "/certificate": _get("What this device found, signed; 404: none was made.", Certificate),
        "/metrics": _path("get", "Counters and gauges.", plain),
    }


def _model_paths(manifest: Manifest) -> Json:
    model = f"/v2/models/{manifest.name}"
    paths: Json = {}
    for base in (model, f"{model}/versions/{manifest.release}"):
        paths[base] = _get("The model: names, datatypes and shapes.", metadata.ModelMetadata)
        paths[f"{base}/ready"] = _get("As /v2/health/ready.", metadata.Readiness, "503")
        paths[f"{base}/stats"] = _get("As /v2/models/stats.", Statistics)
        paths[f"{base}/config"] = _get("The model's configuration, as Triton words it.", metadata.ModelConfig)
        paths[f"{base}/infer"] = {"post": _infer(manifest)}
    return paths


def _repository_paths() -> Json:
    wanted = {"required": False, "content": {"application/json": {"schema": _ref(repository.IndexRequest)}}}
    index = {"200": _json_response("The one model.", "Index"), "400": _json_response("What does not fit.", Error)}
    paths: Json = {repository.INDEX: {"post": _operation("The models here.", index) | {"requestBody": wanted}}}
    refused = {"400": _json_response("Always: the model stays for as long as the server runs.", Error)}
    for verb in ("load", "unload"):
        operation = _path("post", f"Refused: this server does not {verb} models.", refused)
        paths[f"{repository.PREFIX}/models/{{name}}/{verb}"] = {"parameters": [MODEL_NAME], **operation}
    return paths


def _region_paths() -> Json:
    system, cuda = shared_memory.PREFIX, shared_memory.CUDA
    region = f"{system}/region/{{name}}"
    empty = {"200": {"description": "Done."}, "400": _json_response("What does not fit.", Error)}
    status = {
        "200": _json_response("What is registered.", "Regions"),
        "400": _json_response("No such region.", Error),
    }
    body = {"required": True, "content": {"application/json": {"schema": _ref(shared_memory.Registration)}}}
    register = {"post": _operation("Make a region known.", empty) | {"requestBody": body}}
    return {
        f"{system}/status": _path("get", "All regions.", status),
        f"{system}/unregister": _path("post", "Forget all regions.", empty),
        f"{region}/status": {"parameters": [REGION_NAME], **_path("get", "One region.", status)},
        f"{region}/register": {"parameters": [REGION_NAME], **register},
        f"{region}/unregister": {"parameters": [REGION_NAME], **_path("post", "Forget a region.", empty)},
        f"{cuda}/status": _path("get", "None are offered: an empty list.", status),
        f"{cuda}/unregister": _path("post", "None are offered: done.", empty),
    }


def _infer(manifest: Manifest) -> Json:
    bodies: Json = {
        "application/json": {"schema": _ref(RequestBody)},
        "application/octet-stream": {"schema": {"description": OCTETS}},
    }
    if _takes_images(manifest):
        bodies |= {f"image/{kind}": {"schema": {}} for kind in IMAGE_TYPES}
        bodies["multipart/form-data"] = {"schema": FORM}
    replies = {
        "application/json": {"schema": _ref("InferReply")},
        "application/octet-stream": {"schema": {"description": f"JSON of {HEADER_LENGTH} bytes, then tensors."}},
    }
    responses = {"200": _content("The outputs.", replies)}
    responses |= {code: _json_response(why, Error) for code, why in REFUSALS.items()}
    responses["503"]["headers"] = {"Retry-After": {"schema": SIZE}}
    length = {"name": HEADER_LENGTH, "in": "header", "required": False, "schema": SIZE}
    body = {"required": True, "content": bodies}
    return _operation("Ask the model.", responses) | {"parameters": [length], "requestBody": body}


def _takes_images(manifest: Manifest) -> bool:
    """Encoded, or normalized by the client: see handler.py and denormalize.py."""
    specs = manifest.inputs
    return len(specs) == 1 and specs[0].dtype == "uint8" and specs[0].shape == (None, *manifest.preprocessing.shape)


def _schemas(manifest: Manifest) -> Json:
    """Of STRUCTS, those of requests narrowed to what this model takes, and those that no struct describes."""
    _, schemas = msgspec.json.schema_components(STRUCTS, ref_template=REFERENCE)
    output_name = {"enum": [spec.name for spec in manifest.outputs]}
    forms = _input_forms(manifest, schemas.pop("Tensor"))
    body = schemas["RequestBody"]["properties"]
    body["inputs"] |= {"minItems": 1, "items": {"anyOf": forms}}
    body["parameters"] |= {"properties": {"timeout": SIZE, "timings": {"type": "boolean"}, "top_k": SIZE}}
    schemas["OutputEntry"]["properties"]["name"] = output_name
    return schemas | {
        "Any": {"type": "object"},
        "Index": _list(_ref(repository.IndexedModel)),
        "InferReply": _infer_reply(),
        "Output": _object(name=output_name, datatype=TEXT, shape=_list(SIZE)),
        "Regions": _list(_ref(RegionStatus)),
    }


def _infer_reply() -> Json:
    """top_k is in every reply to images, and in one to tensors that asks for it."""
    best = _list(_list(_ref(TopClass))) | {"description": "Of each image the best classes, the best first."}
    times = {"type": "object", "additionalProperties": {"type": "number"}}
    always = _object(model_name=TEXT, model_version=TEXT, outputs=_list(_ref("Output")))
    always["properties"] |= {"id": TEXT, "top_k": best, "times_ms": times, "parameters": {"type": "object"}}
    return always


def _input_forms(manifest: Manifest, tensor: Json) -> list[Json]:
    """`tensor`, the schema of any input, narrowed to each form in which this model takes one."""
    forms = [_json_tensor(tensor, spec) for spec in manifest.inputs]
    if _takes_images(manifest):
        name, (height, width, channels) = manifest.inputs[0].name, manifest.preprocessing.shape
        images = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "minItems": 1}
        forms.append(_narrow(tensor, name, "BYTES", {"type": "array", "items": _size(1), "minItems": 1}, images))
        for dtype in ("float32", "float16"):
            forms.append(_json_tensor(tensor, TensorSpec(name, dtype, (None, channels, height, width))))
    return forms


def _json_tensor(tensor: Json, spec: TensorSpec) -> Json:
    """A tensor with JSON data: flat, or nested as its shape."""
    kind = np.dtype(spec.dtype).kind
    number: Json = {"type": {"f": "number", "b": "boolean"}.get(kind, "integer")}
    if kind in "iu":
        number |= {"minimum": int(np.iinfo(spec.dtype).min), "maximum": int(np.iinfo(spec.dtype).max)}
    nested: Json = number
    for axis in reversed(spec.shape):
        nested = {"type": "array", "items": nested} | _length(axis)
    sizes = [_size(1) if axis is None else {"const": axis} for axis in spec.shape]
    shape = {"type": "array", "prefixItems": sizes} | _length(len(sizes))
    return _narrow(tensor, spec.name, DATATYPES[spec.dtype], shape, {"anyOf": [_list(number), nested]})


def _narrow(tensor: Json, name: str, datatype: str, shape: Json, data: Json) -> Json:
    narrower = {"name": {"const": name}, "datatype": {"const": datatype}, "shape": shape, "data": data}
    return {**tensor, "properties": tensor["properties"] | narrower}


def _length(axis: int | None) -> Json:
    return {} if axis is None else {"minItems": axis, "maxItems": axis}


def _size(least: int) -> Json:
    return {"type": "integer", "minimum": least}


def _object(**properties: Json) -> Json:
    """All properties are required; others are allowed."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(schema: Schema) -> Json:
    return {"$ref": REFERENCE.format(name=schema if isinstance(schema, str) else schema.__name__)}


def _content(description: str, content: Json) -> Json:
    return {"description": description, "content": content}


def _json_response(description: str, schema: Schema) -> Json:
    return _content(description, {"application/json": {"schema": _ref(schema)}})


def _operation(summary: str, responses: Json) -> Json:
    refusal = {"$ref": "#/components/responses/Refused"}
    return {"summary": summary, "responses": responses | {"default": refusal}}


def _path(method: str, summary: str, responses: Json) -> Json:
    return {method: _operation(summary, responses)}


def _get(summary: str, schema: Schema, *more: str) -> Json:
    """more: further statuses with the same body."""
    return _path("get", summary, {status: _json_response(summary, schema) for status in ("200", *more)})
