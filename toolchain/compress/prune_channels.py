"""Remove whole output channels, least important first (Li et al. 2017), over coupled groups (Fang et al. 2023).

Trains nothing: follow it by finetune. Which channels hang together and how they are cut is groups.py's.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from toolchain.compress.batches import Batches
from toolchain.compress.frozen import matching
from toolchain.compress.groups import Scorer, coupled, cut, graph_of, removals, rounded
from toolchain.compress.head import AUXILIARY, head_of
from toolchain.compress.measured import macs, one_picture, parameters
from toolchain.compress.step import Context, Net
from toolchain.errors import RecipeError
from toolchain.models.modes import evaluating
from toolchain.models.program import Program

Importance = Literal["l1", "l2", "fpgm", "bn_scale", "taylor"]
TAYLOR_BATCH = 64


class PruneChannels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ratio: share of all channels to remove (multiply-accumulates fall faster, near its square).

    importance: a channel's norm (l1, l2), its distance from the others (fpgm, He et al. 2019), its BatchNorm scale
    (bn_scale, Liu et al. 2017), or weight times gradient over `samples` training pictures (taylor, Molchanov et al.
    2019). global_pruning: rank all layers together, else each loses the same share. round_to: widths become the nearest
    multiple, since engines like widths that fill their vectors. ignore: layers to leave alone, by name pattern; the
    classifier always is.
    """

    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.3
    importance: Importance = "l2"
    global_pruning: bool = False
    round_to: Annotated[int, msgspec.Meta(ge=1)] = 16
    iterative_steps: Annotated[int, msgspec.Meta(ge=1)] = 1
    ignore: tuple[str, ...] = ()
    samples: Annotated[int, msgspec.Meta(ge=1)] = 512

    def check(self, context: Context) -> None:
        """RecipeError when the importance needs training pictures and there are none."""
        if self.importance == "taylor" and not len(context.data.parts.get("train", ())):
            raise RecipeError(f"importance taylor needs training pictures, data '{context.data.name}' has none; use l2")

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same cut, with l2 in taylor's place: gradients before training would mean nothing."""
        stand_in = "l2" if self.importance == "taylor" else self.importance
        return msgspec.structs.replace(self, importance=stand_in)._pruned(net, context)

    def apply(self, net: Net, context: Context) -> Net:
        """The pruned net; RecipeError when a layer would be emptied, when nothing would be removed, or when the net is
        quantized already."""
        self.check(context)
        after = self._pruned(net, context)
        before = parameters(net.module), macs(net.module, context.preprocessing)
        left = parameters(after.module), macs(after.module, context.preprocessing)
        context.say(
            f"parameters {before[0]:,} -> {left[0]:,}, multiply-accumulates {before[1]:,} -> {left[1]:,} "
            f"({before[1] / left[1]:.2f} times fewer)"
        )
        return after

    def _pruned(self, net: Net, context: Context) -> Net:
        if net.quantization is not None:
            raise RecipeError("pruning after quantize would undo it; move quantize to the end")
        if isinstance(net.module, torch.fx.GraphModule | Program):
            raise RecipeError("an exported program cannot be pruned; give the model as path/file.py:function")
        module = _without_auxiliary(deepcopy(net.module)).requires_grad_(True)  # it is traced by its gradients
        kept = self._kept(module, context)
        initial: dict[str, int] = {}
        with evaluating(module):
            for step in range(1, self.iterative_steps + 1):
                self._cut(module, kept, self.ratio * step / self.iterative_steps, initial, context)
        module.zero_grad(set_to_none=True)
        if parameters(module) == parameters(net.module):
            raise RecipeError(self._nothing(initial))
        return replace(net, module=module, history=())

    def _cut(
        self, module: nn.Module, kept: list[nn.Module], ratio: float, initial: dict[str, int], context: Context
    ) -> None:
        """One round: the graph drawn, channels scored, `ratio` of the initial widths removed; `initial` is filled by
        the first round."""
        scorer = _scorer(self.importance)
        if self.importance == "taylor":
            _gradients(module, context, self.samples)
        graph = graph_of(module, one_picture(module, context.preprocessing))
        groups = coupled(graph, module, kept, scorer)
        if not groups:
            raise RecipeError(
                f"no layer to prune by importance {self.importance}, besides the classifier and ignored ones"
            )
        for group in groups:
            initial.setdefault(group.name, group.width)
        counts = removals(groups, initial, ratio, self.global_pruning)
        keeps = [rounded(group, count, self.round_to) for group, count in zip(groups, counts, strict=True)]
        for group, keep in zip(groups, keeps, strict=True):
            cut(graph, group, keep)

    def _kept(self, module: nn.Module, context: Context) -> list[nn.Module]:
        layers = dict(module.named_modules())
        names = [name for name in layers if name]
        ignored = [layers[name] for pattern in self.ignore for name in matching(pattern, names, "ignore")]
        return [head_of(module, context.preprocessing).layer, *ignored]

    def _nothing(self, initial: dict[str, int]) -> str:
        name, width = max(initial.items(), key=lambda item: item[1])
        return (
            f"ratio = {self.ratio:g} with round_to = {self.round_to} removes nothing: the widest layer, {name}, has "
            f"{width} channels and rounds back to {width}; raise ratio or lower round_to"
        )


def _scorer(importance: Importance) -> Scorer:
    scorers: dict[str, Scorer] = {
        "l1": tp.importance.GroupMagnitudeImportance(p=1),
        "l2": tp.importance.GroupMagnitudeImportance(p=2),
        "fpgm": tp.importance.FPGMImportance(),
        "bn_scale": tp.importance.BNScaleImportance(),
        "taylor": tp.importance.GroupTaylorImportance(),
    }
    return scorers[importance]


def _gradients(module: nn.Module, context: Context, samples: int) -> None:
    """Sum the loss's gradients over the first `samples` of the training pictures, shuffled by the build's seed."""
    batches = Batches(context.data.part("train"), context.preprocessing, torch.device("cpu"))
    random = torch.Generator().manual_seed(context.seed)
    module.zero_grad(set_to_none=True)
    for number, (images, labels) in enumerate(batches.shuffled(TAYLOR_BATCH, (), random)):
        if number * TAYLOR_BATCH >= samples:
            break
        functional.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _without_auxiliary(module: nn.Module) -> nn.Module:
    """Auxiliary classifiers only train: pruning drops them, since they do not run where the layers are traced."""
    for name in {one.partition(".")[0] for one in AUXILIARY}:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, None)
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010  # torch types every attribute as a Tensor or Module
    return module
