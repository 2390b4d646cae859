"""The metrics, from what a server of the null engine answers at /metrics, with everything switched on that can be."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPSConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from deploy.runtime.engines.null import NullArtifact
from docs.generate.example import MODEL, manifest
from docs.generate.markdown import code, page, table
from toolchain.records.bundle import file_record, write_bundle
from toolchain.records.storage import encode_record
from toolchain.records.tensors import preprocessing_digest

HEAD = ("name", "kind", "labels", "meaning")
ABOUT = """Every server answers `GET /metrics` in Prometheus's text format. Counters begin at zero when it starts.
Histograms have the usual `_bucket`, `_sum` and `_count`. How to use them: [Monitoring](../guides/monitoring.md)."""
# what not every machine can measure: the page must be the same wherever it is written
WHERE = "; only where RAPL or NVML can be read"
ELSEWHERE = {
    "edge_energy_joules_total": ("counter", "`source`, `domain`", f"Joules used since the server was ready{WHERE}."),
    "edge_certificate_joules_per_picture": ("gauge", "", f"Energy of an image when certified{WHERE}."),
}
START_S = 60.0
DERIVED = {"le", "quantile"}
NONE: Mapping[str, str] = {}


def metrics_page() -> str:
    with TemporaryDirectory() as folder, _server(Path(folder)) as port:
        _use(port)
        text = _get(port, "GET", "/metrics")
    rows = sorted([*_rows(text), *((code(name), *row) for name, row in ELSEWHERE.items())])
    return page("Metrics", "a running server's /metrics", ABOUT, table(HEAD, rows))


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        if name not in ELSEWHERE:
            labels = dict.fromkeys(label for one in family.samples for label in one.labels if label not in DERIVED)
            yield code(name), family.type, ", ".join(map(code, labels)), family.documentation


@contextmanager
def _server(folder: Path) -> Iterator[int]:
    """A server with TLS and tracing, certified; its port."""
    bundle, state, cert, key = (folder / name for name in ("null.bundle", "state", "tls.crt", "tls.key"))
    _write_bundle(folder, bundle)
    state.mkdir()
    subject = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2")
    subprocess.run(["openssl", *subject, "-out", cert, "-keyout", key], check=True, capture_output=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = {
        "BUNDLE": bundle, "STATE_DIR": state, "TLS_CERT": cert, "TLS_KEY": key, "HOST": "127.0.0.1", "PORT": port,
        "CERTIFY_SECONDS": 0.1, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }  # fmt: skip
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    words = [sys.executable, "-m", "deploy.runtime", "serve"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            _wait(server, port)
            yield port
        finally:
            server.kill()


def _wait(server: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError):
            if json.loads(_get(port, "GET", "/v2/health/ready")).get("ready"):
                return
        time.sleep(0.1)
    server.kill()
    raise RuntimeError(f"the server of the null engine was not ready: {server.communicate()[1]}")


def _use(port: int) -> None:
    """One request that is answered, one that is refused before it has a path: labels are seen only then."""
    shape = [1, *manifest().preprocessing.shape]
    image = {"name": "image", "datatype": "UINT8", "shape": shape, "data": [0] * int(np.prod(shape))}
    _get(port, "POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [image]}))
    _get(port, "POST", f"/v2/models/{MODEL}/infer", headers={"Content-Length": str(1 << 40)})


def _get(port: int, method: str, path: str, body: str | None = None, headers: Mapping[str, str] = NONE) -> str:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with closing(HTTPSConnection("127.0.0.1", port, timeout=10, context=anyone)) as connection:
        connection.request(method, path, body, dict(headers))
        return connection.getresponse().read().decode()


def _write_bundle(folder: Path, bundle: Path) -> None:
    """The example's manifest round a null engine that answers zeros."""
    known = manifest()
    artifact, sample = folder / known.serving.files[0], folder / "sample.npz"
    artifact.write_bytes(encode_record(NullArtifact(known.inputs, known.outputs)))
    images = np.zeros((2, *known.preprocessing.shape), np.uint8)
    np.savez(sample, allow_pickle=False, inputs=images, outputs_fp32=np.zeros((2, len(known.labels)), np.float32))
    certify = folder / "certify.npz"
    np.savez(certify, images=images, labels=np.zeros(2, np.int64))
    files = (artifact, sample, certify)
    golden = msgspec.structs.replace(known.golden, relative={"fp32": 0.1}, top1_agreement={"fp32": 1.0})
    digest = preprocessing_digest(known.preprocessing)
    known = msgspec.structs.replace(known, golden=golden, preprocessing_sha256=digest)
    write_bundle(bundle, msgspec.structs.replace(known, files=tuple(map(file_record, files))), files)
