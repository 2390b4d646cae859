"""Records how a compressed model differs from the one that its source builds, and rebuilds it from that record.

Handles resized layers, blocks replaced by nn.Identity, removed modules, and bare parameters of other shapes. Layers of
quantization-aware training are known to compress/ and rebuilt by a function passed in. Runs no code from a file: it
uses only names, sizes and tensors.
"""

import math
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from toolchain.errors import ModelError
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import LayerSizes, QatSettings, Structure

# Integer attributes that pruning changes. transform_input: set by Inception's official weights, by no option.
SIZE_ATTRIBUTES = (
    *("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_channels"),
    *("num_groups", "num_parameters", "normalized_shape", "transform_input"),
)
StructureState = Mapping[str, Tensor]
QatRebuilder = Callable[[nn.Module, QatSettings, Preprocessing], nn.Module]


def structure_difference(fresh: nn.Module, model: nn.Module) -> Structure:
    """The changes that make `fresh`, as the source builds it, accept the weights of `model`, which has no layers of
    quantization-aware training. ModelError for a module that cannot be recorded."""
    before, after = dict(fresh.named_modules()), dict(model.named_modules())
    gone = _topmost([name for name in before if name not in after])
    passed = [name for name, layer in after.items() if isinstance(layer, nn.Identity) and _was_layer(before, name)]
    absent = [name for name in gone if not any(_is_inside(name, block) for block in passed)]
    layers: dict[str, LayerSizes] = {}
    for name, layer in after.items():
        if name in passed:
            continue
        if name not in before or type(layer) is not type(before[name]):
            raise ModelError(
                f"layer '{name}' became a {type(layer).__name__}, which a weights file cannot represent;  "
                "write an earlier step: --step=N"
            )
        if changed := _changed_sizes(before[name], layer):
            layers[name] = changed
    shapes = fresh.state_dict()
    tensors = {
        name: tuple(tensor.shape)
        for name, tensor in state_tensors(model).items()
        if name in shapes and shapes[name].shape != tensor.shape
    }
    return Structure(layers, tensors, tuple(passed), tuple(absent))


class PassThrough(nn.Identity):
    """Replaces a removed block: returns its first input and ignores any other arguments."""

    def forward(self, input: Tensor, *_: object, **__: object) -> Tensor:
        return input


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict without entries that are not tensors."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def apply_structure(module: nn.Module, structure: Structure, state: StructureState, place: str) -> nn.Module:
    """Change `module` in place as `structure` records, except for quantization-aware layers, so that it accepts the
    tensors of `state`. ModelError naming `place` when a name is missing from the module, or sizes and tensors disagree.
    """
    modules, tensors = dict(module.named_modules()), state_tensors(module)
    for name in (*structure.layers, *structure.identity, *structure.absent):
        if name not in modules:
            raise ModelError(f"{place}: written for a model with '{name}', which this model lacks; check model.source")
    for name in structure.tensors:
        if name not in tensors:
            raise ModelError(f"{place}: written for a model with '{name}', which this model lacks; check model.source")
    for name, sizes in structure.layers.items():
        _resize(modules[name], sizes, f"{place}: layer '{name}'")
    for name, shape in structure.tensors.items():
        _set_tensor(module, name, _tensor_of_shape(tensors[name], shape, state.get(name), f"{place}: tensor '{name}'"))
    for name in structure.layers:
        _check_sizes(modules[name], f"{place}: layer '{name}'")
    for name in structure.identity:
        _replace(module, name, PassThrough())
    for name in structure.absent:
        _replace(module, name, None)
    return module


def _was_layer(before: Mapping[str, nn.Module], name: str) -> bool:
    return name in before and not isinstance(before[name], nn.Identity)


def _is_inside(name: str, other: str) -> bool:
    return name.startswith(f"{other}.")


def _topmost(names: list[str]) -> list[str]:
    return [name for name in names if not any(_is_inside(name, other) for other in names)]


def _sizes(layer: nn.Module) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    for name in SIZE_ATTRIBUTES:
        value = getattr(layer, name, None)
        if isinstance(value, int):
            yield name, int(value)
        elif isinstance(value, tuple) and all(isinstance(size, int) for size in value):
            yield name, tuple(int(size) for size in value)


def _changed_sizes(before: nn.Module, after: nn.Module) -> LayerSizes:
    old = dict(_sizes(before))
    return {name: value for name, value in _sizes(after) if old.get(name) != value}


def _replace(module: nn.Module, name: str, other: nn.Module | None) -> None:
    parent, _, last = name.rpartition(".")
    owner = module.get_submodule(parent)
    if other is None and isinstance(owner, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        delattr(owner, last)  # these call their children: None cannot be called
    else:
        setattr(owner, last, other)


def _resize(layer: nn.Module, sizes: LayerSizes, place: str) -> None:
    known = dict(_sizes(layer))
    for name, size in sizes.items():
        old = known.get(name)
        if old is None or isinstance(old, int) is not isinstance(size, int):
            raise ModelError(f"{place}: a {type(layer).__name__} has no {name}; check model.source")
        setattr(layer, name, bool(size) if isinstance(getattr(layer, name), bool) else size)


def _tensor_of_shape(old: Tensor, shape: tuple[int, ...], tensor: Tensor | None, place: str) -> Tensor:
    """A tensor of `shape`: the file's own, or the start of `old` when the file has none (a normalization that
    quantization-aware training folds away). Never allocates more than the larger of the two."""
    if tensor is not None and tuple(tensor.shape) == shape:
        return tensor.to(old.dtype, copy=True)
    if tensor is not None or math.prod(shape) > old.numel():
        held = list(old.shape if tensor is None else tensor.shape)
        raise ModelError(f"{place}: recorded as {list(shape)}, found {held}; the file is damaged: write it again")
    return old.detach().flatten()[: math.prod(shape)].reshape(shape).clone()


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, last = name.rpartition(".")
    owner = module.get_submodule(parent)
    if isinstance(getattr(owner, last), nn.Parameter):
        setattr(owner, last, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
    else:
        setattr(owner, last, tensor)


def _check_sizes(layer: nn.Module, place: str) -> None:
    """Raise ModelError when a layer's recorded sizes do not match its tensors."""
    wanted: tuple[int, ...] = ()
    match layer:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            wanted = (layer.out_channels, layer.in_channels // max(1, layer.groups))
        case nn.Linear():
            wanted = (layer.out_features, layer.in_features)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            wanted = (layer.num_features,)
        case nn.GroupNorm():
            wanted = (layer.num_channels,)
        case nn.LayerNorm():
            wanted = tuple(layer.normalized_shape)
        case nn.PReLU():
            wanted = (layer.num_parameters,)
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and tuple(weight.shape[: len(wanted)]) != wanted:
        raise ModelError(
            f"{place}: sizes {list(wanted)}, but its tensor is {list(weight.shape)}; "
            "the file is damaged: write it again"
        )
