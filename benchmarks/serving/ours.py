"""Our server, started as in its container but without one, and every way to send it requests."""

import json
import mmap
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.serving.clients.http1 import request
from benchmarks.serving.clients.infer_message import infer_request, raw_output
from benchmarks.serving.clients.ways import Question, Way, written
from benchmarks.serving.load import Ask, Target, run_slice
from benchmarks.serving.processes import start_process, wait_until_listening
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

NAME = "ours"
CONNECTIONS = 16
JSON_LENGTH = "Inference-Header-Content-Length"
SHARED = Path("/dev/shm")


class Served(NamedTuple):
    """A running server."""

    bundle: Bundle
    folder: Path
    question: Question
    pid: int
    port: int
    grpc_port: int
    socket: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def path(self) -> str:
        return f"/v2/models/{self.bundle.manifest.name}/infer"

    def way(self, transport: str, target: Target, read: Callable[[bytes], Array], form: str = "raw") -> Way:
        return Way(NAME, transport, self.pid, target, read, form)


@contextmanager
def serving(bundle: Bundle, folder: Path, question: Question, within: Sequence[str] = ()) -> Iterator[list[Way]]:
    """Every way, once the server is ready; RuntimeError with its log if it exits. The log is in `folder`. within: a
    command prefix for the server process."""
    more = shlex.split(os.environ.get("OURS", ""))
    log, socket = folder / "ours.log", folder / "ours.socket"
    words = ["serve", f"--bundle={bundle.folder}", "--host=127.0.0.1", "--port=0", "--certify=off"]
    words += ["--grpc-port=0", f"--unix-socket={socket}", *more]
    with start_process([*within, sys.executable, "-m", "deploy.runtime", *words], log) as process:
        ready = wait_until_listening(process, log)
        ports = ready["listening"]["port"], ready["listening for gRPC"]["grpc_port"]
        server = Served(bundle, folder, question, process.pid, *ports, socket)
        with shared_memory(server) as shared:
            yield [*over_http(server), *over_unix(server), *over_grpc(server), *shared]


def header(server: Served, parameters: dict[str, Any], output: dict[str, Any]) -> bytes:
    """The JSON header of a request for one image, by Open Inference Protocol v2."""
    (inputs,), (outputs,) = server.bundle.manifest.inputs, server.bundle.manifest.outputs
    shape = list(server.question.raw.shape)
    tensor = {"name": inputs.name, "datatype": "UINT8", "shape": shape, "parameters": parameters}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": outputs.name, "parameters": output}]}).encode()


def binary_request(server: Served) -> bytes:
    raw = server.question.raw.tobytes()
    text = header(server, {"binary_data_size": len(raw)}, {"binary_data": True})
    fields = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    return request("POST", server.path, text + raw, fields)


def read_binary(classes: int, body: bytes) -> Array:
    """The logits of a reply whose tensor follows the JSON header."""
    return np.frombuffer(body[-4 * classes :], np.float32)


def read_message(body: bytes) -> Array:
    return np.frombuffer(raw_output(body), np.float32)


def read_picture(body: bytes) -> Array:
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32)


def classes_of(server: Served) -> int:
    return server.bundle.manifest.outputs[0].shape[-1] or 0


def over_http(server: Served) -> Iterator[Way]:
    files = written(server.folder, "http", binary_request(server))
    read = partial(read_binary, classes_of(server))
    yield server.way("HTTP uint8", Target(server.address, files), read)
    content = request("POST", server.path, server.question.jpeg, {"Content-Type": "image/jpeg"})
    files = written(server.folder, "jpeg", content)
    yield server.way("HTTP JPEG", Target(server.address, files), read_picture, "jpeg")


def over_unix(server: Served) -> Iterator[Way]:
    files = written(server.folder, "unix", binary_request(server))
    yield server.way("Unix socket", Target(str(server.socket), files), partial(read_binary, classes_of(server)))


def over_grpc(server: Served) -> Iterator[Way]:
    (inputs,), (outputs,) = server.bundle.manifest.inputs, server.bundle.manifest.outputs
    raw, shape = server.question.raw.tobytes(), server.question.raw.shape
    message = infer_request(server.bundle.manifest.name, inputs.name, shape, outputs.name, raw)
    target = Target(f"127.0.0.1:{server.grpc_port}", written(server.folder, "grpc", message), "grpc")
    yield server.way("gRPC", target, read_message)


@contextmanager
def shared_memory(server: Served) -> Iterator[list[Way]]:
    """Triton's system shared memory: one region per connection, holding the image followed by space for the reply. The
    image is written once, as a request's bytes are over HTTP."""
    raw, answer = server.question.raw.tobytes(), 4 * classes_of(server)
    names = [f"bench-serving-{os.getpid()}-{number}" for number in range(CONNECTIONS)]
    regions = [SHARED / name for name in names]
    for region in regions:
        region.write_bytes(raw + bytes(answer))
    try:
        for name in names:
            _register(server, name, len(raw) + answer)
        yield [_shared_way(server, names, len(raw), answer)]
    finally:
        for region in regions:
            region.unlink()


def _register(server: Served, name: str, size: int) -> None:
    text = json.dumps({"key": f"/{name}", "offset": 0, "byte_size": size}).encode()
    content = request("POST", f"/v2/systemsharedmemory/region/{name}/register", text)
    run_slice(Ask(Target(server.address, written(server.folder, "register", content))))


def _shared_way(server: Served, names: Sequence[str], size: int, answer: int) -> Way:
    def content(name: str) -> bytes:
        input_region = {"shared_memory_region": name, "shared_memory_byte_size": size}
        output_region = {"shared_memory_region": name, "shared_memory_offset": size, "shared_memory_byte_size": answer}
        return request(
            "POST", server.path, header(server, input_region, output_region), {"Content-Type": "application/json"}
        )

    def read(_: bytes) -> Array:
        with (SHARED / names[0]).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            return np.frombuffer(memory[size:], np.float32)

    files = written(server.folder, "shared", *map(content, names))
    return server.way("shared memory", Target(server.address, files), read)
