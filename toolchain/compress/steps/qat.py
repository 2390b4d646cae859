"""Quantization-aware training: trains the model on the integer grid that it will be served on (Jacob et al. 2018).

Weights of 8, 4 or 2 bits with learned step sizes (LSQ: Esser et al. 2020) or running ranges; of 1 bit by sign and
straight-through estimator (BinaryConnect: Courbariaux et al. 2015), scaled as in XNOR-Net (Rastegari et al. 2016).
BatchNorms are folded first; quantizers are placed by quantization/prepare.py.
"""

import logging
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from toolchain.compress.batches import Batches
from toolchain.compress.distillation.teachers import Weighting, move_teachers
from toolchain.compress.distillation.training import (
    DistillationObjective,
    DistillationOptions,
    ResponseLoss,
    check_student,
    load_step_teachers,
    train_student,
)
from toolchain.compress.metrics import example_input
from toolchain.compress.options import Fraction, NonNegative, Positive, PositiveInt, check_training, seed_of
from toolchain.compress.quantization.fake_quantize import observe_ranges
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.step import CompressedModel, LearnedQuantization, StepContext
from toolchain.compress.training.loop import training_device
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluation_mode
from toolchain.models.memory_layout import find_memory_format

logger = logging.getLogger(__name__)


class Qat(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """weight_bits: 1 is sign times scale. activation_bits: 8, or 0 to keep activations in float. symmetric: symmetric
    activations too, as target tensorrt requires; weights of 8 bits then use all of them, else -64..64, which every CPU
    adds up without overflow. scales: "learned" step sizes, or "running" ranges. keep_ends: first
    and last layer at 8 bits. calibration_samples: training images for the initial ranges. distill: learn from
    `teachers` (default: the model as the recipe started from it) as in the step of that name."""

    weight_bits: Literal[8, 4, 2, 1] = 8
    activation_bits: Literal[8, 0] = 8
    symmetric: bool = False
    scales: Literal["learned", "running"] = "learned"
    keep_ends: bool = True
    calibration_samples: PositiveInt = 512
    distill: bool = True
    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    weighting: Weighting = "average"
    lr: Positive = 5e-4
    weight_decay: NonNegative = 1e-4

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)
        there = len(context.data.split("train"))
        if self.calibration_samples > there:
            raise RecipeError(
                f"calibration_samples = {self.calibration_samples}: data '{context.data.name}' has {there} training "
                "images"
            )
        if self.teachers and not self.distill:
            raise RecipeError("teachers are named, but distill = false; remove one of them")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """Attach quantizers, train nothing; RecipeError for a model that cannot be quantized, or is already."""
        check_student(self, model, context)
        if model.learned is not None:
            raise RecipeError("the model is quantized already; one qat step is enough")
        if self.weight_bits == 1 and model.sparse:
            raise RecipeError("one-bit weights have no zero, so the sparsity would be lost; set weight_bits = 2")
        if self.distill:
            load_step_teachers(self, context)
        learned = self.learned
        copied = deepcopy(model.module).eval()
        image = example_input(copied, context.preprocessing)
        module = prepare_qat(copied, learned, self.keep_ends, self.scales == "learned", image)
        return replace(model, module=module, learned=learned, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained model; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        prepared = self.dry_run(model, context)
        teachers = load_step_teachers(self, context) if self.distill else ()
        self._calibrate(prepared.module, context)
        ready = move_teachers(teachers, training_device(), context.preprocessing)
        alpha = self.alpha if self.distill else 0.0
        response = ResponseLoss(ready, alpha, self.temperature, self.label_smoothing, self.weighting, context.output)
        module, history = train_student(
            DistillationObjective(prepared.module, response.of_model, teachers), model, self, context
        )
        return replace(prepared, module=module, history=history)

    @property
    def learned(self) -> LearnedQuantization:
        """What the model will have learned."""
        return LearnedQuantization(self.weight_bits, self.activation_bits or None, self.symmetric, self.symmetric)

    def _calibrate(self, module: nn.Module, context: StepContext) -> None:
        """Set initial ranges: the mean over batches of the smallest and the largest value."""
        if not self.activation_bits:
            return
        logger.info(f"calibrating on {self.calibration_samples} images")
        device = next(module.parameters()).device
        part = context.data.split("train")
        layout, seed = find_memory_format(module, context.preprocessing), seed_of(self, context)
        batches = Batches(part, context.preprocessing, device, self.calibration_samples, seed, layout=layout)
        size = min(self.batch_size, self.calibration_samples)
        random = torch.Generator().manual_seed(seed)
        with evaluation_mode(module), torch.no_grad(), observe_ranges(module):
            for images, _ in batches.random_batches(size, (), random):
                module(images)
