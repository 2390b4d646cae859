"""Which image a bundle needs: its Dockerfile, what is installed in it, whether it wants a GPU. Read by eye."""

from dataclasses import dataclass, replace
from pathlib import Path

from toolchain.records.manifest import Manifest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"


@dataclass(frozen=True)
class Kind:
    """lock: the hash-locked list of what is installed beside our own code; sources: lists of packages that are no
    wheels, and are built on the host; extras: lists of what was asked for besides."""

    dockerfile: Path
    lock: Path
    gpu: bool = False
    sources: tuple[Path, ...] = ()
    extras: tuple[Path, ...] = ()

    @property
    def locks(self) -> tuple[Path, ...]:
        return (self.lock, *self.extras)


CPU = Kind(ROOT / "Dockerfile.cpu", LOCKS / "runtime-cpu.txt")
GPU = Kind(ROOT / "Dockerfile.gpu", LOCKS / "runtime-gpu.txt", gpu=True)
# with the builder, which makes the plan on the device
CLASSIC = Kind(GPU.dockerfile, LOCKS / "runtime-gpu-classic.txt", gpu=True, sources=(LOCKS / "tensorrt-libs.txt",))
TRACING = LOCKS / "runtime-tracing.txt"


def kind_of(target: str) -> Kind:
    """Of a target that a bundle was built for."""
    return GPU if target == "tensorrt" else CPU


def kind_for(manifest: Manifest, tracing: bool = False) -> Kind:
    """Of a bundle: a graph where a plan could be is TensorRT's classic flavour. tracing: with OpenTelemetry."""
    kind = kind_of(manifest.target)
    kind = CLASSIC if kind.gpu and manifest.serving.files[0].endswith(".onnx") else kind
    return replace(kind, extras=(TRACING,)) if tracing else kind
