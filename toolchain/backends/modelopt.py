"""NVIDIA's ModelOpt in its own process, because it patches ONNX Runtime's quantizer for the rest of the process and
prints hundreds of progress bars.

Run as `python -m toolchain.backends.modelopt FOLDER` with request.json, in.onnx and images.npz in FOLDER; writes
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
from toolchain.failures import save_report
from toolchain.records.manifest import Precision

ROOT = Path(__file__).parents[2]
INPUT = "image"
FLOAT_PRECISION = "fp16"  # of the layers that are not int8


class ModelOptRequest(msgspec.Struct, frozen=True):
    """excluded: the names of nodes that stay in float."""

    precision: Precision
    excluded: tuple[str, ...] = ()


def run_modelopt(folder: Path, request: ModelOptRequest, images: NDArray[np.uint8]) -> Any:
    """Convert folder/in.onnx with ModelOpt and return the onnx.ModelProto. images: uint8 [N, height, width, channels].
    BackendError: why ModelOpt failed, in one line."""
    import onnx

    (folder / "request.json").write_bytes(msgspec.json.encode(request))
    np.savez(folder / "images.npz", allow_pickle=False, **{INPUT: images})
    command = [sys.executable, "-W", "ignore", "-m", "toolchain.backends.modelopt", str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise BackendError(
            f"{request.precision}: ModelOpt cannot convert this graph: {lines[-1].strip()[:300]}; build without "
            f"{request.precision}: `precisions` under [build]; {save_report('ModelOpt', done.stderr)}"
        )
    return onnx.load(folder / "out.onnx")


def _quantize(folder: Path, excluded: tuple[str, ...]) -> None:
    from modelopt.onnx.quantization import quantize

    with np.load(folder / "images.npz", allow_pickle=False) as images:
        quantize(
            str(folder / "in.onnx"),
            quantize_mode="int8",
            calibration_data={INPUT: images[INPUT]},
            calibration_method="entropy",
            calibration_eps=["cpu"],
            high_precision_dtype=FLOAT_PRECISION,
            nodes_to_exclude=list(excluded) or None,
            output_path=str(folder / "out.onnx"),
            log_level="ERROR",
        )


def _cast(folder: Path, precision: Precision) -> None:
    """Lower the precision of every node that does not overflow on images.npz; the others stay in fp32."""
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    model = convert_to_mixed_precision(
        str(folder / "in.onnx"),
        low_precision_type=precision,
        keep_io_types=True,
        calibration_data=str(folder / "images.npz"),
    )
    onnx.save(model, folder / "out.onnx")


def main(folder: Path) -> None:
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=ModelOptRequest)
    if request.precision == "int8":
        _quantize(folder, request.excluded)
    else:
        _cast(folder, request.precision)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
