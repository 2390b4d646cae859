"""Optimizers that train nothing, on CIFAR-10's ResNet-20: accuracy, latency at batch 1, size, time, lines to write.

    python -m benchmarks.optimizers.ptq          # all 10,000 test images; QUICK=1: 2,000; IMAGES=N
    SEED=1 python -m benchmarks.optimizers.ptq   # other calibration images

All get the same net and the same 300 images of the training part, and answer the same test images one at a time. Their
latencies are measured in turn in one process, so only ratios count; sizes are those of the files that each side wrote.
Minutes are of quantizing and compiling, without export, data and checks. What cannot be made here is a row that was not
measured.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import logger
from benchmarks.compression.checkpoints import CIFAR
from benchmarks.optimizers.subject import Subject
from benchmarks.rows import Row, guarded_rows, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.data import load
from toolchain.data.splits import shuffle_indices
from toolchain.export import onnx_from_torch
from toolchain.job.latency import in_turn_ms
from toolchain.models import load_model
from toolchain.progress import track
from toolchain.recipe import DataSpec, ModelSpec
from toolchain.records.tensors import Array

ROOT = Path(__file__).parents[2]
OURS, FULL_RANGE = "edge toolchain, quantize = {}", "ONNX Runtime INT8, full range"
PROGRAMS = Path(__file__).parent / "programs"
# What a user writes, where that is not the program
WRITTEN = {OURS: ROOT / "recipes" / "cifar10-resnet20.toml", FULL_RANGE: PROGRAMS / "onnxruntime_int8.py"}
IMAGES = int(os.environ.get("IMAGES", "2000" if os.environ.get("QUICK") else "10000"))
CALIBRATED, SEED = 300, int(os.environ.get("SEED", "0"))
SIDES: Mapping[str, str] = {  # a module of programs/
    "PyTorch eager": "torch_eager",
    "torch.compile": "torch_compile",
    "ONNX Runtime fp32": "onnxruntime_fp32",
    "ONNX Runtime INT8, reduce_range": "onnxruntime_int8",
    FULL_RANGE: "onnxruntime_int8_full",
    "NNCF's defaults, OpenVINO": "nncf_openvino",
    OURS: "ours",
}


class Side(NamedTuple):
    """One optimizer's result. classes, right: of each test image; size_mb: of its files, None where it wrote none."""

    name: str
    answer: Callable[[Array], Array]
    classes: NDArray[np.int64]
    right: NDArray[np.bool_]
    minutes: float
    size_mb: float | None
    lines: int

    @property
    def accuracy(self) -> float:
        return 100 * float(self.right.mean())


def rows() -> Iterator[Row]:
    with TemporaryDirectory(prefix="bench-optimizers-") as folder:
        subject, images, labels = resnet20(Path(folder))
        sides = []
        for name, program in SIDES.items():
            try:
                sides.append(make_side(name, program, subject, images, labels))
            except Exception as error:  # an optimizer that does not run here is a row, not the end
                logger.exception(name)
                yield Row(name, None, "measured", False, " ".join(f"{type(error).__name__}: {error}".split()))
        yield from side_rows(sides, images)


def resnet20(folder: Path) -> tuple[Subject, NDArray[np.uint8], NDArray[np.int64]]:
    """The committed net, its test images and their labels."""
    weights = str(ROOT / "examples" / "cifar10" / "resnet20.safetensors")
    module = load_model(ModelSpec("cifar:resnet20", weights), CIFAR, 10, ROOT).require_module().eval()
    data = load(DataSpec("cifar10"), CIFAR, folder)
    train, test = data.split("train"), data.split("test")
    calibration = np.ascontiguousarray(train.images[np.array(shuffle_indices(len(train), SEED)[:CALIBRATED])])
    onnx = onnx_from_torch(module, CIFAR, folder / "model.onnx")
    subject = Subject(module, CIFAR.mean, CIFAR.std, onnx, calibration, folder)
    return subject, np.ascontiguousarray(test.images[:IMAGES]), test.labels[:IMAGES]


def make_side(name: str, program: str, subject: Subject, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Side:
    """Optimized in a folder of its own, and all test images answered one at a time."""
    folder = subject.folder / program
    folder.mkdir()
    began = time.perf_counter()
    with redirect_stdout(sys.stderr):  # NNCF's progress; stdout is for the rows
        answer = import_module(f"benchmarks.optimizers.programs.{program}").optimize(subject._replace(folder=folder))
    minutes = (time.perf_counter() - began) / 60
    rounds = track(range(len(images)), name, len(images))
    classes = np.array([int(answer(images[at : at + 1]).argmax()) for at in rounds])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    written = WRITTEN.get(name, PROGRAMS / f"{program}.py")
    return Side(name, answer, classes, classes == labels, minutes, size or None, code_lines(written))


def code_lines(path: Path) -> int:
    """Lines that are neither empty nor a comment, nor the first line, which says what the file is."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return sum(1 for line in lines if line and not line.startswith(("#", '"""')))


def side_rows(sides: list[Side], images: NDArray[np.uint8]) -> Iterator[Row]:
    """Each side's figures, and ours against the fastest that is as accurate."""
    first = [np.ascontiguousarray(images[at : at + 1]) for at in range(32)]
    callers = {side.name: _caller(side, first) for side in sides}
    p50 = in_turn_ms(callers)
    for side in sides:
        size = "as given" if side.size_mb is None else f"{side.size_mb:.2f} MB"
        note = (
            f"{side.accuracy:.2f} % of {len(images):,} images; {size}; {side.minutes:.2f} minutes; {side.lines} lines"
        )
        yield Row(f"{side.name}: p50 at batch 1", p50[side.name], "ms, for comparison", True, note)
    ours = next((side for side in sides if side.name == OURS), None)
    others = [side for side in sides if ours is not None and side.name != OURS and is_as_accurate(side, ours)]
    if ours is None or not others:
        yield Row("ours against the fastest that is as accurate", None, ">= 1", False, "nothing to compare")
        return
    fastest = min(others, key=lambda side: p50[side.name])
    speed = p50[fastest.name] / p50[ours.name]
    yield row(
        "ours against the fastest that is as accurate: speed", speed, ">=", 1.0, "times", _compared(fastest, ours)
    )
    quantized = [side for side in others if side.size_mb is not None]
    if quantized:
        fastest = min(quantized, key=lambda side: p50[side.name])
        spent, what = ours.minutes / fastest.minutes, "ours against the fastest quantized that is as accurate: minutes"
        yield row(what, spent, "<=", 0.5, "times", _compared(fastest, ours))


def _compared(other: Side, ours: Side) -> str:
    return f"{other.name}: {other.accuracy:.2f} %, ours {ours.accuracy:.2f} %"


def _caller(side: Side, images: list[Array]) -> Callable[[int], object]:
    return lambda call: side.answer(images[call % len(images)])


def is_as_accurate(side: Side, ours: Side) -> bool:
    """No more than noise below ours: images that only one of the two has right, by McNemar at two standard errors."""
    lost, gained = int(np.sum(ours.right & ~side.right)), int(np.sum(side.right & ~ours.right))
    return lost - gained <= 2 * float(np.sqrt(lost + gained))


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("ptq", rows))
