"""Networks with one logit and with labels that do not exclude each other: what is served is what torch answers, and
wrong ones are refused with the reason.

The networks are trained here (benchmarks/intake/drawn/heads.py), built, and asked over HTTP by files and by tensors.
QUICK=1: fp32 alone, by ONNX Runtime, and half of the wrong ones.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image

from benchmarks import logger
from benchmarks.rows import Row, print_rows, row
from benchmarks.serving.processes import start_process, wait_until_listening
from toolchain.cli.console import log_to_stderr

ROOT = Path(__file__).parents[2]
QUICK = bool(os.environ.get("QUICK"))
TARGET = "onnxruntime" if QUICK else "openvino"
HEADS = {"one": "one logit", "several": "multi-label"}
FP32_TOLERANCE = 1e-4  # of a probability: sums in another order
INT8_AGREEMENT = 0.95  # share of labels on the same side of one half
TIMEOUT_S = 600.0
# name: what the one line of the refusal must say
WRONG = {
    "one-other-order": "its one output is high for",
    "one-bgr": 'with order = "rgb" under [input]',
    "one-wrong-weights": "look at model.weights",
    "one-softmax": "one output, which by softmax gives every image the same class",
    "several-other-order": "output 0 is z-blue, 1 is green, 2 is a-red",
    "several-bgr": 'with order = "rgb" under [input]',
    "several-wrong-weights": "look at model.weights",
    "several-softmax": "the data gives images several labels",
}
Shares = NDArray[np.float64]


def rows() -> Iterator[Row]:
    with TemporaryDirectory(prefix="heads-") as at:
        folder = Path(at)
        _run_module("benchmarks.intake.drawn.heads", str(folder))
        for name, what in HEADS.items():
            wanted = np.load(folder / f"{name}.npz")["shares"]
            for way, shares in ask_by_http(folder, name).items():
                difference = float(np.abs(shares - wanted).max())
                note = f"{len(wanted)} images, {TARGET}"
                yield row(f"{what}, fp32, {way}: from torch", difference, "<=", FP32_TOLERANCE, "", note)
            if not QUICK:
                yield _int8_row(folder, name, what, wanted)
        yield _wrong_row(folder)


def _int8_row(folder: Path, name: str, what: str, wanted: Shares) -> Row:
    shares = ask_by_http(folder, f"{name}-int8")["tensors"]
    same = float(((shares >= 0.5) == (wanted >= 0.5)).mean())
    note = f"furthest from torch: {np.abs(shares - wanted).max():.2g}; int8, unless parity refused it"
    return row(f"{what}, after quantize = {{}}: same labels as torch", same, ">=", INT8_AGREEMENT, "", note)


def _wrong_row(folder: Path) -> Row:
    """Each wrong model, and whether the line of its refusal says what is wrong with it."""
    chosen = dict(list(WRONG.items())[:: 2 if QUICK else 1])
    faults = []
    for name, words in chosen.items():
        done = _build(folder, name, "null")
        last = (done.stderr.strip().splitlines() or [""])[-1]
        logger.info(f"{name}: exit {done.returncode}: {last}")
        if done.returncode not in (1, 2) or words not in last or "Traceback" in done.stderr:
            faults.append(f"{name}: exit {done.returncode}, expected '{words}' in: {last}")
    what = f"wrong models refused with the reason, of {len(chosen)}{', QUICK=1' if QUICK else ''}"
    return row(what, len(chosen) - len(faults), ">=", len(chosen), "", "; ".join(faults) or ", ".join(chosen))


def ask_by_http(folder: Path, name: str) -> dict[str, Shares]:
    """The probabilities [N, outputs] of the images that torch was asked, by way of asking."""
    done = _build(folder, name, TARGET)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    bundle = json.loads(done.stdout.splitlines()[-1])["bundle"]
    flags = (f"--bundle={bundle}", "--host=127.0.0.1", "--port=0", "--certify=off")
    log = folder / f"{name}.log"
    with start_process([sys.executable, "-m", "deploy.runtime", "serve", *flags], log, ROOT) as process:
        port = wait_until_listening(process, log)["listening"]["port"]
        url = f"http://127.0.0.1:{port}/v2/models/{name}/infer"
        images = np.load(folder / "asked.npz")["images"]
        tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
        body = {"inputs": [tensor], "parameters": {"top_k": 3}}
        by_tensor = requests.post(url, json=body, timeout=TIMEOUT_S)
        files = [("file", (f"{at}.png", _png(image))) for at, image in enumerate(images)]
        by_file = requests.post(url, files=files, timeout=TIMEOUT_S)
    return {way: shares_of(reply.json()) for way, reply in {"tensors": by_tensor, "files": by_file}.items()}


def shares_of(reply: dict[str, Any]) -> Shares:
    """An answer's probabilities in the order of its outputs: of two classes by one output that of the second."""
    if "top_k" not in reply:
        raise RuntimeError(f"no top_k in the answer: {json.dumps(reply)[:300]}")
    table = np.array(
        [[best["probability"] for best in sorted(each, key=lambda best: best["index"])] for each in reply["top_k"]]
    )
    outputs = reply["outputs"][0]["shape"][1]
    return table[:, -outputs:]


def _png(image: NDArray[np.uint8]) -> bytes:
    Image.fromarray(image).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def _build(folder: Path, name: str, target: str) -> "subprocess.CompletedProcess[str]":
    return _run_module("toolchain", "build", f"{name}.toml", f"--target={target}", folder=folder, check=False)


def _run_module(
    module: str, *words: str, folder: Path | None = None, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: one that has trained cannot be forked, as other topics do."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **({"TOOLCHAIN_HOME": str(folder / "home")} if folder else {}),
    }
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=check, timeout=TIMEOUT_S
    )


if __name__ == "__main__":
    log_to_stderr()
    print_rows(list(rows()))
