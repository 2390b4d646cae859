"""The HTTP interface, from the OpenAPI document that the server itself hands out."""

from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.runtime.http.openapi import document
from docs.generate.example import MODEL, manifest
from docs.generate.markdown import code, fence, page, sentence, table

Json = dict[str, Any]
VERSIONS = "/versions/"  # the same paths once more, with the release in them
ABOUT = f"""Every server describes itself at `/v2/openapi.json` (OpenAPI 3.1), with its own model's shapes. This page is
that document for a model `{MODEL}` of 224 x 224 colour images and two classes. The protocol is the
[Open Inference Protocol v2](https://github.com/kserve/open-inference-protocol) with Triton's binary tensor extension,
so that Triton's and KServe's clients work unchanged. How to send images:
[The server and its clients](../guides/serving.md)."""


def http_page() -> str:
    found = document(manifest())
    parts = [part for path, item in found["paths"].items() if VERSIONS not in path for part in _path(path, item)]
    overview = table(("method", "path", "what it does"), _rows(found["paths"]))
    schemas = (part for name, schema in found["components"]["schemas"].items() for part in _schema(name, schema))
    return page("HTTP", "the server's OpenAPI document", ABOUT, overview, *parts, "## Schemas", *schemas)


def _operations(item: Json) -> Iterator[tuple[str, Json]]:
    yield from ((method.upper(), one) for method, one in item.items() if isinstance(one, dict) and "responses" in one)


def _rows(paths: Json) -> Iterator[tuple[str, ...]]:
    for path, item in paths.items():
        for method, operation in _operations(item):
            yield method, code(path), operation["summary"]


def _path(path: str, item: Json) -> Iterator[str]:
    for method, operation in _operations(item):
        yield f"## {method} {path}"
        yield sentence(operation["summary"])
        body = operation.get("requestBody", {}).get("content", {})
        yield (
            table(("body", "form"), ((code(kind), _form(one["schema"])) for kind, one in body.items())) if body else ""
        )
        yield table(
            ("status", "when", "form"), (_response(status, one) for status, one in operation["responses"].items())
        )


def _response(status: str, response: Json) -> tuple[str, ...]:
    if "$ref" in response:
        return (status, "Any other refusal.", "[Error](#error)")
    forms = [f"{code(kind)}: {_form(one['schema'])}" for kind, one in response.get("content", {}).items()]
    return (status, response["description"], "; ".join(forms))


def _form(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    return str(schema.get("description") or schema.get("type") or "the image's bytes")


def _schema(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name}"
    yield fence(msgspec.json.format(msgspec.json.encode(schema), indent=1).decode(), "json")
