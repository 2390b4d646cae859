"""The REST surface as an OpenAPI 3.1 document, with the model's own shapes: manifest -> plain dictionaries. No HTTP.

The web page's files are not in it. What is open to whom (tokens, the admin port) is access.py's business: the document
names the one way to show a token, and that a server may ask for none.
"""

from typing import Any

import msgspec
import numpy as np

from deploy.runtime.http import shared_memory
from deploy.runtime.protocol import metadata
from deploy.runtime.protocol.statistics import Statistics
from deploy.runtime.protocol.tensors import DATATYPES
from toolchain import __version__
from toolchain.records.certificate import Certificate
from toolchain.records.manifest import Manifest
from toolchain.records.tensors import TensorSpec

Json = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"
RECORDS = (Certificate, Statistics, shared_memory.Registration)
SIZE = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}
LENGTH = "Inference-Header-Content-Length"
NAMED = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
REFUSED = {  # of an inference, beside what every call may be refused with
    "400": "What was found in the request, what was expected, what to do.",
    "413": "The body is too large.",
    "503": "Not ready, or too much to do: try again after Retry-After seconds.",
    "504": "The engine had not begun before the request's time was over.",
}


def document(manifest: Manifest) -> Json:
    """Everything that is answered, and in which form."""
    _, records = msgspec.json.schema_components(RECORDS, ref_template=REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{manifest.name} by Edge Toolchain",
            "version": __version__,
            "description": "One image classifier by the Open Inference Protocol v2 and its extensions: "
            f"{', '.join(metadata.EXTENSIONS)}. Where there is an admin port, metrics and shared memory are there.",
        },
        "paths": _server_paths() | _model_paths(manifest) | _region_paths(),
        "components": {
            "schemas": records | _schemas(manifest),
            "responses": {"Refused": _told("Why not.", "Error")},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _server_paths() -> Json:
    plain = {"200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": TEXT}}}}
    page = {"application/json": {"schema": _ref("About")}, "text/html": {"schema": TEXT}}
    ready = _get("Whether every check passed and it serves.", "Ready", "503")
    return {
        "/": _path("get", "What is here; the web page for whoever asks for HTML.", {"200": _content("What.", page)}),
        "/v2": _get("The server.", "Server"),
        "/v2/openapi.json": _get("This document.", "Any"),
        "/v2/health/live": _get("Whether the process answers.", "Live"),
        "/v2/health/ready": ready,
        "/healthz": ready,
        "/v2/models/stats": _get("What was served so far.", "Statistics"),
        "/certificate": _get("What this device found, signed; 404: none was made.", "Certificate"),
        "/metrics": _path("get", "Counters and gauges.", plain),
    }


def _model_paths(manifest: Manifest) -> Json:
    model = f"/v2/models/{manifest.name}"
    found: Json = {}
    for base in (model, f"{model}/versions/{manifest.release}"):
        found[base] = _get("The model: names, datatypes and shapes.", "Model")
        found[f"{base}/ready"] = _get("As /v2/health/ready.", "Ready", "503")
        found[f"{base}/stats"] = _get("As /v2/models/stats.", "Statistics")
        found[f"{base}/config"] = _get("The model's configuration, as Triton words it.", "Config")
        found[f"{base}/infer"] = {"post": _infer(manifest)}
    return found


def _region_paths() -> Json:
    system, cuda = shared_memory.PREFIX, shared_memory.CUDA
    region = f"{system}/region/{{name}}"
    empty = {"200": {"description": "Done."}, "400": _told("What does not fit.", "Error")}
    status = {"200": _told("What is registered.", "Regions"), "400": _told("No such region.", "Error")}
    asked = {"required": True, "content": {"application/json": {"schema": _ref("Registration")}}}
    register = {"post": _operation("Make a region known.", empty) | {"requestBody": asked}}
    return {
        f"{system}/status": _path("get", "All regions.", status),
        f"{system}/unregister": _path("post", "Forget all regions.", empty),
        f"{region}/status": {"parameters": [NAMED], **_path("get", "One region.", status)},
        f"{region}/register": {"parameters": [NAMED], **register},
        f"{region}/unregister": {"parameters": [NAMED], **_path("post", "Forget a region.", empty)},
        f"{cuda}/status": _path("get", "None are offered: an empty list.", status),
        f"{cuda}/unregister": _path("post", "None are offered: done.", empty),
    }


def _infer(manifest: Manifest) -> Json:
    bodies: Json = {
        "application/json": {"schema": _ref("InferRequest")},
        "application/octet-stream": {"schema": {"description": f"JSON of {LENGTH} bytes (0: none), then tensors."}},
    }
    if _takes_pictures(manifest):
        bodies |= {"image/jpeg": {"schema": {}}, "image/png": {"schema": {}}}
    answers = {
        "application/json": {"schema": _ref("InferReply")},
        "application/octet-stream": {"schema": {"description": f"JSON of {LENGTH} bytes, then tensors."}},
    }
    told = {"200": _content("The outputs.", answers)} | {code: _told(why, "Error") for code, why in REFUSED.items()}
    told["503"]["headers"] = {"Retry-After": {"schema": SIZE}}
    length = {"name": LENGTH, "in": "header", "required": False, "schema": SIZE}
    asked = {"required": True, "content": bodies}
    return _operation("Ask the model.", told) | {"parameters": [length], "requestBody": asked}


def _takes_pictures(manifest: Manifest) -> bool:
    """Encoded, or normalized by whoever asks: see exchange.py and normalized.py."""
    specs = manifest.inputs
    return len(specs) == 1 and specs[0].dtype == "uint8" and specs[0].shape == (None, *manifest.preprocessing.shape)


def _schemas(manifest: Manifest) -> Json:
    inputs = [_given(spec) for spec in manifest.inputs]
    if _takes_pictures(manifest):
        name, (height, width, channels) = manifest.inputs[0].name, manifest.preprocessing.shape
        pictures = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "minItems": 1}
        inputs.append(_tensor(name, "BYTES", {"type": "array", "items": _size(1), "minItems": 1}, pictures))
        inputs.append(_given(TensorSpec(name, "float32", (None, channels, height, width))))
    output = {"type": "object", "required": ["name"], "properties": {"name": {"enum": _names(manifest.outputs)}}}
    parameters = {"type": "object"}
    return {
        "Any": {"type": "object"},
        "About": _object(model=TEXT, release=TEXT, bundle=TEXT, endpoints=_list(TEXT)),
        "Config": _object(name=TEXT, max_batch_size=SIZE, input=_list(parameters), output=_list(parameters)),
        "Error": _object(error=TEXT),
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": TEXT,
                "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": inputs}},
                "outputs": _list(output),
                "parameters": {"type": "object", "properties": {"timeout": SIZE, "timings": {"type": "boolean"}}},
            },
        },
        "InferReply": _object(model_name=TEXT, model_version=TEXT, outputs=_list(_ref("Output"))),
        "Live": _object(live={"type": "boolean"}),
        "Model": _object(name=TEXT, versions=_list(TEXT), platform=TEXT, inputs=_TENSORS, outputs=_TENSORS),
        "Output": _object(name={"enum": _names(manifest.outputs)}, datatype=TEXT, shape=_list(SIZE)),
        "Ready": _object(name=TEXT, ready={"type": "boolean"}),
        "Regions": _list(_object(name=TEXT, key=TEXT, offset=SIZE, byte_size=SIZE)),
        "Server": _object(name=TEXT, version=TEXT, extensions=_list(TEXT)),
    }


def _given(spec: TensorSpec) -> Json:
    """A tensor as JSON: flat, or nested as its shape."""
    kind = np.dtype(spec.dtype).kind
    number: Json = {"type": {"f": "number", "b": "boolean"}.get(kind, "integer")}
    if kind in "iu":
        number |= {"minimum": int(np.iinfo(spec.dtype).min), "maximum": int(np.iinfo(spec.dtype).max)}
    nested: Json = number
    for axis in reversed(spec.shape):
        nested = {"type": "array", "items": nested} | _length(axis)
    sizes = [_size(1) if axis is None else {"const": axis} for axis in spec.shape]
    shape = {"type": "array", "prefixItems": sizes} | _length(len(sizes))
    return _tensor(spec.name, DATATYPES[spec.dtype], shape, {"anyOf": [_list(number), nested]})


def _tensor(name: str, datatype: str, shape: Json, data: Json) -> Json:
    found = _object(name={"const": name}, datatype={"const": datatype}, shape=shape)
    found["properties"] |= {"data": data, "parameters": {"type": "object"}}
    return found


def _length(axis: int | None) -> Json:
    return {} if axis is None else {"minItems": axis, "maxItems": axis}


def _size(least: int) -> Json:
    return {"type": "integer", "minimum": least}


def _names(specs: tuple[TensorSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def _object(**properties: Json) -> Json:
    """All of them required; more may come."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_TENSORS = _list(_object(name=TEXT, datatype=TEXT, shape=_list({"type": "integer"})))


def _ref(name: str) -> Json:
    return {"$ref": REFERENCE.format(name=name)}


def _content(description: str, content: Json) -> Json:
    return {"description": description, "content": content}


def _told(description: str, schema: str) -> Json:
    return _content(description, {"application/json": {"schema": _ref(schema)}})


def _operation(summary: str, responses: Json) -> Json:
    refused = {"$ref": "#/components/responses/Refused"}
    return {"summary": summary, "responses": responses | {"default": refused}}


def _path(method: str, summary: str, responses: Json) -> Json:
    return {method: _operation(summary, responses)}


def _get(summary: str, schema: str, *more: str) -> Json:
    """more: statuses with the same body."""
    return _path("get", summary, {status: _told(summary, schema) for status in ("200", *more)})
