"""One image, sent by every client as people use it: all are answered alike.

    python -m benchmarks.intake.clients

The model is MobileNet-v2 without a training (benchmarks/serving/models.py), so that probabilities differ. The reference
is the answer to the raw pixels; a client is answered alike where it gets the same best class with the same probability.
"""

import base64
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import requests
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from benchmarks import logger
from benchmarks.intake.perf_analyzer import install_perf_analyzer
from benchmarks.rows import Row, print_rows, row
from benchmarks.serving.models import SHAPE, bundle_of, pictures
from benchmarks.serving.others import environment
from benchmarks.serving.processes import start_process, wait_until_listening
from toolchain.cli.console import log_to_stderr
from toolchain.records.output import SOFTMAX

ROOT = Path(__file__).parents[2]
MODEL, TIMEOUT_S = "mobilenet_v2", 600.0
TOLERANCE = 6e-4  # the page shows tenths of a percent
QUICK = bool(os.environ.get("QUICK"))
Answers = dict[str, Any]  # by way: logits, (index, probability), or a text where it was refused


class Server(NamedTuple):
    """file: a PNG of the model's own size."""

    port: int
    grpc_port: int
    file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/{MODEL}/infer"


@contextmanager
def serve_model() -> Iterator[Server]:
    flags = (f"--bundle={bundle_of(MODEL).folder}", "--host=127.0.0.1", "--port=0", "--grpc-port=0", "--certify=off")
    with TemporaryDirectory(prefix="clients-") as at:
        file, log = Path(at, "image.png"), Path(at, "server.log")
        Image.fromarray(pictures(SHAPE, 1)[0]).save(file)
        with start_process([sys.executable, "-m", "deploy.runtime", "serve", *flags], log, ROOT) as process:
            ready = wait_until_listening(process, log)
            yield Server(ready["listening"]["port"], ready["listening for gRPC"]["grpc_port"], file)


def best_of(answer: Any) -> tuple[int, float] | str:
    """The best class and its probability, from whatever the client got."""
    if isinstance(answer, str | tuple):
        return answer
    if isinstance(answer, bytes):
        reply = json.loads(answer)
        best = reply["top_k"][0][0] if "top_k" in reply else None
        return (best["index"], best["probability"]) if best else f"no top_k: {answer[:200]!r}"
    shares = SOFTMAX.class_values(np.asarray(answer).reshape(1, -1))[0]
    return int(shares.argmax()), float(shares.max())


def reference_answer(server: Server) -> tuple[int, float]:
    pixels = np.asarray(Image.open(server.file))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    connection.request("POST", f"/v2/models/{MODEL}/infer", pixels.tobytes(), {"Inference-Header-Content-Length": "0"})
    reply = connection.getresponse()
    body = reply.read()[int(reply.headers["Inference-Header-Content-Length"]) :]
    connection.close()
    found = best_of(np.frombuffer(body, np.float32))
    assert not isinstance(found, str)
    return found


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True).stdout


def triton_answers(server: Server, protocol: str) -> Answers:
    port = server.port if protocol == "http" else server.grpc_port
    words = [protocol, f"127.0.0.1:{port}", MODEL, str(server.file)]
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.intake.programs.triton_ways", *words]
    answers: Answers = json.loads(_run(program))
    return answers


def curl_answers(server: Server) -> Answers:
    file, text = f"@{server.file}", server.file.with_suffix(".json")
    content = base64.encodebytes(server.file.read_bytes()).decode()
    text.write_text(json.dumps({"inputs": [_as_bytes_tensor(f"data:image/png;base64,{content}")]}))
    subprocess.run(["gzip", "-kf", server.file], check=True)
    packed = server.file.with_name(f"{server.file.name}.gz")
    ways = {
        "-F": ["-F", f"file={file}"],
        "--data-binary": ["--data-binary", file],
        "octet-stream": ["--data-binary", file, "-H", "Content-Type: application/octet-stream"],
        "Image/PNG": ["--data-binary", file, "-H", "Content-Type: Image/PNG"],
        "-T": ["-X", "POST", "-T", str(server.file)],
        "chunked": ["--data-binary", file, "-H", "Transfer-Encoding: chunked"],
        "gzip": ["--data-binary", f"@{packed}", "-H", "Content-Encoding: gzip"],
        "JSON": ["-d", f"@{text}"],
        "--compressed": ["--compressed", "-d", f"@{text}"],
        "by a proxy's target": ["--proxy", f"http://127.0.0.1:{server.port}", "-F", f"file={file}"],
    }
    return {way: _attempt(partial(_run, ["curl", "-sS", *given, server.url])) for way, given in ways.items()}


def _as_bytes_tensor(text: str) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}


def requests_answers(server: Server) -> Answers:
    pixels, text = Image.open(server.file), base64.urlsafe_b64encode(server.file.read_bytes()).decode()

    def saved(kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        pixels.save(file, kind, **options)
        return file.getvalue()

    image = server.file.read_bytes()
    ways: dict[str, dict[str, Any]] = {
        "files": {"files": {"file": image}},
        "data": {"data": image},
        "a generator": {"data": iter([image[:999], image[999:]])},
        "url-safe base64": {"json": {"inputs": [_as_bytes_tensor(text)]}},
        "lossless WebP": {"data": saved("WEBP", lossless=True)},
        "BMP": {"data": saved("BMP")},
        "TIFF": {"data": saved("TIFF", compression="tiff_lzw")},
    }
    post = partial(requests.post, server.url, timeout=TIMEOUT_S)
    replies = {way: _attempt(partial(post, **given)) for way, given in ways.items()}
    return {way: reply if isinstance(reply, str) else reply.content for way, reply in replies.items()}


def browser_answers(server: Server) -> Answers:
    """The page's, for a file that is chosen there; and a form's without the page's scripts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.locator("#file").set_input_files(server.file)
        first = page.locator("#top li").first
        expect(first).to_be_visible(timeout=TIMEOUT_S * 1e3)
        label, share = first.locator(".label").inner_text(), first.locator(".share").inner_text()
        page.goto(f"http://127.0.0.1:{server.port}/v2")  # of the same origin: what other sites post is refused
        page.set_content(
            f'<form method="post" enctype="multipart/form-data" action="{server.url}">'
            '<input type="file" name="image"><button name="send" value="1">Send</button></form>'
        )
        page.locator("input").set_input_files(server.file)
        with page.expect_navigation() as sent:
            page.locator("button").click()
        answers = {
            "the page": (int(label.removeprefix("class ")), float(share.rstrip(" %")) / 100),
            "a form": sent.value.body(),
        }
        browser.close()
        return answers


def kserve_answers(server: Server) -> Answers:
    python = environment("kserve") / "python"
    program = Path(__file__).parent / "programs" / "kserve_ways.py"
    words = [f"http://127.0.0.1:{server.port}", f"127.0.0.1:{server.grpc_port}", MODEL, str(server.file)]
    answers: Answers = json.loads(_run([str(python), "-W", "ignore", str(program), *words]).splitlines()[-1])
    return answers


def perf_analyzer_answers(server: Server) -> Answers:
    """It measures and shows no answers: to be answered each time counts as alike."""
    analyzer, answers = install_perf_analyzer(), dict[str, Any]()
    ways = {"http": (server.port, []), "grpc": (server.grpc_port, ["-i", "grpc"])}
    for name, (port, words) in ways.items():
        try:
            said = analyzer.run("-m", MODEL, "-u", f"127.0.0.1:{port}", *words)
            answers[name] = reference_answer(server) if "Throughput" in said else said[-300:]
        except subprocess.CalledProcessError as error:
            answers[name] = (error.stderr or error.stdout or "").strip()[-300:]
    return answers


def _attempt(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class Client(NamedTuple):
    """missing: why it is not run here; empty: it is."""

    name: str
    ask: Callable[[Server], Answers]
    missing: str = ""


def clients() -> tuple[Client, ...]:
    def absent(program: str) -> str:
        return "" if shutil.which(program) else f"no {program} here"

    return (
        Client("tritonclient HTTP", lambda server: triton_answers(server, "http")),
        Client("tritonclient gRPC", lambda server: triton_answers(server, "grpc")),
        Client("KServe's client", kserve_answers, "QUICK: its environment takes minutes" if QUICK else ""),
        Client("perf_analyzer", perf_analyzer_answers, absent("apt-get")),
        Client("curl", curl_answers, absent("curl")),
        Client("a browser", browser_answers, absent("chromium")),
        Client("Python requests", requests_answers),
    )


def client_row(client: Client, server: Server, wanted: tuple[int, float]) -> Row:
    what = f"{client.name}: share answered alike"
    if client.missing:
        return Row(what, None, ">= 1", False, f"not run: {client.missing}")
    try:
        answers = {way: _attempt(partial(best_of, given)) for way, given in client.ask(server).items()}
    except Exception as error:
        logger.exception(client.name)
        return row(what, 0.0, ">=", 1, "", f"{type(error).__name__}: {error}")
    others = {way: answer for way, answer in answers.items() if not is_alike(answer, wanted)}
    note = f"{', '.join(answers)}" + "".join(f"; {way}: {answer!r:.200}" for way, answer in others.items())
    return row(what, 1 - len(others) / len(answers), ">=", 1, "", note)


def is_alike(answer: tuple[int, float] | str, wanted: tuple[int, float]) -> bool:
    return not isinstance(answer, str) and answer[0] == wanted[0] and abs(answer[1] - wanted[1]) <= TOLERANCE


def rows() -> list[Row]:
    with serve_model() as server:
        wanted = reference_answer(server)
        logger.info(f"clients: the reference is class {wanted[0]} with {wanted[1]:.4f}")
        return [client_row(client, server, wanted) for client in clients()]


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
