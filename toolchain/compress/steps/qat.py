"""Quantization-aware training: the net learns on the integer grid it will be served on (Jacob et al. 2018).

Weights of 8, 4 or 2 bits with learned step sizes (LSQ: Esser et al. 2020) or running ranges; of 1 bit by sign and
straight-through estimator (BinaryConnect: Courbariaux et al. 2015), scaled as in XNOR-Net (Rastegari et al. 2016).
BatchNorms are folded first. Knows the loss; where quantizers stand is quantizable.py's, the loop training.py's.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from toolchain.compress.batches import Batches
from toolchain.compress.distillation.teachers import Weighting, placed
from toolchain.compress.distillation.training import (
    Lesson,
    Response,
    TaughtOptions,
    check_lesson,
    teachers_for,
    trained,
)
from toolchain.compress.metrics import one_picture
from toolchain.compress.options import Count, NotNegative, Positive, Share, check_training, seed_of
from toolchain.compress.quantization.fake_quantize import observing
from toolchain.compress.quantization.prepare import quantizable
from toolchain.compress.step import Context, LearnedQuantization, Net
from toolchain.compress.training.loop import accelerator
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluating


class Qat(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """weight_bits: 1 is sign times scale. activation_bits: 8, or 0: they stay float. symmetric: activations too, as
    target tensorrt needs them. scales: "learned" step sizes, or
    "running" ranges. keep_ends: first and last layer at 8 bits. calibration_samples: training pictures for the first
    ranges. distill: learn from `teachers` (none: the net as the recipe started from it) as the step of that name."""

    weight_bits: Literal[8, 4, 2, 1] = 8
    activation_bits: Literal[8, 0] = 8
    symmetric: bool = False
    scales: Literal["learned", "running"] = "learned"
    keep_ends: bool = True
    calibration_samples: Count = 512
    distill: bool = True
    temperature: Positive = 4.0
    alpha: Share = 0.9
    weighting: Weighting = "average"
    lr: Positive = 5e-4
    weight_decay: NotNegative = 1e-4

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)
        there = len(context.data.split("train"))
        if self.calibration_samples > there:
            raise RecipeError(
                f"calibration_samples = {self.calibration_samples}: data '{context.data.name}' has {there} training "
                "pictures"
            )
        if self.teachers and not self.distill:
            raise RecipeError("teachers are named, but distill = false; remove one of them")

    def rehearse(self, net: Net, context: Context) -> Net:
        """Quantizers in place, nothing trained; RecipeError for a net that cannot be quantized, or is already."""
        check_lesson(self, net, context)
        if net.learned is not None:
            raise RecipeError("the net is quantized already; one qat step is enough")
        if self.weight_bits == 1 and net.sparse:
            raise RecipeError("one-bit weights have no zero, so sparsify would be undone; weight_bits = 2 has one")
        if self.distill:
            teachers_for(self, context)
        learned = LearnedQuantization(self.weight_bits, self.activation_bits or None, self.symmetric)
        copied = deepcopy(net.module).eval()
        picture = one_picture(copied, context.preprocessing)
        module = quantizable(copied, learned, self.keep_ends, self.scales == "learned", picture, context.say)
        return replace(net, module=module, learned=learned, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained net; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        made = self.rehearse(net, context)
        teachers = teachers_for(self, context) if self.distill else ()
        self._calibrate(made.module, context)
        ready = placed(teachers, accelerator())
        alpha = self.alpha if self.distill else 0.0
        response = Response(ready, alpha, self.temperature, self.label_smoothing, self.weighting)
        module, history = trained(Lesson(made.module, response.alone, teachers), net, self, context)
        return replace(made, module=module, history=history)

    def _calibrate(self, module: nn.Module, context: Context) -> None:
        """First ranges: the mean over batches of the smallest and the largest value."""
        if not self.activation_bits:
            return
        context.say(f"calibrating on {self.calibration_samples} pictures")
        device = next(module.parameters()).device
        part = context.data.split("train")
        batches = Batches(part, context.preprocessing, device, self.calibration_samples, seed_of(self, context))
        size = min(self.batch_size, self.calibration_samples)
        random = torch.Generator().manual_seed(seed_of(self, context))
        with evaluating(module), torch.no_grad(), observing(module):
            for images, _ in batches.shuffled(size, (), random):
                module(images)
