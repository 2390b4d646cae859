"""The OpenAPI document is valid and complete, and the server takes and sends what it describes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from deploy.runtime.http.messages import Error
from deploy.runtime.http.openapi import document
from deploy.runtime.http.routes import Router, json_reply
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.inference.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.metadata import Liveness, Readiness
from deploy.runtime.protocol.shared_memory import RegionStatus, SharedRegions
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from deploy.runtime.scheduling.service import SchedulingOptions
from tests.bundles import null_bundle
from tests.deploy.runtime.protocol.test_protocol_client import picture
from tests.deploy.runtime.server import CAT, Running
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import TensorSpec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return null_bundle(tmp_path_factory.mktemp("openapi") / "null.bundle")


@pytest.fixture(scope="module")
def spec(bundle: Bundle) -> dict[str, Any]:
    return document(bundle.manifest)


def all_schemas(value: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """Of responses, of request bodies and of the components."""
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        if name == "schema" or key == "schemas":
            yield inner
        yield from all_schemas(inner, str(name))


def resolve(spec: dict[str, Any], reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        spec = spec[name]
    return spec


def is_valid(spec: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator({**schema, "components": spec["components"]}).is_valid(value))


def check_response(spec: dict[str, Any], operation: dict[str, Any], reply: tuple[int, dict[str, str], bytes]) -> None:
    """Status, content type and body are as the document describes."""
    status, headers, body = reply
    response = operation["responses"].get(str(status)) or spec["components"]["responses"]["Refused"]
    if "content" not in response:
        assert body == b""
        return
    schema = response["content"][headers["content-type"].partition(";")[0]]["schema"]
    value = json.loads(body) if headers["content-type"] == "application/json" else body.decode()
    assert is_valid(spec, schema, value), (schema, value)


@pytest.mark.parametrize(
    ("record", "encoded"),
    [
        (Liveness(live=True), b'{"live":true}'),
        (Readiness("null", ready=True), b'{"name":"null","ready":true}'),
        (Readiness("null", ready=False, error=""), b'{"name":"null","ready":false,"error":""}'),
        (Error("no"), b'{"error":"no"}'),
        (RegionStatus("a", "/a", 0, 64), b'{"name":"a","key":"/a","offset":0,"byte_size":64}'),
    ],
)
def test_a_reply_keeps_its_keys_and_their_order(spec: dict[str, Any], record: msgspec.Struct, encoded: bytes) -> None:
    assert json_reply(record).body == encoded
    assert is_valid(spec, spec["components"]["schemas"][type(record).__name__], json.loads(encoded))


def infer_schema(spec: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = spec["components"]["schemas"]["RequestBody"]
    return schema


def test_the_document_is_valid_openapi(spec: dict[str, Any]) -> None:
    validate(json.loads(json.dumps(spec)))
    for path, item in spec["paths"].items():
        names = {one["name"] for one in item.get("parameters", ()) if one["in"] == "path"}
        assert names == ({"name"} if "{name}" in path else set()), path


def test_every_schema_is_valid_and_every_reference_resolves(spec: dict[str, Any]) -> None:
    schemas = list(all_schemas(spec))
    assert len(schemas) > 40
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
    words = json.dumps(spec).split('"$ref": "')[1:]
    assert words and all(resolve(spec, word.partition('"')[0]) for word in words)


def test_every_path_of_the_server_is_in_the_document(bundle: Bundle, spec: dict[str, Any]) -> None:
    async def paths() -> set[str]:
        handler = InferenceHandler(bundle, Health("off"), Metrics(), Log("error"), 1.0, SharedRegions(), MemoryBudget())
        return Router(handler, SchedulingOptions(), "local", 1 << 20).paths

    assert not asyncio.run(paths()) - set(spec["paths"])


def test_the_server_serves_the_document(server: Running, spec: dict[str, Any]) -> None:
    status, headers, body = server.ask("GET", "/v2/openapi.json")
    assert (status, headers["content-type"], json.loads(body)) == (
        200,
        "application/json",
        json.loads(json.dumps(spec)),
    )
    assert "/v2/openapi.json" in json.loads(server.ask("GET", "/")[2])["endpoints"]


def test_every_response_matches_the_document(server: Running, spec: dict[str, Any]) -> None:
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            reply = server.ask(method.upper(), path.replace("{name}", "nothing"), b"{}")
            assert reply[0] not in (405, 500), (path, reply)
            if path != "/certificate":  # this server makes none
                assert reply[0] == 200 or path.split("/")[-1] in ("infer", "register", "status", "load", "unload")
            check_response(spec, operation, reply)


def test_responses_about_regions_match_the_document(server: Running, spec: dict[str, Any]) -> None:
    file = Path("/dev/shm/edge-test-openapi")
    file.write_bytes(bytes(64))
    region = "/v2/systemsharedmemory/region/{name}"
    try:
        body = json.dumps({"key": f"/{file.name}", "byte_size": 64}).encode()
        for verb, method in (("register", "post"), ("status", "get"), ("unregister", "post")):
            path = f"{region}/{verb}"
            reply = server.ask(method.upper(), path.replace("{name}", "region"), body)
            assert reply[0] == 200
            check_response(spec, spec["paths"][path][method], reply)
    finally:
        file.unlink()


def test_the_server_takes_exactly_the_requests_that_match_the_document(server: Running, spec: dict[str, Any]) -> None:
    operation = spec["paths"]["/v2/models/null/infer"]["post"]
    floats = {"name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0.5] * 192}
    for tensor, takes in (
        (CAT, True),
        ({**CAT, "data": [[[[7] * 3] * 8] * 8]}, True),
        (floats, True),
        ({**CAT, "name": "other"}, False),
        ({**CAT, "shape": [1, 8, 8]}, False),
        ({**CAT, "data": [256] * 192}, False),
        ({**floats, "shape": [1, 8, 8, 3]}, False),
    ):
        request = {"inputs": [tensor]}
        reply = server.ask("POST", "/v2/models/null/infer", json.dumps(request).encode())
        assert is_valid(spec, infer_schema(spec), request) is takes is (reply[0] == 200), (tensor, reply)
        check_response(spec, operation, reply)


def test_the_response_to_an_image_matches_the_document(server: Running, spec: dict[str, Any]) -> None:
    operation = spec["paths"]["/v2/models/null/infer"]["post"]
    assert "image/jpeg" in operation["requestBody"]["content"]
    check_response(spec, operation, server.ask("POST", "/v2/models/null/infer", picture(), Content_Type="image/jpeg"))


def test_a_model_without_image_input_documents_none(tmp_path: Path) -> None:
    inputs = (TensorSpec("features", "float32", (None, 4)),)
    spec = document(null_bundle(tmp_path / "null.bundle", inputs=inputs).manifest)
    assert "image/jpeg" not in spec["paths"]["/v2/models/null/infer"]["post"]["requestBody"]["content"]
    tensor = {"name": "features", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}
    assert is_valid(spec, infer_schema(spec), {"inputs": [tensor]})
    assert not is_valid(spec, infer_schema(spec), {"inputs": [{**tensor, "datatype": "BYTES"}]})
