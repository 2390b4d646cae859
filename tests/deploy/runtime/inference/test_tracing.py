"""Tracing is off, and nothing of it imported, unless a collector is named; what cannot be traced is told at once."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.runtime.inference.tracing import collector_url
from tests.deploy.runtime.server import CAT, ROOT, command, serving
from toolchain.errors import UsageError

ADDRESS = "http://collector:4318"
ALL, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
# The container's program in an image without the extra.
WITHOUT = """
import runpy, sys
sys.modules["opentelemetry"] = None
runpy.run_module("deploy.runtime", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, ""),
        ({ALL: ""}, ""),
        ({ALL: ADDRESS}, f"{ADDRESS}/v1/traces"),
        ({ALL: f"{ADDRESS}/"}, f"{ADDRESS}/v1/traces"),
        ({ALL: ADDRESS, TRACES: "https://other/spans"}, "https://other/spans"),
        ({ALL: ADDRESS, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, f"{ADDRESS}/v1/traces"),
        ({ALL: ADDRESS, "OTEL_SDK_DISABLED": "True"}, ""),
        ({ALL: ADDRESS, "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_opentelemetrys_own_variables_say_where_to(environment: dict[str, str], url: str) -> None:
    assert collector_url(environment) == url


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({ALL: "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318: expected http://HOST:4318, or https"),
        ({TRACES: "http://"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://: expected http://HOST:4318, or https"),
        (
            {ALL: ADDRESS, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: expected http/protobuf, the only supported protocol",
        ),
    ],
)
def test_what_cannot_be_sent_to_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        collector_url(environment)
    assert str(caught.value).startswith(words)


def test_off_nothing_of_opentelemetry_is_imported(null_folder: Path) -> None:
    with serving(null_folder, program=("-X", "importtime", "-m", "deploy.runtime")) as server:
        assert server.infer(CAT)[0] == 200
        assert b"edge_trace" not in server.ask("GET", "/metrics")[2]
    imported = {line["text"].rpartition("|")[2].strip() for line in server.lines if line["event"] == "plain"}
    assert "deploy.runtime.inference.tracing" in imported
    assert not [
        name
        for name in imported
        if name.startswith(("opentelemetry", "requests", "urllib3", "deploy.runtime.inference.spans"))
    ]


def failed(folder: Path, program: tuple[str, ...] = ("-m", "deploy.runtime"), **named: str) -> tuple[int, list[str]]:
    words = command("serve", "--bundle", folder, "--port", 0, program=program)
    environment = {**os.environ, "CERTIFY": "off", **named}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("{")]


def test_an_image_without_the_extra_says_so_and_does_not_serve(null_folder: Path) -> None:
    code, lines = failed(null_folder, ("-c", WITHOUT), OTEL_EXPORTER_OTLP_ENDPOINT=ADDRESS)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(
        "deploy.runtime: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not in this image"
    )
    assert lines[0].endswith("build it with: toolchain image BUNDLE --tracing, or unset the variable")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "many"},
            "OTEL_BSP_MAX_QUEUE_SIZE=many in the environment: expected 6 or more spans",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "8"}, "OTEL_BSP_* in the environment: max_export_batch_size must be less than"),
    ],
)
def test_a_queue_that_cannot_be_is_refused(null_folder: Path, named: dict[str, str], words: str) -> None:
    code, lines = failed(null_folder, OTEL_EXPORTER_OTLP_ENDPOINT=ADDRESS, **named)
    assert (code, len(lines), words in lines[0]) == (2, 1, True), lines
