"""Configures INT8 quantization after training; the backend performs it after export, one graph per device (Jacob et al.
2018).

The build passes the calibration images to the backend, and refuses when there are too few of them, or none to measure
an accuracy drop on.
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
    """samples: calibration images. preset: symmetric weights with asymmetric activations ("mixed"), or both symmetric
    ("performance"). bias_correction (Nagel et al. 2019): "exact" is slower; "off" where calibration images differ in
    kind from the data, whose means they would shift wrongly. smooth: SmoothQuant (Xiao et al. 2022), for transformers.
    "exact" and smooth are NNCF's, for openvino: ONNX Runtime's quantizer has neither and no bias correction.
    max_drop: points of top-1 on the validate split that int8 may lose; the most sensitive layers stay in float until it
    holds (NNCF's accuracy-aware quantization). per_channel: one scale per output channel instead of one per layer.
    dynamic: compute activation ranges for each image, without calibration. ignore: layers that stay in float."""

    samples: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT.samples
    preset: Literal["mixed", "performance"] = "mixed"
    bias_correction: Literal["fast", "exact", "off"] = "fast"
    smooth: bool = DEFAULT.smooth
    max_drop: Annotated[float, msgspec.Meta(ge=0)] | None = None
    per_channel: bool = True
    dynamic: bool = False
    ignore: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:  # noqa: ARG002  # Step's signature
        """Raise RecipeError for options that have no effect together. Whether there are `samples` calibration images,
        and images to measure `max_drop` on, is checked where they are chosen."""
        plain = Quantize()
        idle = [name for name in STATIC_ONLY if getattr(self, name) != getattr(plain, name)]
        if self.dynamic and idle:
            raise RecipeError(f"dynamic = true needs no calibration, so {idle[0]} has no effect; remove one of the two")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        check_patterns(model.module, self.ignore, "ignore")
        return self.apply(model, context)

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:  # noqa: ARG002  # Step's signature
        """The same module with the quantization options attached; RecipeError when some are attached already."""
        if model.quantization is not None:
            raise RecipeError("the model is quantized already; one quantize step is enough")
        return replace(model, quantization=self.quantization, history=())

    @property
    def quantization(self) -> Quantization:
        """The options as the backend takes them."""
        return msgspec.convert(msgspec.to_builtins(self), Quantization)
