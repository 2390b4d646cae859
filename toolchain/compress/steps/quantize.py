"""INT8 after training: written down here, done by the backend after export, one graph a device (Jacob et al. 2018).

Knows nothing of calibration pictures: the pipeline hands them to the backend, and refuses when there are too few, or
none to measure a drop on.
"""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.layer_patterns import check_patterns
from toolchain.compress.step import CompressedModel, Quantization, StepContext
from toolchain.errors import RecipeError

DEFAULT = Quantization()
STATIC_ONLY = ("samples", "preset", "bias_correction", "smooth", "max_drop")


class Quantize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """samples: calibration pictures. preset "mixed": symmetric weights, asymmetric activations; "performance": both
    symmetric. bias_correction (Nagel et al. 2019): "exact" is slower; "off" where calibration pictures are of another
    kind than the data, whose means they would shift wrongly. smooth: SmoothQuant (Xiao et al. 2022), for transformers.
    Both are NNCF's, for openvino: ONNX Runtime's quantizer corrects no bias and refuses "exact" and smooth.
    max_drop: points of top-1 on the validate part that int8 may lose; the layers that cost most stay in float until it
    holds (NNCF's accuracy-aware quantization). per_channel: a scale for each output channel, else one a layer.
    dynamic: activations' ranges are found anew for each picture, with no calibration. ignore: layers left in float.
    """

    samples: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT.samples
    preset: Literal["mixed", "performance"] = "mixed"
    bias_correction: Literal["fast", "exact", "off"] = "fast"
    smooth: bool = DEFAULT.smooth
    max_drop: Annotated[float, msgspec.Meta(ge=0)] | None = None
    per_channel: bool = True
    dynamic: bool = False
    ignore: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:  # noqa: ARG002  # Step's shape
        """RecipeError for options that say nothing together. Whether there are `samples` calibration pictures, and any
        to measure `max_drop` on, is known to who chooses them."""
        plain = Quantize()
        idle = [name for name in STATIC_ONLY if getattr(self, name) != getattr(plain, name)]
        if self.dynamic and idle:
            raise RecipeError(f"dynamic = true needs no calibration, so {idle[0]} says nothing; remove one of the two")

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        check_patterns(net.module, self.ignore, "ignore")
        return self.apply(net, context)

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:  # noqa: ARG002
        """The same module, with the order to quantize it; RecipeError when one stands already."""
        if net.quantization is not None:
            raise RecipeError("the net is quantized already; one quantize step is enough")
        return replace(net, quantization=self.quantization, history=())

    @property
    def quantization(self) -> Quantization:
        """The order as the backend's caller takes it."""
        return msgspec.convert(msgspec.to_builtins(self), Quantization)
