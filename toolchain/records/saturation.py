"""What int8 layers do on a CPU that adds products of 8-bit numbers at 16 bits, as x86 does without VNNI or AMX.

There two products of an activation (0..255) and a weight (-128..127) are added by one instruction (pmaddubsw) whose
result stops at 32767 and -32768: 255 * 127 + 255 * 127 = 64770 becomes 32767. Weights within -64..64 cannot get there.
"""

from collections.abc import Collection

import msgspec

WIDE_SUMS = ("avx512_vnni", "avx_vnni", "amx_int8")  # x86's instructions that add such products at 32 bits
X86 = "x86_64"  # other architectures widen before they add


class LayerSaturation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What would happen in `layer`. sums: the share of its sums of two products that would stop; error: by how much its
    outputs would be off, root mean square relative to their spread."""

    layer: str
    sums: float
    error: float


class Saturation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prediction for an int8 artifact. layers: how many compute on integers; images: how many it was computed on, 0
    where the weights alone exclude it for every image; saturating: the layers in which it happens, the worst first."""

    layers: int
    images: int
    saturating: tuple[LayerSaturation, ...] = ()

    @property
    def is_excluded(self) -> bool:
        """Whether no image at all can make a sum stop."""
        return self.images == 0

    def describe(self, most: int = 3) -> str:
        """`19 of 22 layers, worst: stages.0.0.conv1 (1.3 % of its sums, outputs off by 9.1 %), ...`"""
        if not self.saturating:
            return f"none of {self.layers} layers"
        worst = ", ".join(
            f"{one.layer} ({100 * one.sums:.2g} % of its sums, outputs off by {100 * one.error:.2g} %)"
            for one in self.saturating[:most]
        )
        return f"{len(self.saturating)} of {self.layers} layers, worst: {worst}"


def adds_at_16_bits(architecture: str, cpu_isa: Collection[str]) -> bool:
    """Whether a device with these instructions stops sums at 16 bits."""
    return architecture == X86 and not set(WIDE_SUMS) & set(cpu_isa)
