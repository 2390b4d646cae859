"""The bundle's manifest: everything that a container, a gate or a person must know about a release.

Format history
1  first (0.1.0)
2  the precisions int8d and intNw; a step's sparsity; its predicted and its measured speed-up on the target
3  each candidate's accuracy on certify.npz; whether the device chooses among them (0.2.0)
4  which GPUs a bundle needs (0.3.0)
5  what int8 does on CPUs that add its products at 16 bits (0.4.0)
6  further ways of resizing: letterbox, height and width, filters, the library that is followed; scale; what the output
   says: softmax, sigmoid or bare scores; the measure of accuracy (0.4.0)
"""

from typing import Literal

import msgspec

from toolchain.records.output import OutputKind
from toolchain.records.saturation import Saturation
from toolchain.records.tensors import Preprocessing, TensorSpec

FORMAT = 6
# fp16: weights stored at 16 bits, computed in fp32; int8: weights and activations, ranges fixed at build time; int8d:
# ranges computed for each image; intNw: only weights, stored at N bits, computed in fp32 (weight-only)
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8d", "int8w", "int4w", "int2w", "int1w"]
WEIGHT_BITS: dict[str, int] = {"int8w": 8, "int4w": 4, "int2w": 2, "int1w": 1}  # the weight-only ones
STORED_BITS = "weight_bits"  # in Candidate.options: the width at which most weights are stored
AS_WRITTEN = "as_written"  # in Candidate.options: ONNX Runtime runs every operation by itself
FLOAT_LAYERS = "float_layers"  # in Candidate.options: how many layers were left in float to keep the accuracy


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle; path: its name in the bundle."""

    path: str
    sha256: str
    size_bytes: int


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of running the model on the target: an artifact and its measurements on the build machine.

    Candidates may share files: an OpenVINO bf16 candidate is the fp32 file computed in bf16. The engine opens
    `files[0]`. accuracy: of the test split, a share 0..1; latency_ms: median at batch 1; certify_accuracy: of
    certify.npz, the figure that a device must reproduce. saturation: the prediction for an int8 artifact of a CPU
    engine; None: not one, or built before format 5.
    """

    precision: Precision
    backend: str
    files: tuple[str, ...]
    size_bytes: int
    accuracy: float | None = None
    latency_ms: float | None = None
    verdict: str = ""
    options: dict[str, float] = {}
    certify_accuracy: float | None = None
    saturation: Saturation | None = None

    @property
    def saturates(self) -> bool:
        """Whether it was predicted to compute something else on a CPU that adds products at 16 bits."""
        return self.saturation is not None and bool(self.saturation.saturating)

    @property
    def storage(self) -> str:
        """How the stored weights differ from those used in computation; '' where they do not."""
        bits = int(self.options.get(STORED_BITS, 0))
        if self.backend == "tensorrt":
            return ""  # it computes in the type that it stores
        stored = {"fp16": 16, **WEIGHT_BITS}.get(self.precision)
        if stored is not None:
            return f"stored, not computed, at {_bits(bits or stored)}"
        narrow = self.precision == "int8" and 0 < bits < 8
        return f"stored, not computed, at {_bits(bits)}: computed at 8" if narrow else ""


def _bits(count: int) -> str:
    return f"{count} bit{'s' if count > 1 else ''}"


class StepRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model after a compression step. size_bytes: its weights as fp32; macs: for one image; sparsity: the share of
    zeros among its layers' weights.

    The rest was measured with the target's engine on the build machine, in `precision`, all steps interleaved in one
    run, and is None where it was not measured: latency_ms of one image; artifact_bytes on disk; memory_bytes, the peak
    of a process that opens the artifact and runs it; accuracy on the test split. The speed-ups are relative to the
    model before the first step: predicted from multiply-accumulates, bits and sparsity; and measured. verdict: whether
    the step is worth its cost, or why not.
    """

    step: str
    options: dict[str, object]
    parameters: int
    macs: int
    size_bytes: int
    accuracy_validate: float | None
    seconds: float
    history: tuple[dict[str, float], ...] = ()
    sparsity: float = 0.0
    precision: Precision = "fp32"
    predicted_speedup: float | None = None
    measured_speedup: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    verdict: str = ""


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares 0..1 of the `images` images of the split `part`. floor: the lowest permitted; measure: top-1, or the mean
    F1 of an image's labels; mean_average_precision: of fp32 over the labels, where they do not exclude each other."""

    part: str
    images: int
    fp32: float
    chosen: float
    floor: float
    measure: str = "top-1"
    mean_average_precision: float | None = None


class DataRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the images came from, and which were used for what (indices into a split of the source)."""

    name: str
    source: str
    sha256: str
    calibration_name: str = ""
    calibration_indices: tuple[int, ...] = ()
    certify_part: str = ""
    certify_indices: tuple[int, ...] = ()


class ParityRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the outputs of `candidate` differ from those of `reference` on the same `images` images."""

    reference: str
    candidate: str
    images: int
    max_abs: float
    mean_abs: float
    relative: float
    top1_agreement: float
    worst_index: int
    tolerance: float
    agreement_floor: float
    passed: bool


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device must have; elsewhere the container refuses to start and names what is missing.

    gpu: whether it needs an NVIDIA GPU; compute_capabilities: such as 86, one of which the GPU must have; empty: any.
    """

    architecture: str = "x86_64"
    cpu_isa: tuple[str, ...] = ()
    gpu: bool = False
    compute_capabilities: tuple[int, ...] = ()


class GoldenTolerances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How close the device must come to the outputs in sample.npz before it is ready, by precision: max |difference|
    over max |expected|, and the share of images whose top-1 must agree."""

    relative: dict[str, float]
    top1_agreement: dict[str, float]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release (docs/concepts/bundle.md). chosen: the precision of the candidate that serves; choose: whether a device
    may serve another one above the accuracy threshold that is faster there; accuracy: None where the data has no
    labelled test split; output: how the scores of `outputs` are read."""

    name: str
    release: str
    target: str
    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    preprocessing_sha256: str
    candidates: tuple[Candidate, ...]
    chosen: Precision
    choice: str
    files: tuple[FileRecord, ...]
    golden: GoldenTolerances
    needs: Needs
    data: DataRecord
    accuracy: Accuracy | None
    certify_accuracy: float | None
    steps: tuple[StepRecord, ...]
    parity: tuple[ParityRecord, ...]
    tools: dict[str, str]
    recipe: str
    choose: Literal["device", "build"] = "build"
    output: OutputKind = OutputKind()
    format: int = FORMAT

    @property
    def serving(self) -> Candidate:
        """The candidate that serves."""
        return self.candidate(self.chosen)

    @property
    def measure(self) -> str:
        """What its accuracy is called."""
        return self.output.measure(self.outputs[0].shape[-1] or 0)

    def candidate(self, precision: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.precision == precision)

    def certified_accuracy(self, precision: str) -> float | None:
        """Accuracy on certify.npz on the build machine; older bundles record only the chosen precision's."""
        if precision == self.chosen and self.certify_accuracy is not None:
            return self.certify_accuracy
        return self.candidate(precision).certify_accuracy
