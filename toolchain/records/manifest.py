"""The bundle's manifest: everything that a container, a gate or a person must know of a release.

Format history
1  first (0.1.0)
"""

from typing import Literal

import msgspec

from toolchain.records.tensors import Preprocessing, TensorSpec

FORMAT = 1
Precision = Literal["fp32", "fp16", "bf16", "int8"]


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle, by its name inside it."""

    path: str
    sha256: str
    size_bytes: int


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of running the model on the target: an artifact and what was measured with it on the build machine.

    Candidates may share files: an OpenVINO bf16 candidate is the fp32 file computed in bf16. `files[0]` is the one that
    the engine opens. accuracy: share of the test part, 0..1; latency_ms: median, batch 1, on the build machine.
    """

    precision: Precision
    backend: str
    files: tuple[str, ...]
    size_bytes: int
    accuracy: float | None = None
    latency_ms: float | None = None
    verdict: str = ""
    options: dict[str, float] = {}


class StepRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was after a compression step. size_bytes: its weights as fp32; macs: for one picture; sparsity: the
    share of its layers' weights that are zero."""

    step: str
    options: dict[str, object]
    parameters: int
    macs: int
    size_bytes: int
    accuracy_validate: float | None
    seconds: float
    history: tuple[dict[str, float], ...] = ()
    sparsity: float = 0.0


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Top-1, as shares 0..1 of `images` pictures of the part `part`; None where the data has no labelled test part."""

    part: str
    images: int
    fp32: float
    chosen: float
    floor: float


class DataRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the pictures came from, and which were used for what (indices into `<part>` of the source)."""

    name: str
    source: str
    sha256: str
    calibration_name: str = ""
    calibration_indices: tuple[int, ...] = ()
    certify_part: str = ""
    certify_indices: tuple[int, ...] = ()


class ParityRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far `candidate` is from `reference` on the same `images` pictures."""

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
    """What a device must have: the container refuses to start elsewhere and says which is missing."""

    architecture: str = "x86_64"
    cpu_isa: tuple[str, ...] = ()


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How close the device must come to sample.npz's answers before it is ready, by precision: max |difference| over
    max |expected|, and the share of pictures whose top-1 must agree."""

    relative: dict[str, float]
    top1_agreement: dict[str, float]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See design.md, The bundle. `chosen` is the precision of the candidate that serves."""

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
    files: tuple[File, ...]
    golden: Golden
    needs: Needs
    data: DataRecord
    accuracy: Accuracy | None
    certify_accuracy: float | None
    steps: tuple[StepRecord, ...]
    parity: tuple[ParityRecord, ...]
    tools: dict[str, str]
    recipe: str
    format: int = FORMAT

    @property
    def serving(self) -> Candidate:
        """The candidate that serves."""
        return self.candidate(self.chosen)

    def candidate(self, precision: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.precision == precision)
