"""NVIDIA's ModelOpt in a process of its own: it rewrites ONNX Runtime's quantizer for as long as the process lives, and
draws hundreds of progress bars.

Run as `python -m toolchain.backends.modelopt FOLDER`, with order.json, in.onnx and pictures.npz in FOLDER; writes
out.onnx there.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import BackendError
from toolchain.records.manifest import Precision

ROOT = Path(__file__).parents[2]
INPUT = "image"
FLOAT_PRECISION = "fp16"  # what the layers that are not int8 are computed in


class ModelOptRequest(msgspec.Struct, frozen=True):
    """left: nodes that int8 leaves alone."""

    precision: Precision
    excluded: tuple[str, ...] = ()


def run_modelopt(folder: Path, order: ModelOptRequest, images: NDArray[np.uint8]) -> Any:
    """The onnx.ModelProto that ModelOpt makes of folder/in.onnx. images: uint8 [N, height, width, channels].
    BackendError: in a line, why not."""
    import onnx

    (folder / "order.json").write_bytes(msgspec.json.encode(order))
    np.savez(folder / "pictures.npz", allow_pickle=False, **{INPUT: images})
    command = [sys.executable, "-W", "ignore", "-m", "toolchain.backends.modelopt", str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise BackendError(f"{order.precision}: ModelOpt cannot make it of this graph: {said[-1].strip()[:300]}")
    return onnx.load(folder / "out.onnx")


def _quantize(folder: Path, left: tuple[str, ...]) -> None:
    from modelopt.onnx.quantization import quantize

    with np.load(folder / "pictures.npz", allow_pickle=False) as pictures:
        quantize(
            str(folder / "in.onnx"),
            quantize_mode="int8",
            calibration_data={INPUT: pictures[INPUT]},
            calibration_method="entropy",
            calibration_eps=["cpu"],
            high_precision_dtype=FLOAT_PRECISION,
            nodes_to_exclude=list(left) or None,
            output_path=str(folder / "out.onnx"),
            log_level="ERROR",
        )


def _cast(folder: Path, precision: Precision) -> None:
    """pictures: what would overflow with them stays in fp32."""
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(
        str(folder / "in.onnx"),
        low_precision_type=precision,
        keep_io_types=True,
        calibration_data=str(folder / "pictures.npz"),
    )
    onnx.save(model, folder / "out.onnx")


def main(folder: Path) -> None:
    order = msgspec.json.decode((folder / "order.json").read_bytes(), type=ModelOptRequest)
    if order.precision == "int8":
        _quantize(folder, order.excluded)
    else:
        _cast(folder, order.precision)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
