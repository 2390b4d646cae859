"""INT8 after training: written down here, done by the backend after export, one graph a device (Jacob et al. 2018).

Knows nothing of calibration pictures: the pipeline hands them to the backend, and refuses when there are too few.
"""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.step import Context, Net, Quantization
from toolchain.errors import RecipeError

DEFAULT = Quantization()


class Quantize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """samples: calibration pictures. preset "mixed": symmetric weights, asymmetric activations; "performance": both
    symmetric. bias_correction (Nagel et al. 2019): "exact" is slower; "off" where calibration pictures are of another
    kind than the data, whose means they would shift wrongly. smooth: SmoothQuant (Xiao et al. 2022), for transformers.
    """

    samples: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT.samples
    preset: Literal["mixed", "performance"] = "mixed"
    bias_correction: Literal["fast", "exact", "off"] = "fast"
    smooth: bool = DEFAULT.smooth

    def check(self, context: Context) -> None:
        """Nothing to refuse: whether there are `samples` calibration pictures is known to who chooses them."""

    def rehearse(self, net: Net, context: Context) -> Net:
        return self.apply(net, context)

    def apply(self, net: Net, context: Context) -> Net:  # noqa: ARG002
        """The same module, with the order to quantize it; RecipeError when one stands already."""
        if net.quantization is not None:
            raise RecipeError("the net is quantized already; one quantize step is enough")
        return replace(net, quantization=self.quantization, history=())

    @property
    def quantization(self) -> Quantization:
        """The order as the backend's caller takes it."""
        return Quantization(self.samples, self.preset, self.bias_correction, self.smooth)
