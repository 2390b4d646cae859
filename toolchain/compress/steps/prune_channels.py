"""Removes whole output channels, least important first (Li et al. 2017), in groups of coupled channels (Fang et al.
2023).

The amount is a share of all channels, or whatever makes the model a given factor cheaper, counted in MACs or measured
on the target's engine. Neurons of Linear layers count as channels too. Coupling is found by pruning/groups.py,
importance by pruning/importance.py, the ratio for a target by pruning/ratio_search.py.
"""

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from torch import nn

from toolchain.compress.metrics import example_input, macs, parameter_count
from toolchain.compress.options import Positive, PositiveInt
from toolchain.compress.pruning.cut import PruningGraph, drop_auxiliary_heads, trace_groups
from toolchain.compress.pruning.groups import Unprunable
from toolchain.compress.pruning.importance import Importance, accumulate_gradients, scorer
from toolchain.compress.pruning.prunable import check_prunable
from toolchain.compress.pruning.ratio_search import (
    CostFunction,
    RatioProbe,
    bisect_ratio,
    cache_probes,
    make_probe,
    smallest_sufficient,
)
from toolchain.compress.pruning.trial_cuts import split_workable
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.training.freezing import match_names
from toolchain.compress.training.head import find_head
from toolchain.errors import RecipeError
from toolchain.models.check import class_count
from toolchain.models.eval_mode import evaluation_mode

logger = logging.getLogger(__name__)


DEFAULT_RATIO = 0.3  # where no target is named
TRIAL_RATIO = 0.5
MACS_HALVINGS, LATENCY_HALVINGS = 10, 6  # ratios to within 0.001, or 0.016 where each cut is built and timed
Factor = Annotated[float, msgspec.Meta(gt=1)]


class PruneChannels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Set one target. ratio: share of all channels to remove, 0.3 by default (multiply-accumulates fall faster, roughly
    with its square). macs_times_fewer, latency_times_faster: the smallest ratio found by bisection that makes the model
    cheaper by this factor than before the step; latency is measured at batch 1 in fp32 on the target's engine.

    importance: a channel's norm (l1, l2), its distance from the others (fpgm, He et al. 2019), its BatchNorm scale
    (bn_scale, Liu et al. 2017), or weight times gradient over `samples` training images (taylor, Molchanov et al.
    2019). global_pruning: rank all layers together; otherwise each loses the same share. round_to: widths become the
    nearest multiple, since engines prefer widths that fill their vectors (16 floats for AVX-512, 8 for AVX2). residual:
    false keeps the channels that residual blocks add up, whose removal costs most accuracy. ignore: layers to keep, by
    name pattern; the classifier is always kept. unprunable: what to do about layers that cannot be pruned (heads of
    attention, shuffled channels): leave them whole and say which, or refuse.

    iterative_steps: prune in this many cuts; finetune_epochs after each of them, with lr, batch_size and augment.
    """

    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    importance: Importance = "l2"
    global_pruning: bool = False
    round_to: PositiveInt = 16
    iterative_steps: PositiveInt = 1
    ignore: tuple[str, ...] = ()
    samples: PositiveInt = 512
    macs_times_fewer: Factor | None = None
    latency_times_faster: Factor | None = None
    residual: bool = True
    unprunable: Literal["keep", "refuse"] = "keep"
    finetune_epochs: Annotated[int, msgspec.Meta(ge=0)] = 0
    lr: Positive = 0.01
    batch_size: PositiveInt = 128
    augment: tuple[Literal["flip", "crop"], ...] = ("flip", "crop")

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for several targets, a ratio outside (0, 1), a latency target without an engine, and
        missing training images where they are needed."""
        targets = ("ratio", "macs_times_fewer", "latency_times_faster")
        named = [name for name in targets if getattr(self, name) is not None]
        if len(named) > 1:
            raise RecipeError(f"{' and '.join(named)}: expected one target; remove all but one")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise RecipeError(f"ratio = {self.ratio:g}: expected more than 0 and less than 1")
        if self.latency_times_faster and context.latencies_ms is None:
            raise RecipeError("latency_times_faster: no engine to measure on; use macs_times_fewer")
        if self.importance == "taylor" and not len(context.data.splits.get("train", ())):
            raise RecipeError(f"importance taylor needs training images, data '{context.data.name}' has none; use l2")
        if self.finetune_epochs:
            self._finetune_step.check(context)

    @property
    def _finetune_step(self) -> Finetune:
        return Finetune(epochs=self.finetune_epochs, lr=self.lr, batch_size=self.batch_size, augment=self.augment)

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same cuts, untrained and unmeasured. l2 replaces taylor, since gradients before training mean nothing;
        MACs replace latency, and the largest cut is taken where they do not fall as far."""
        self._check_classes(model.module, context)
        stand_in = "l2" if self.importance == "taylor" else self.importance
        return msgspec.structs.replace(self, importance=stand_in, finetune_epochs=0)._prune(
            model, context, is_dry_run=True
        )

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The pruned model; history: the probes of a target, then the epochs of each cut. Resumes from context.folder.
        RecipeError when a layer would be emptied, when nothing would be removed, when no ratio reaches the target, or
        when the model is quantized already."""
        self.check(context)
        self._check_classes(model.module, context)
        after = self._prune(model, context, is_dry_run=False)
        before = parameter_count(model.module), macs(model.module, context.preprocessing)
        left = parameter_count(after.module), macs(after.module, context.preprocessing)
        logger.info(
            f"parameters {before[0]:,} -> {left[0]:,}, multiply-accumulates {before[1]:,} -> {left[1]:,} "
            f"({before[1] / left[1]:.2f} times fewer)"
        )
        return after

    def _check_classes(self, module: nn.Module, context: StepContext) -> None:
        if self.importance != "taylor" and not self.finetune_epochs:
            return
        why = "finetune_epochs" if self.finetune_epochs else "importance taylor"
        count, expected = class_count(module, context.preprocessing), len(context.data.classes)
        if count != expected:
            raise RecipeError(
                f"{why}: the model has {count} classes, data '{context.data.name}' has {expected}; put a step "
                "finetune = { replace_head = true } before this one"
            )

    def _prune(self, model: CompressedModel, context: StepContext, is_dry_run: bool) -> CompressedModel:
        check_prunable(model)
        module = drop_auxiliary_heads(deepcopy(model.module)).requires_grad_(True)  # traced through gradients
        graph = self._build_graph(module, {}, context)
        initial, cost = graph.initial_widths, self._cost_function(graph.module, context, is_dry_run)
        ratio, probes = self._find_ratio(graph, cost, context, is_dry_run)
        history = [probe.entry() for probe in probes]
        for number in range(1, self.iterative_steps + 1):
            if number > 1:
                graph = self._build_graph(module, initial, context)
            if number == self.iterative_steps > 1 and self.macs_times_fewer:
                ratio, _ = self._find_ratio(graph, cost, context, is_dry_run)  # training changes the scores
            module = graph.prune_to(graph.widths_at(ratio * number / self.iterative_steps))
            if self.finetune_epochs and parameter_count(module) < parameter_count(graph.module):
                module, epochs = self._finetune_cut(replace(model, module=module), number, context)
                history += epochs
        if parameter_count(module) == parameter_count(model.module):
            raise RecipeError(_nothing_removed(ratio, self.round_to, initial))
        there = dict(module.named_parameters())
        sparse = tuple(name for name in model.sparse if name in there)
        return replace(model, module=module, history=tuple(history), sparse=sparse)

    def _build_graph(self, module: nn.Module, initial: Mapping[str, int], context: StepContext) -> PruningGraph:
        if self.importance == "taylor":
            with evaluation_mode(module):
                accumulate_gradients(module, context, self.samples)
        image = example_input(module, context.preprocessing)
        traced = trace_groups(
            module, image, self._protected_layers(module, context), scorer(self.importance), self.residual
        )
        groups = [group for group in traced.groups if not initial or group.name in initial]  # as in the first cut
        module.zero_grad(set_to_none=True)
        if not initial and not traced.is_plain:
            groups, failed = split_workable(module, image, groups, self._trial_ratio, self.round_to)
            self._report_unprunable({**traced.failed, **failed})
        if not groups:
            besides = (
                "the classifier and ignored ones" if self.residual else "the classifier, ignored and residual ones"
            )
            raise RecipeError(f"no layer can be pruned by importance {self.importance}, besides {besides}")
        widths = initial or {group.name: group.width for group in groups}
        return PruningGraph(module, groups, widths, image, self.global_pruning, self.round_to)

    @property
    def _trial_ratio(self) -> float:
        """Where a target decides the ratio: one in the middle of those that may be tried."""
        has_target = self.macs_times_fewer or self.latency_times_faster
        return TRIAL_RATIO if has_target else self.ratio or DEFAULT_RATIO

    def _report_unprunable(self, failed: Unprunable) -> None:
        if not failed:
            return
        names, reason = ", ".join(failed), next(iter(failed.values()))
        if self.unprunable == "refuse":
            raise RecipeError(
                f'cannot be pruned: {names} ({reason}); leave them whole: unprunable = "keep", or name them in ignore'
            )
        logger.info(f"  left whole, since they cannot be pruned: {names} ({reason})")

    def _finetune_cut(
        self, model: CompressedModel, number: int, context: StepContext
    ) -> tuple[nn.Module, list[dict[str, float]]]:
        logger.info(f"cut {number} of {self.iterative_steps}: fine-tuning")
        after = self._finetune_step.apply(model, replace(context, folder=context.folder / f"cut-{number}"))
        return after.module, [{"cut": float(number), **epoch} for epoch in after.history]

    def _cost_function(self, module: nn.Module, context: StepContext, is_dry_run: bool) -> CostFunction:
        """The target's cost of a cut model, relative to `module`."""
        if not self.latency_times_faster or is_dry_run or context.latencies_ms is None:
            before = macs(module, context.preprocessing)
            return lambda cut: (before / macs(cut, context.preprocessing), 0.0)
        latencies_ms = context.latencies_ms

        def faster(cut: nn.Module) -> tuple[float, float]:
            before_ms, after_ms = latencies_ms((module, cut))
            logger.info(f"  {after_ms:#.3g} ms against {before_ms:#.3g} ms, {before_ms / after_ms:.2f} times faster")
            return before_ms / after_ms, after_ms

        return faster

    def _find_ratio(
        self, graph: PruningGraph, cost: CostFunction, context: StepContext, is_dry_run: bool
    ) -> tuple[float, tuple[RatioProbe, ...]]:
        """The ratio to cut by, and the probes of the search for it."""
        times = self.macs_times_fewer or self.latency_times_faster
        if times is None:
            return self.ratio or DEFAULT_RATIO, ()
        tried = make_probe(graph, cost, context)
        if self.latency_times_faster and not is_dry_run:
            tried = cache_probes(tried, context.folder, [self, weights_digest(graph.module), context.preprocessing])
        probes = bisect_ratio(tried, times, LATENCY_HALVINGS if self.latency_times_faster else MACS_HALVINGS)
        sufficient = smallest_sufficient(probes, times)
        if sufficient is None and self.latency_times_faster and is_dry_run and probes:
            sufficient = max(probes, key=lambda probe: probe.ratio)
        if sufficient is None:
            raise RecipeError(self._unreachable(probes))
        return sufficient.ratio, probes

    def _unreachable(self, probes: tuple[RatioProbe, ...]) -> str:
        target = "macs_times_fewer" if self.macs_times_fewer else "latency_times_faster"
        best = max(probes, key=lambda probe: probe.times, default=None)
        if best is None:
            return f"{target}: every ratio would empty a layer; set global_pruning = false"
        took = f", {best.latency_ms:#.3g} ms," if best.latency_ms else ""
        return (
            f"{target} = {getattr(self, target):g}: no ratio reaches it; the best found is {best.times:.2f} times{took}"
            f" at ratio = {best.ratio:.3f}; lower the target, or lower round_to = {self.round_to}"
        )

    def _protected_layers(self, module: nn.Module, context: StepContext) -> list[nn.Module]:
        layers = dict(module.named_modules())
        names = [name for name in layers if name]
        ignored = [layers[name] for pattern in self.ignore for name in match_names(pattern, names, "ignore")]
        return [find_head(module, context.preprocessing).layer, *ignored]


def _nothing_removed(ratio: float, round_to: int, initial: Mapping[str, int]) -> str:
    name, width = max(initial.items(), key=lambda item: item[1])
    return (
        f"ratio = {ratio:g} with round_to = {round_to} removes nothing: the widest layer, {name}, has "
        f"{width} channels and rounds back to {width}; raise ratio or lower round_to"
    )
