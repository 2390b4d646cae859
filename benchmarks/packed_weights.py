"""`python -m benchmarks.packed_weights`: the packed model file against general compression of the same OpenVINO IR.

Prints, for the committed models of 4 and 8 bits and a weight-only ResNet-50 (random weights: only its sizes and times
mean something), the bytes on disk and the fastest time until OpenVINO has the graph, of each form that the IR's two
files could have. Decision 0012 rests on these figures.
"""

import gzip
import lzma
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from toolchain.backends.openvino_graph import graph_from_onnx, holds_integers, import_openvino, round_weights
from toolchain.backends.rounding import Rounding
from toolchain.compress.quantization.restore import rebuild_qat_layers
from toolchain.export import onnx_from_torch
from toolchain.models import load_model
from toolchain.recipe import ModelSpec
from toolchain.records.packed_weights import pack, unpack
from toolchain.records.tensors import Preprocessing
from toolchain.tables import table

ROOT = Path(__file__).parent.parent
REPEATS = 9
CIFAR = Preprocessing(32, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
WRITTEN = {"vgg11-packed": "cifar:vgg11", "resnet20-qat4": "cifar:resnet20", "resnet20-qat": "cifar:resnet20"}
COLUMNS = {"model": "", "form": "", "kB": ",.0f", "of the IR": ".1%", "opened in, ms": ",.1f", "written in, ms": ",.0f"}
Bytes = NDArray[np.uint8]
Places = list[tuple[int, int]]


class Form(NamedTuple):
    """One way of storing (text, constants): to one file's bytes, and back."""

    name: str
    write: Callable[[bytes, Bytes, Places], bytes]
    read: Callable[[bytes], tuple[bytes, Bytes]]


def compressed(name: str, squeeze: Callable[[bytes], bytes], restore: Callable[[bytes], bytes]) -> Form:
    """Text and constants joined, the text's length before them, compressed as one stream."""

    def write(text: bytes, constants: Bytes, _: Places) -> bytes:
        return squeeze(len(text).to_bytes(8, "little") + text + constants.tobytes())

    def read(content: bytes) -> tuple[bytes, Bytes]:
        whole = restore(content)
        end = 8 + int.from_bytes(whole[:8], "little")
        return whole[8:end], np.frombuffer(whole, np.uint8, offset=end).copy()

    return Form(name, write, read)


def packed_form(name: str, entropy: bool) -> Form:
    return Form(
        name,
        lambda text, constants, places: pack(text, constants, places, entropy),
        lambda content: unpack(content, name),
    )


FORMS = (
    compressed("IR as it is", bytes, bytes),
    compressed("gzip -6", lambda content: gzip.compress(content, 6), gzip.decompress),
    compressed("xz", lzma.compress, lzma.decompress),
    packed_form("packed", entropy=False),
    packed_form("packed, xz", entropy=True),
)


def exported(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, source in WRITTEN.items():
        spec = ModelSpec(source, f"examples/cifar10/{name}.safetensors")
        module = load_model(spec, CIFAR, 10, ROOT, rebuild=rebuild_qat_layers).module
        assert module is not None
        yield name, onnx_from_torch(module, CIFAR, folder / f"{name}.onnx")
    torch.manual_seed(0)
    resnet = torchvision.models.resnet50(weights=None).eval()
    yield "resnet50, int4w", onnx_from_torch(resnet, Preprocessing(224, 224), folder / "resnet50.onnx")


def rows(name: str, onnx: Path, folder: Path) -> Iterator[tuple[object, ...]]:
    core, graph = import_openvino().Core(), graph_from_onnx(onnx)
    if not holds_integers(graph):
        round_weights(graph, Rounding(4))
    text, constants, integers = ir_of(graph, folder)
    for form in FORMS:
        start = time.perf_counter()
        content = form.write(text, constants, integers)
        written_ms = 1e3 * (time.perf_counter() - start)
        opened_ms = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            read_text, read_constants = form.read(content)
            core.read_model(read_text, import_openvino().Tensor(read_constants))
            opened_ms.append(1e3 * (time.perf_counter() - start))
        assert read_text == text and np.array_equal(read_constants, constants)
        yield (
            name,
            form.name,
            len(content) / 1e3,
            len(content) / (len(text) + len(constants)),
            min(opened_ms),
            written_ms,
        )


def ir_of(graph: Any, folder: Path) -> tuple[bytes, Bytes, Places]:
    place = folder / "model.xml"
    import_openvino().save_model(graph, place, compress_to_fp16=False)
    text = place.read_bytes()
    integers = [
        (int(data.get("offset", 0)), int(data.get("size", 0)))
        for data in ElementTree.fromstring(text).iterfind("./layers/layer[@type='Const']/data")
        if data.get("element_type") in ("i8", "u8")
    ]
    return text, np.fromfile(place.with_suffix(".bin"), np.uint8), integers


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-packed-") as made:
        folder = Path(made)
        printed = [row for name, onnx in exported(folder) for row in rows(name, onnx, folder)]
    print(table(printed, COLUMNS))


if __name__ == "__main__":
    main()
