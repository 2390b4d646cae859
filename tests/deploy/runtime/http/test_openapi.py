"""The document is a whole one, and the server answers as it says."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from deploy.runtime.http.openapi import document
from deploy.runtime.http.routes import Router
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.inference.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.shared_memory import SharedRegions
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
def told(bundle: Bundle) -> dict[str, Any]:
    return document(bundle.manifest)


def every_schema(value: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """Those of answers and bodies, and those of the components."""
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        if name == "schema" or key == "schemas":
            yield inner
        yield from every_schema(inner, str(name))


def found_at(told: dict[str, Any], reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        told = told[name]
    return told


def valid(told: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator({**schema, "components": told["components"]}).is_valid(value))


def check_answer(told: dict[str, Any], operation: dict[str, Any], answer: tuple[int, dict[str, str], bytes]) -> None:
    """The status, the type and the body are those of the document."""
    status, headers, body = answer
    response = operation["responses"].get(str(status)) or told["components"]["responses"]["Refused"]
    if "content" not in response:
        assert body == b""
        return
    schema = response["content"][headers["content-type"].partition(";")[0]]["schema"]
    value = json.loads(body) if headers["content-type"] == "application/json" else body.decode()
    assert valid(told, schema, value), (schema, value)


def infer_schema(told: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = told["components"]["schemas"]["InferRequest"]
    return schema


def test_the_document_is_formed_as_openapi_asks(told: dict[str, Any]) -> None:
    validate(json.loads(json.dumps(told)))
    for path, item in told["paths"].items():
        named = {one["name"] for one in item.get("parameters", ()) if one["in"] == "path"}
        assert named == ({"name"} if "{name}" in path else set()), path


def test_every_schema_is_one_and_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    found = list(every_schema(told))
    assert len(found) > 40
    for schema in found:
        Draft202012Validator.check_schema(schema)
    words = json.dumps(told).split('"$ref": "')[1:]
    assert words and all(found_at(told, word.partition('"')[0]) for word in words)


def test_every_path_that_the_server_knows_is_in_it(bundle: Bundle, told: dict[str, Any]) -> None:
    async def paths() -> set[str]:
        desk = InferenceHandler(bundle, Health("off"), Metrics(), Log("error"), 1.0, SharedRegions())
        return Router(desk, SchedulingOptions(), "local").paths

    assert not asyncio.run(paths()) - set(told["paths"])


def test_the_server_hands_it_out(server: Running, told: dict[str, Any]) -> None:
    status, headers, body = server.ask("GET", "/v2/openapi.json")
    assert (status, headers["content-type"], json.loads(body)) == (
        200,
        "application/json",
        json.loads(json.dumps(told)),
    )
    assert "/v2/openapi.json" in json.loads(server.ask("GET", "/")[2])["endpoints"]


def test_every_path_is_answered_as_it_says(server: Running, told: dict[str, Any]) -> None:
    for path, item in told["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            answer = server.ask(method.upper(), path.replace("{name}", "nothing"), b"{}")
            assert answer[0] not in (405, 500), (path, answer)
            if path != "/certificate":  # it was told not to make one
                assert answer[0] == 200 or path.split("/")[-1] in ("infer", "register", "status"), (path, answer)
            check_answer(told, operation, answer)


def test_regions_are_told_as_it_says(server: Running, told: dict[str, Any]) -> None:
    file = Path("/dev/shm/edge-test-openapi")
    file.write_bytes(bytes(64))
    region = "/v2/systemsharedmemory/region/{name}"
    try:
        body = json.dumps({"key": f"/{file.name}", "byte_size": 64}).encode()
        for verb, method in (("register", "post"), ("status", "get"), ("unregister", "post")):
            path = f"{region}/{verb}"
            answer = server.ask(method.upper(), path.replace("{name}", "told"), body)
            assert answer[0] == 200
            check_answer(told, told["paths"][path][method], answer)
    finally:
        file.unlink()


def test_what_it_says_of_requests_is_what_the_server_takes(server: Running, told: dict[str, Any]) -> None:
    operation = told["paths"]["/v2/models/null/infer"]["post"]
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
        asked = {"inputs": [tensor]}
        answer = server.ask("POST", "/v2/models/null/infer", json.dumps(asked).encode())
        assert valid(told, infer_schema(told), asked) is takes is (answer[0] == 200), (tensor, answer)
        check_answer(told, operation, answer)


def test_a_picture_is_answered_as_it_says(server: Running, told: dict[str, Any]) -> None:
    operation = told["paths"]["/v2/models/null/infer"]["post"]
    assert "image/jpeg" in operation["requestBody"]["content"]
    check_answer(told, operation, server.ask("POST", "/v2/models/null/infer", picture(), Content_Type="image/jpeg"))


def test_a_model_that_takes_no_pictures_offers_none(tmp_path: Path) -> None:
    inputs = (TensorSpec("features", "float32", (None, 4)),)
    told = document(null_bundle(tmp_path / "null.bundle", inputs=inputs).manifest)
    assert "image/jpeg" not in told["paths"]["/v2/models/null/infer"]["post"]["requestBody"]["content"]
    tensor = {"name": "features", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}
    assert valid(told, infer_schema(told), {"inputs": [tensor]})
    assert not valid(told, infer_schema(told), {"inputs": [{**tensor, "datatype": "BYTES"}]})
