"""What a device must have so that a candidate runs there as measured: Manifest.needs."""

from pathlib import Path

from toolchain.records.manifest import Candidate, Needs
from toolchain.records.storage import read_record
from toolchain.records.tensorrt_layers import FORMAT, LayerInspection

# OpenVINO's int8 and fp32 run on any CPU with AVX2 (VNNI and AMX only make int8 faster). Its bf16 silently falls back
# to fp32 on a CPU without bf16, so that is a need. ONNX Runtime picks its kernels at run time, down to the x86-64
# baseline; the null engine computes nothing; TensorRT has no requirements for the CPU.
CPU_ISA: dict[tuple[str, str], tuple[str, ...]] = {
    ("openvino", "fp32"): ("avx2",),
    **{("openvino", stored): ("avx2",) for stored in ("fp16", "int8w", "int4w", "int2w", "int1w")},
    ("openvino", "bf16"): ("avx512_bf16",),
    ("openvino", "int8"): ("avx2",),
}


def needs_of(folder: Path, candidate: Candidate) -> Needs:
    """The needs of the candidate that serves, whose files are in `folder`."""
    return Needs(
        cpu_isa=CPU_ISA.get((candidate.backend, candidate.precision), ()),
        gpu=candidate.backend == "tensorrt",
        compute_capabilities=_plan_capabilities(folder, candidate),
    )


def _plan_capabilities(folder: Path, candidate: Candidate) -> tuple[int, ...]:
    """The compute capabilities that a plan was built for; none where the device builds its own plan."""
    return next(
        (
            read_record(folder / name, LayerInspection, FORMAT).capabilities
            for name in candidate.files
            if name.startswith("audit-")
        ),
        (),
    )
