"""How a checkpoint's tensors differ from those of a network: not at all, in its first layer, in its head, or too much.

Knows names and shapes; nothing of files, and no network by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

from torch import nn

from toolchain.init.shapes import Shape, Shapes, shapes_of

BUILT_CLASSES = 1000  # of every network that a checkpoint is compared with
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that only train
HEAD_DEPTH = 3  # layers with weights in a head that somebody put in place of the network's own
POSITIONS = "encoder.pos_embedding"  # of torchvision's vision transformers: one row a patch, and one more


@dataclass(frozen=True)
class NewLayer:
    """A layer to put in place of the network's own. code: the Python expression that makes it."""

    name: str
    code: str


@dataclass(frozen=True)
class Fit:
    """A network that a checkpoint fits. classes: the width of its head; channels: of the images that it takes; changes:
    layers that somebody has replaced; image_size: what a vision transformer was built for, None for the usual;
    supposed: what shapes cannot tell, in words."""

    classes: int
    channels: int
    changes: tuple[NewLayer, ...] = ()
    image_size: int | None = None
    supposed: tuple[str, ...] = ()


def fit_network(held: Shapes, skeleton: nn.Module) -> Fit | None:
    """How `held` fits `skeleton`, built for BUILT_CLASSES; None where it does not."""
    wanted = shapes_of(skeleton.state_dict())
    held = {name: shape for name, shape in held.items() if name in wanted or not name.startswith(AUXILIARY)}
    head, stem = _head_name(wanted), _stem_name(wanted)
    if head is None or stem is None:
        return None
    missing, extra = wanted.keys() - held.keys(), held.keys() - wanted.keys()
    other = {name for name in wanted.keys() & held.keys() if wanted[name] != held[name]}
    changes, supposed, image_size = list[NewLayer](), list[str](), None
    if missing or extra:
        if not missing <= {f"{head}.weight", f"{head}.bias"}:
            return None
        layers = _replaced_head(skeleton, head, {name: held[name] for name in extra}, wanted[f"{head}.weight"][1])
        if layers is None:
            return None
        change, classes, guess = layers
        changes.append(change)
        supposed += guess
    else:
        classes = held[f"{head}.weight"][0]
    for name in other:
        if name in (f"{head}.weight", f"{head}.bias") and held[name][1:] == wanted[name][1:]:
            continue
        if name == f"{stem}.weight" and (stem_change := _replaced_stem(skeleton, stem, held[name])):
            changes.insert(0, stem_change[0])
            supposed += stem_change[1]
        elif name == POSITIONS and held[name][2:] == wanted[name][2:]:
            image_size = _image_size(held[name][1], wanted[name][1])
            if image_size is None:
                return None
        else:
            return None
    return Fit(classes, held[f"{stem}.weight"][1], tuple(changes), image_size, tuple(supposed))


def _head_name(wanted: Shapes) -> str | None:
    """The layer with the last weights that are as many as the classes."""
    wide = [name for name, shape in wanted.items() if name.endswith(".weight") and shape[:1] == (BUILT_CLASSES,)]
    return wide[-1].removesuffix(".weight") if wide else None


def _stem_name(wanted: Shapes) -> str | None:
    first = next((name for name, shape in wanted.items() if len(shape) == 4 and name.endswith(".weight")), None)
    return first.removesuffix(".weight") if first else None


def _replaced_stem(skeleton: nn.Module, stem: str, held: Shape) -> tuple[NewLayer, list[str]] | None:
    """The first convolution for images of other channels, or with the smaller kernel that small images get."""
    old = skeleton.get_submodule(stem)
    if not isinstance(old, nn.Conv2d) or held[0] != old.out_channels or old.groups != 1 or held[2] != held[3]:
        return None
    kernel, stride, padding, supposed = held[2], old.stride[0], old.padding[0], list[str]()
    if kernel != old.kernel_size[0]:
        stride, padding = (1 if kernel <= 3 else stride), kernel // 2
        supposed = [f"stride = {stride} and padding = {padding} in {stem}, which its shape does not tell"]
    bias = "" if old.bias is not None else ", bias=False"
    code = f"nn.Conv2d({held[1]}, {held[0]}, {kernel}, stride={stride}, padding={padding}{bias})"
    return NewLayer(stem, code), supposed


def _replaced_head(
    skeleton: nn.Module, head: str, extra: Shapes, features: int
) -> tuple[NewLayer, int, list[str]] | None:
    """The layers of `extra` in place of the head, or of a module round it; how many classes they tell apart."""
    layers = sorted({name.rpartition(".")[0] for name in extra}, key=_place)
    weights = [extra.get(f"{layer}.weight") for layer in layers]
    if not layers or len(layers) > HEAD_DEPTH or any(shape is None or len(shape) != 2 for shape in weights):
        return None
    sizes = [shape for shape in weights if shape is not None]
    if sizes[0][1] != features or any(after[1] != before[0] for before, after in pairwise(sizes)):
        return None
    root = _common_root(skeleton, head, layers)
    return None if root is None else _head_layers(root, layers, sizes, extra)


def _head_layers(
    root: str, layers: Sequence[str], sizes: Sequence[Shape], extra: Shapes
) -> tuple[NewLayer, int, list[str]] | None:
    inner = [layer[len(root) + 1 :] for layer in layers]
    codes = [
        f"nn.Linear({shape[1]}, {shape[0]}{'' if f'{layer}.bias' in extra else ', bias=False'})"
        for layer, shape in zip(layers, sizes, strict=True)
    ]
    if inner == [""]:
        return NewLayer(root, codes[0]), sizes[-1][0], []
    if not all(name.isdigit() for name in inner):
        if len(inner) > 1 or "." in inner[0]:
            return None
        return NewLayer(root, f'nn.Sequential(OrderedDict({{"{inner[0]}": {codes[0]}}}))'), sizes[-1][0], []
    return _sequence(root, [int(name) for name in inner], codes, sizes[-1][0])


def _sequence(root: str, places: Sequence[int], codes: Sequence[str], classes: int) -> tuple[NewLayer, int, list[str]]:
    """Between two layers with weights stands an activation, and what else stands there does nothing when it serves."""
    parts, supposed = ["nn.Identity()"] * (places[-1] + 1), list[str]()
    for place, code in zip(places, codes, strict=True):
        parts[place] = code
    for before, after in pairwise(places):
        if after - before > 1:
            parts[before + 1] = "nn.ReLU()"
            supposed.append(f"a ReLU as layer {before + 1} of {root}, which leaves no trace in a checkpoint")
    return NewLayer(root, f"nn.Sequential({', '.join(parts)})"), classes, supposed


def _common_root(skeleton: nn.Module, head: str, layers: Sequence[str]) -> str | None:
    """The innermost module round the head that all of `layers` lie in, or are."""
    parts = head.split(".")
    for depth in range(len(parts), 0, -1):
        root = ".".join(parts[:depth])
        if all(layer == root or layer.startswith(f"{root}.") for layer in layers):
            others = [name for name in shapes_of(skeleton.get_submodule(root).state_dict()) if name]
            own = [name for name in others if f"{root}.{name}" not in (f"{head}.weight", f"{head}.bias")]
            return None if own else root
    return None


def _place(layer: str) -> tuple[str, int]:
    outer, _, last = layer.rpartition(".")
    return (outer, int(last)) if last.isdigit() else (layer, -1)


def _image_size(held: int, wanted: int) -> int | None:
    """By the number of patches, of a network that is built for 224 pixels; None where they form no square."""
    side, usual = isqrt(held - 1), isqrt(wanted - 1)
    return side * 224 // usual if side * side == held - 1 else None
