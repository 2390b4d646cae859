"""Does the server call each class what the labelled images of it are called? Asked over HTTP, with the server's own
parts round the engine that will serve: router, queue, protocol.

The accuracy counts numbers. Labels in another order than the images' classes would leave it as it was, and give every
answer another class's name.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from io import BufferedRWPair
from threading import Thread
from typing import NamedTuple

import msgspec
import numpy as np

from deploy.runtime.engines import Engine
from deploy.runtime.http.access import AccessOptions, AccessRules, Secrets
from deploy.runtime.http.limits import Limits
from deploy.runtime.http.listener import Listener
from deploy.runtime.http.page import is_page
from deploy.runtime.http.routes import Router
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.inference.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.requests import HEADER_LENGTH
from deploy.runtime.protocol.shared_memory import SharedRegions
from deploy.runtime.protocol.top_k import TopClass
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from deploy.runtime.scheduling.service import DEFAULT_OPTIONS, Service
from toolchain.errors import DeviceError
from toolchain.records.bundle import CERTIFY, Bundle
from toolchain.records.certificate import Check
from toolchain.records.output import fold_label
from toolchain.records.tensors import Array

ASKED = 64  # images: an answer names all classes, so more would only be slower
TIMEOUT_S, POLL_S = 120.0, 0.01
MAX_NAMED = 3


class _NamedAnswer(msgspec.Struct):
    top_k: list[list[TopClass]]


class _NamedImages(NamedTuple):
    """classes: what the images' numbers are called in the data that they come from."""

    images: Array
    labels: Array
    classes: tuple[str, ...]


def check_names(bundle: Bundle, engine: Engine) -> Check | None:
    """None where the bundle has no labelled images, or is of a release that kept no names of theirs."""
    sample = _named_images(bundle)
    if sample is None:
        return None
    with _http_connection(bundle, engine) as stream:
        answers = [_ask(stream, bundle, image, len(sample.classes)) for image in sample.images]
    served = {answer.index: answer.label for each in answers for answer in each}
    names = [served.get(number, "") for number in range(len(sample.classes))]
    return compare_names(names, sample.classes, _count_right(answers, sample))


def compare_names(served: Sequence[str], classes: Sequence[str], counted: str = "") -> Check:
    """What the server calls each number, against what its images are called. Names that only one side knows (synset
    numbers as folders, say) tell nothing of the order."""
    expected = "each class answered by the name of its labelled images"
    known, asked = {fold_label(name) for name in served}, {fold_label(name) for name in classes}
    pairs = [(name, true) for name, true in zip(served, classes, strict=True) if fold_label(name) != fold_label(true)]
    wrong = [(name, true) for name, true in pairs if fold_label(true) in known or fold_label(name) in asked]
    if wrong:
        first = ", ".join(f"images of {true!r} are answered as {name!r}" for name, true in wrong[:MAX_NAMED])
        more = f" and {len(wrong) - MAX_NAMED} classes more" if len(wrong) > MAX_NAMED else ""
        return Check("names", False, f"{first}{more}: the bundle's labels are in another order", expected)
    found = f"{len(classes) - len(pairs)} of {len(classes)} names are the same over HTTP"
    if pairs:
        found += f"; the images of the others have names of their own ({pairs[0][1]!r} is answered as {pairs[0][0]!r})"
    return Check("names", True, "; ".join(words for words in (found, counted) if words), expected)


def _named_images(bundle: Bundle) -> _NamedImages | None:
    """The first ASKED ones."""
    if not bundle.has_file(CERTIFY):
        return None
    sample = bundle.read_arrays(CERTIFY)
    if not len(sample.get("labels", ())) or not len(sample.get("classes", ())):
        return None
    classes = tuple(str(name) for name in sample["classes"])
    return _NamedImages(sample["images"][:ASKED], sample["labels"][:ASKED], classes)


def _count_right(answers: Sequence[Sequence[TopClass]], sample: _NamedImages) -> str:
    if sample.labels.ndim != 1:
        return ""
    true = [fold_label(sample.classes[int(number)]) for number in sample.labels]
    right = sum(fold_label(each[0].label) == name for each, name in zip(answers, true, strict=True))
    return f"{right} of {len(answers)} images answered with their class's name"


def _ask(stream: BufferedRWPair, bundle: Bundle, image: Array, classes: int) -> list[TopClass]:
    """All classes, the best first."""
    spec = bundle.manifest.inputs[0]
    content = np.ascontiguousarray(image).tobytes()
    tensor = {
        "name": spec.name,
        "datatype": "UINT8",
        "shape": [1, *image.shape],
        "parameters": {"binary_data_size": len(content)},
    }
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"top_k": classes}})
    path = f"/v2/models/{bundle.manifest.name}/infer"
    status, body = _post(stream, path, head + content, f"{HEADER_LENGTH}: {len(head)}")
    if status != HTTPStatus.OK:
        raise DeviceError(f"a labelled image is answered with status {status}: {body[:300].decode()}")
    return msgspec.json.decode(body, type=_NamedAnswer).top_k[0]


def _post(stream: BufferedRWPair, path: str, body: bytes, header: str) -> tuple[int, bytes]:
    """By hand: nothing in a container can open a connection, so no HTTP client is there (tests hold it to that)."""
    lines = (f"POST {path} HTTP/1.1", "Host: names", f"Content-Length: {len(body)}", header, "", "")
    stream.write("\r\n".join(lines).encode() + body)
    stream.flush()
    status, length = stream.readline().split(), 0
    if not status:
        raise ConnectionError("the server closed the connection")
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return int(status[1]), stream.read(length)


@contextmanager
def _http_connection(bundle: Bundle, engine: Engine) -> Iterator[BufferedRWPair]:
    """To a server on another thread, over a pair of sockets: nobody else can reach it."""
    mine, its = socket.socketpair()
    mine.settimeout(TIMEOUT_S)

    def run() -> None:
        try:
            asyncio.run(_serve(bundle, engine, its))
        finally:
            its.close()  # what went wrong is not waited for

    thread = Thread(target=run, name="names", daemon=True)
    thread.start()
    stream = mine.makefile("rwb")
    try:
        yield stream
    except OSError as error:
        raise DeviceError(f"a labelled image is not answered over HTTP: {error or type(error).__name__}") from error
    finally:
        with suppress(OSError):  # what was not sent to a server that is gone
            stream.close()
        mine.close()
        thread.join(TIMEOUT_S)


async def _serve(bundle: Bundle, engine: Engine, its: socket.socket) -> None:
    """Until the client closes its end."""
    loop, log, limits, health = asyncio.get_running_loop(), Log("error"), Limits(), Health()
    budget = MemoryBudget(limits.held_bytes, limits.client_bytes)
    handler = InferenceHandler(bundle, health, Metrics(), log, TIMEOUT_S, SharedRegions(), budget)
    router = Router(handler, DEFAULT_OPTIONS, "off", limits.body_bytes)
    rules = AccessRules(Secrets(AccessOptions(), log), is_page)
    listener = Listener(router, router.connections, rules, limits, None, loop.time)
    service = Service(engine, call_soon=handler.call_soon)
    health.record_checks(service, ())
    try:
        await loop.connect_accepted_socket(listener.protocol, its)
        while router.connections:
            await asyncio.sleep(POLL_S)
    finally:
        await asyncio.to_thread(service.close)
        health.service = None  # threads that wait for images to decode know the handler: they must not keep the engine
