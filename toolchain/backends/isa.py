"""What a CPU must have for a candidate to be worth running there: /proc/cpuinfo's flags, for Manifest.needs."""

from toolchain.records.manifest import Candidate

# OpenVINO's int8 and fp32 run on any CPU with AVX2 (VNNI and AMX make int8 faster, not possible). Its bf16 falls back
# to fp32, silently, where the CPU has none, so that is a need. ONNX Runtime picks its kernels at run time down to the
# x86-64 baseline; the null engine computes nothing.
NEEDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("openvino", "fp32"): ("avx2",),
    **{("openvino", stored): ("avx2",) for stored in ("fp16", "int8w", "int4w", "int2w", "int1w")},
    ("openvino", "bf16"): ("avx512_bf16",),
    ("openvino", "int8"): ("avx2",),
}


def needed_isa(candidate: Candidate) -> tuple[str, ...]:
    """Flags that the device must have, for the candidate that serves."""
    return NEEDS.get((candidate.backend, candidate.precision), ())
