"""Whether this CPU computes an int8 candidate as it was built: without VNNI or AMX, sums of its products may stop at 16
bits. Knows what the build predicted and this device's instructions; measures nothing.
"""

import platform

from deploy.runtime.device.probe import cpu_isa, cpu_model
from toolchain.records.manifest import Candidate
from toolchain.records.saturation import WIDE_SUMS, adds_at_16_bits


def adds_at_16_bits_here() -> bool:
    """Whether engines add products of 8-bit numbers at 16 bits on this device."""
    return adds_at_16_bits(platform.machine(), cpu_isa())


def saturation_refusal(candidate: Candidate) -> str | None:
    """Why `candidate` may not serve here, in one line; None when it may."""
    if candidate.saturation is None or not candidate.saturates or not adds_at_16_bits_here():
        return None
    return (
        f"{candidate.precision} would saturate on this CPU ({cpu_model() or 'unknown model'}), which has none of "
        f"{', '.join(WIDE_SUMS)}: its sums stop at 16 bits in {candidate.saturation.describe(1)}; build it without "
        f"full_range under [target.{candidate.backend}], or serve another precision here"
    )
