"""The image variants: Dockerfile, installed packages, GPU or not; and which one a bundle needs."""

from dataclasses import dataclass, replace
from pathlib import Path

from toolchain.records.manifest import Manifest

# next to this module, so that an installed package has them too
HERE = Path(__file__).parent
LOCKS = HERE / "locks"


@dataclass(frozen=True)
class ImageVariant:
    """lock: hash-locked packages that are installed next to our own code; sources: locks of source packages, which are
    built on the host; extras: locks of optional packages."""

    dockerfile: Path
    lock: Path
    gpu: bool = False
    sources: tuple[Path, ...] = ()
    extras: tuple[Path, ...] = ()

    @property
    def locks(self) -> tuple[Path, ...]:
        return (self.lock, *self.extras)


CPU = ImageVariant(HERE / "Dockerfile.cpu", LOCKS / "runtime-cpu.txt")
GPU = ImageVariant(HERE / "Dockerfile.gpu", LOCKS / "runtime-gpu.txt", gpu=True)
# includes the builder, which compiles the plan on the device
CLASSIC = ImageVariant(
    GPU.dockerfile, LOCKS / "runtime-gpu-classic.txt", gpu=True, sources=(LOCKS / "tensorrt-libs.txt",)
)
TRACING = LOCKS / "runtime-tracing.txt"


def target_variant(target: str) -> ImageVariant:
    """The variant for a target."""
    return GPU if target == "tensorrt" else CPU


def bundle_variant(manifest: Manifest, tracing: bool = False) -> ImageVariant:
    """The variant for a bundle: a GPU bundle that holds ONNX instead of a plan needs classic TensorRT. tracing: with
    OpenTelemetry."""
    kind = target_variant(manifest.target)
    kind = CLASSIC if kind.gpu and manifest.serving.files[0].endswith(".onnx") else kind
    return replace(kind, extras=(TRACING,)) if tracing else kind
