"""How a compressed net differs from the one that its source builds, written down; and that net built again.

Knows narrowed layers, blocks that became nn.Identity, modules that are gone, and bare parameters of other shapes. What
quantization-aware training puts in a layer's place is known to compress/ and handed in. Runs no code from a file:
names, sizes and tensors are all that it takes.
"""

import math
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from toolchain.errors import ModelError
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import LayerSizes, QatSettings, Structure

# Whole numbers that pruning changes in a layer. transform_input: Inception's official weights bring it, no option does.
SIZE_ATTRIBUTES = (
    *("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_channels"),
    *("num_groups", "num_parameters", "normalized_shape", "transform_input"),
)
State = Mapping[str, Tensor]
QatRebuilder = Callable[[nn.Module, QatSettings, Preprocessing], nn.Module]


def structure_difference(fresh: nn.Module, net: nn.Module) -> Structure:
    """What to do to `fresh`, as the source builds it, so that it takes `net`'s weights; `net` has no layers of
    quantization-aware training. ModelError for a module that cannot be written down."""
    before, after = dict(fresh.named_modules()), dict(net.named_modules())
    gone = _topmost([name for name in before if name not in after])
    passed = [name for name, layer in after.items() if isinstance(layer, nn.Identity) and _was_layer(before, name)]
    absent = [name for name in gone if not any(_is_inside(name, one) for one in passed)]
    layers: dict[str, LayerSizes] = {}
    for name, layer in after.items():
        if name in passed:
            continue
        if name not in before or type(layer) is not type(before[name]):
            raise ModelError(
                f"layer '{name}' became a {type(layer).__name__}, which a weights file has no words for; "
                "write an earlier step: --step=N"
            )
        if changed := _changed_sizes(before[name], layer):
            layers[name] = changed
    shapes = fresh.state_dict()
    tensors = {
        name: tuple(tensor.shape)
        for name, tensor in state_tensors(net).items()
        if name in shapes and shapes[name].shape != tensor.shape
    }
    return Structure(layers, tensors, tuple(passed), tuple(absent))


class PassThrough(nn.Identity):
    """In the place of a block that was taken out: its input goes on, whatever else the block was given."""

    def forward(self, input: Tensor, *_: object, **__: object) -> Tensor:
        return input


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's state without what is no tensor."""
    return {name: one for name, one in module.state_dict().items() if isinstance(one, Tensor)}


def apply_structure(module: nn.Module, structure: Structure, state: State, place: str) -> nn.Module:
    """`module` changed in place as `structure` says, but for quantization-aware training, to take the tensors of
    `state`; ModelError naming `place` when a name is not in the module, or sizes and tensors disagree."""
    modules, there = dict(module.named_modules()), state_tensors(module)
    for name in (*structure.layers, *structure.identity, *structure.absent):
        if name not in modules:
            raise ModelError(f"{place}: written for a net with '{name}', which this one has not; check model.source")
    for name in structure.tensors:
        if name not in there:
            raise ModelError(f"{place}: written for a net with '{name}', which this one has not; check model.source")
    for name, sizes in structure.layers.items():
        _resize(modules[name], sizes, f"{place}: layer '{name}'")
    for name, shape in structure.tensors.items():
        _set_tensor(module, name, _tensor_of_shape(there[name], shape, state.get(name), f"{place}: tensor '{name}'"))
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
        elif isinstance(value, tuple) and all(isinstance(one, int) for one in value):
            yield name, tuple(int(one) for one in value)


def _changed_sizes(before: nn.Module, after: nn.Module) -> LayerSizes:
    old = dict(_sizes(before))
    return {name: value for name, value in _sizes(after) if old.get(name) != value}


def _replace(module: nn.Module, name: str, other: nn.Module | None) -> None:
    parent, _, last = name.rpartition(".")
    owner = module.get_submodule(parent)
    if other is None and isinstance(owner, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        delattr(owner, last)  # these run what they hold: None cannot be run
    else:
        setattr(owner, last, other)


def _resize(layer: nn.Module, sizes: LayerSizes, place: str) -> None:
    known = dict(_sizes(layer))
    for name, size in sizes.items():
        old = known.get(name)
        if old is None or isinstance(old, int) is not isinstance(size, int):
            raise ModelError(f"{place}: a {type(layer).__name__} has no such {name}; check model.source")
        setattr(layer, name, bool(size) if isinstance(getattr(layer, name), bool) else size)


def _tensor_of_shape(old: Tensor, shape: tuple[int, ...], found: Tensor | None, place: str) -> Tensor:
    """A tensor of `shape`: the file's own, or where the file has none (a normalization that quantization-aware training
    folds away) as much of `old`. Nothing is made that is larger than one of them."""
    if found is not None and tuple(found.shape) == shape:
        return found.to(old.dtype, copy=True)
    if found is not None or math.prod(shape) > old.numel():
        held = list(old.shape if found is None else found.shape)
        raise ModelError(f"{place}: written as {list(shape)}, found {held}; damaged: write the file again")
    return old.detach().flatten()[: math.prod(shape)].reshape(shape).clone()


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, last = name.rpartition(".")
    owner = module.get_submodule(parent)
    if isinstance(getattr(owner, last), nn.Parameter):
        setattr(owner, last, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
    else:
        setattr(owner, last, tensor)


def _check_sizes(layer: nn.Module, place: str) -> None:
    """ModelError when the sizes written for a layer are not those of its tensors."""
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
            f"{place}: sizes {list(wanted)}, but its tensor is {list(weight.shape)}; damaged: write the file again"
        )
